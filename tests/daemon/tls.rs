//! HTTPS with certificates from credentials.

use plugind_tests::{Daemon, Signal, Tree, end_of, run, tool};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

/// A daemon's directory with certificates in it.
struct Site {
    tree: Tree,
    credentials: PathBuf,
}

const ONE: &str = "[[sockets.https.tls]]\ncertificate = \"one.crt\"\nkey = \"one.key\"\n";
const TWO: &str = "[[sockets.https.tls]]\ncertificate = \"two.crt\"\nkey = \"two.key\"\n";

impl Site {
    /// One with a certificate for each of these names.
    fn new(settings: &str, names: &[&str]) -> Self {
        let tree = Tree::new().with("headers").with("sleeps");
        let credentials = tree.root().join("run/credentials/plugind.service");
        fs::create_dir_all(&credentials).unwrap();
        let site = Self { tree, credentials };
        names.iter().for_each(|name| site.certify(name));
        site.configure(settings);
        site
    }

    fn configure(&self, settings: &str) {
        let settings = format!("[sockets.https]\nprotocol = \"http\"\n{settings}");
        fs::write(self.tree.root().join("etc/plugind/plugind.toml"), settings).unwrap();
    }

    fn path(&self, file: &str) -> String {
        self.credentials.join(file).to_str().unwrap().to_owned()
    }

    /// Writes NAME.crt for NAME.example, and NAME.key.
    fn certify(&self, name: &str) {
        let (key, certificate) = (self.path("new.key"), self.path("new.crt"));
        let (subject, names) =
            (format!("/O=Test, Ltd/CN={name}"), format!("subjectAltName=DNS:{name}.example"));
        let said = run(tool("openssl").args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-addext",
            &names,
            "-addext",
            "basicConstraints=critical,CA:false",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]));
        assert!(Path::new(&certificate).exists(), "{said}");
        fs::rename(key, self.path(&format!("{name}.key"))).unwrap();
        fs::rename(certificate, self.path(&format!("{name}.crt"))).unwrap();
    }

    fn start(&self) -> (Daemon, SocketAddr) {
        let daemon = Daemon::start_with(&self.tree, &["--listen", "https=127.0.0.1:0"]);
        let line = daemon.log.wait_for(&["listening ", "socket=https"]);
        let (_, address) = line.split_once("address=").unwrap();
        (daemon, address.parse().unwrap())
    }
}

/// Asks for a path of NAME.example with the certificate of NAME as the only authority.
fn curl(site: &Site, address: SocketAddr, name: &str, path: &str, more: &[&str]) -> String {
    let (port, host) = (address.port(), format!("{name}.example"));
    let resolve = format!("{host}:{port}:127.0.0.1");
    let authority = site.path(&format!("{name}.crt"));
    let url = format!("https://{host}:{port}{path}");
    let common = ["-sS", "--max-time", "30", "--cacert", &authority, "--resolve", &resolve, &url];
    run(tool("curl").args(common).args(more))
}

#[test]
fn https_is_served_by_the_certificate_of_the_name_that_is_asked_for() {
    let site = Site::new(&format!("{ONE}{TWO}"), &["one", "two"]);
    let (_daemon, address) = site.start();
    for name in ["one", "two"] {
        for (version, shown) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let format = ["-w", "%{http_version}\n", version];
            let answer = curl(&site, address, name, "/headers", &format);
            assert!(answer.ends_with(&format!("{shown}\n")), "{answer}");
            for line in [
                &*format!("authority: Some(\"{name}.example:{}\")", address.port()),
                "scheme: Some(Scheme::Https)",
                "header x-forwarded-for: 127.0.0.1",
                "header x-forwarded-proto: https",
            ] {
                assert!(answer.lines().any(|seen| seen == line), "{line}: {answer}");
            }
        }
    }
    let long = "x".repeat(1_000_000);
    let data = site.credentials.join("body");
    fs::write(&data, long).unwrap();
    let data = format!("@{}", data.display());
    let answer = curl(&site, address, "one", "/headers", &["--data-binary", &data]);
    assert!(answer.contains("header content-length: 1000000"), "{answer}");
}

/// Returns the output of openssl about a handshake.
fn handshake(address: SocketAddr, arguments: &[&str]) -> String {
    let address = address.to_string();
    run(tool("openssl").args(["s_client", "-connect", &address, "-brief"]).args(arguments))
}

