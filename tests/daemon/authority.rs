//! Authorities of a test, and the certificates that they sign.

use plugind_tests::{run, tool};
use std::{fs, path::Path};

/// Writes the certificate and the key of an authority to NAME.crt and NAME.key.
pub(crate) fn found_authority(directory: &Path, name: &str) {
    make(directory, name, &["-addext", "basicConstraints=critical,CA:true"]);
}

/// Writes a certificate for these names, which an authority has signed, and its key to NAME.crt and NAME.key.
pub(crate) fn certify(directory: &Path, authority: &str, name: &str, names: &str) {
    let file = |suffix: &str| directory.join(format!("{authority}.{suffix}")).display().to_string();
    let names = format!("subjectAltName={names}");
    make(
        directory,
        name,
        &[
            "-CA",
            &file("crt"),
            "-CAkey",
            &file("key"),
            "-addext",
            &names,
            "-addext",
            "basicConstraints=critical,CA:false",
        ],
    );
}

fn make(directory: &Path, name: &str, more: &[&str]) {
    let file = |suffix: &str| directory.join(format!("{name}.{suffix}")).display().to_string();
    let (key, certificate, subject) = (file("key"), file("crt"), format!("/CN={name}"));
    let (new_key, new_certificate) = (format!("{key}.new"), format!("{certificate}.new"));
    let said = run(tool("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-nodes", "-days", "2", "-subj", &subject])
        .args(["-keyout", &new_key, "-out", &new_certificate])
        .args(more));
    assert!(Path::new(&new_certificate).exists(), "{said}");
    fs::rename(new_key, key).unwrap();
    fs::rename(new_certificate, certificate).unwrap();
}
