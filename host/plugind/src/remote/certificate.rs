//! The authorities of a server's certificate, and the remedy for a certificate that is not accepted.

use crate::{
    config::{Diagnostic, Origin, settings::CredentialFile},
    systemd::credential_file,
};
use std::{borrow::Cow, path::Path};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// The beginning of errors about the certificate of the other side, in the words of rustls.
const INVALID: &str = "invalid peer certificate: ";

/// Reads the file of authorities that the setting `label` names. Blocks.
///
/// # Errors
/// When it cannot be read, or has no certificate.
pub(super) fn read_authorities(
    label: &str,
    file: &CredentialFile,
    origin: &Origin,
    credentials: Option<&Path>,
) -> Result<Vec<u8>, Diagnostic> {
    let pem = credential_file::read(label, file, origin, credentials)?;
    let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    if all.is_ok_and(|all| !all.is_empty()) {
        return Ok(pem);
    }
    let path = credential_file::path(label, file, origin, credentials)?;
    let message = format!("{label}: {} must have certificates in PEM format", path.display());
    Err(credential_file::mistake(origin, message))
}

/// Returns an error with its remedy, if it is one about the certificate of a server. Client libraries report errors as
/// text. The same mistake always has the same words, so that it counts as one: rustls adds the time to some of them.
pub(super) fn explain(error: &str) -> Option<(Cow<'_, str>, &'static str)> {
    let (before, cause) = error.split_once(INVALID)?;
    let constant = |cause| Cow::Owned(format!("{before}{INVALID}{cause}"));
    Some(match cause {
        cause if cause.starts_with("certificate expired") || cause.starts_with("Expired") => {
            (constant("certificate expired"), "renew the server's certificate")
        }
        cause
            if cause.starts_with("certificate not valid yet")
                || cause.starts_with("NotValidYet") =>
        {
            let remedy = "correct the clock of this machine or the server's certificate";
            (constant("certificate not valid yet"), remedy)
        }
        cause => (Cow::Borrowed(error), remedy(cause)),
    })
}

fn remedy(cause: &str) -> &'static str {
    match cause {
        cause if cause.starts_with("UnknownIssuer") || cause.starts_with("BadSignature") => {
            "ca in plugind.toml must have the authority that signed the server's certificate"
        }
        cause if cause.contains("not valid for") || cause.starts_with("NotValidForName") => {
            "url in plugind.toml must have a name or an address of the server's certificate"
        }
        _ => "correct the server's certificate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio_rustls::rustls::{
        self, CertificateError,
        pki_types::{ServerName, UnixTime},
    };

    #[test]
    fn each_mistake_of_a_certificate_has_a_remedy() {
        let name = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("localhost").unwrap(),
            presented: presented.iter().map(|&name| name.to_owned()).collect(),
        };
        let now = UnixTime::now();
        let expired = CertificateError::ExpiredContext { time: now, not_after: now };
        let early = CertificateError::NotValidYetContext { time: now, not_before: now };
        for (error, remedy_part) in [
            (CertificateError::UnknownIssuer, "ca in plugind.toml"),
            (CertificateError::BadSignature, "ca in plugind.toml"),
            (name(&[]), "url in plugind.toml"),
            (name(&["a", "b"]), "url in plugind.toml"),
            (CertificateError::NotValidForName, "url in plugind.toml"),
            (expired, "renew"),
            (CertificateError::Expired, "renew"),
            (early, "clock of this machine"),
            (CertificateError::NotValidYet, "clock of this machine"),
            (CertificateError::BadEncoding, "correct"),
        ] {
            let error = format!("TLS: {}", rustls::Error::InvalidCertificate(error));
            let remedy = explain(&error).map(|(_, remedy)| remedy);
            assert!(remedy.is_some_and(|it| it.contains(remedy_part)), "{error}: {remedy:?}");
        }
        assert_eq!(explain("connection refused"), None);
    }

    #[test]
    fn a_certificate_out_of_its_time_has_the_same_words_at_each_attempt() {
        let texts = [1_900_000_000, 1_900_000_005].map(|seconds| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let [end, begin] = [1, 2_000_000_000]
                .map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
            let expired = CertificateError::ExpiredContext { time, not_after: end };
            let early = CertificateError::NotValidYetContext { time, not_before: begin };
            [expired, early].map(|error| {
                let error = format!("TLS: {}", rustls::Error::InvalidCertificate(error));
                explain(&error).unwrap().0.into_owned()
            })
        });
        assert_eq!(texts[0], texts[1]);
        let [expired, early] = &texts[0];
        assert_eq!(expired, "TLS: invalid peer certificate: certificate expired");
        assert_eq!(early, "TLS: invalid peer certificate: certificate not valid yet");
    }
}