#[test]
fn only_versions_of_tls_that_are_safe_are_spoken() {
    let site = Site::new(ONE, &["one"]);
    let (daemon, address) = site.start();
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = handshake(address, &[version]);
        assert!(said.contains(&format!("Protocol version: {shown}")), "{said}");
    }
    let said = handshake(address, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(said.contains("alert") && !said.contains("CONNECTION ESTABLISHED"), "{said}");
    // A client that speaks plain HTTP gets no answer, and disturbs no other one.
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(b"GET /headers HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(curl(&site, address, "one", "/sleeps", &[]).contains("fine"));
    drop(daemon);
}

#[test]
fn clients_that_do_not_shake_hands_keep_nobody_waiting() {
    let site = Site::new(ONE, &["one"]);
    let (_daemon, address) = site.start();
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(curl(&site, address, "one", "/sleeps", &[]), "fine");
    drop(silent);
}

#[test]
fn a_client_shows_a_certificate_and_the_plugin_sees_its_subject() {
    let required = format!("client-ca = \"client.crt\"\n{ONE}");
    let site = Site::new(&required, &["one", "client", "other"]);
    let (daemon, address) = site.start();
    let show = |name: &str| [site.path(&format!("{name}.crt")), site.path(&format!("{name}.key"))];
    let ask = |name: &str| {
        let [certificate, key] = show(name);
        let forged = "X-Forwarded-Client-Cert: Subject=\"CN=root\"";
        let shown = ["--cert", &certificate, "--key", &key, "-H", forged];
        curl(&site, address, "one", "/headers", &shown)
    };
    let answer = ask("client");
    let field =
        answer.lines().find_map(|line| line.strip_prefix("header x-forwarded-client-cert: "));
    let field = field.unwrap_or_else(|| panic!("{answer}"));
    assert!(field.starts_with("Hash="), "{field}");
    assert!(field.ends_with(";Subject=\"CN=client,O=Test\\\\, Ltd\""), "{field}");
    assert!(!answer.contains("CN=root"), "{answer}");
    for refused in [ask("other"), curl(&site, address, "one", "/headers", &[])] {
        assert!(refused.starts_with("curl: (") && refused.contains("alert"), "{refused}");
    }
    site.configure(&format!("client-certificate = \"optional\"\n{required}"));
    daemon.reload();
    let answer = curl(&site, address, "one", "/headers", &[]);
    assert!(answer.contains("scheme: Some(Scheme::Https)"), "{answer}");
    assert!(!answer.contains("x-forwarded-client-cert"), "{answer}");
    assert!(ask("client").contains("CN=client"));
}

/// A connection of TLS that a test holds open.
struct Held {
    client: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Held {
    fn open(address: SocketAddr) -> Self {
        let mut client = tool("openssl")
            .args(["s_client", "-quiet", "-connect", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(client.stdout.take().unwrap());
        Self { client, answers }
    }

    fn ask(&mut self) -> String {
        let mut input = self.client.stdin.as_ref().unwrap();
        input.write_all(b"GET /sleeps HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let lines = self.answers.by_ref().lines().map(Result::unwrap);
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        // A chunk of four bytes, and the end.
        let mut body = [0; "4\r\nfine\r\n0\r\n\r\n".len()];
        self.answers.read_exact(&mut body).unwrap();
        head[0].clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.client.kill().ok();
        self.client.wait().ok();
    }
}

fn serial(path: &Path) -> String {
    run(tool("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(path)).trim().to_owned()
}

/// The serial number of the certificate that is shown now.
fn shown(address: SocketAddr, directory: &Path) -> String {
    let said = run(tool("openssl").args(["s_client", "-connect", &address.to_string()]));
    let path = directory.join("shown.pem");
    fs::write(&path, said).unwrap();
    serial(&path)
}

#[test]
fn a_certificate_is_renewed_by_a_reload_without_closing_a_connection() {
    let site = Site::new(ONE, &["one"]);
    let (daemon, address) = site.start();
    let directory = tempfile::tempdir().unwrap();
    let current = || serial(Path::new(&site.path("one.crt")));
    let mut held = Held::open(address);
    assert_eq!(held.ask(), "HTTP/1.1 200 OK");
    let first = current();
    assert_eq!(shown(address, directory.path()), first);

    site.certify("one");
    assert_ne!(current(), first);
    daemon.reload();
    assert_eq!(shown(address, directory.path()), current());
    assert_eq!(held.ask(), "HTTP/1.1 200 OK");

    // A bad one changes nothing, and the reload says why.
    let good = current();
    for (file, contents, why) in [
        ("one.key", &b"no key"[..], "tls.key must name a file with a private key in PEM format"),
        ("one.key", &fs::read(site.path("one.crt")).unwrap(), "tls.key must name a file with"),
        ("one.crt", b"", "tls.certificate must name a file with a certificate in PEM format"),
    ] {
        let before = fs::read(site.path(file)).unwrap();
        fs::write(site.path(file), contents).unwrap();
        daemon.signal(Signal::HUP);
        daemon.log.wait_for(&["err     plugind: cannot read configuration", "plugind.toml:", why]);
        assert_eq!(shown(address, directory.path()), good, "{why}");
        fs::write(site.path(file), before).unwrap();
    }
    assert_eq!(held.ask(), "HTTP/1.1 200 OK");
}

#[test]
fn a_key_of_another_certificate_is_a_mistake_with_its_place() {
    let site = Site::new(&ONE.replace("one.key", "two.key"), &["one", "two"]);
    let ended = end_of(&site.tree, &["--listen", "https=127.0.0.1:0"]);
    assert_eq!(ended.status, 78);
    let place = "plugind.toml:5:7: sockets.https.tls.key must belong to the certificate";
    ended.log.wait_for(&["err     plugind: startup failed", place]);
    site.configure(&ONE.replace("one.key", "three.key"));
    let ended = end_of(&site.tree, &["--listen", "https=127.0.0.1:0"]);
    assert_eq!(ended.status, 78);
    ended.log.wait_for(&["sockets.https.tls.key: ", "write LoadCredential=three.key:PATH"]);
}
