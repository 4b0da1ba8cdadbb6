//! The remedy for a server's certificate that is not accepted.

/// The beginning of errors about the certificate of the other side, in the words of rustls.
const INVALID: &str = "invalid peer certificate: ";

/// Returns what to do about an error, if it is one about the certificate of a server. Clients of servers report errors
/// as text.
pub(super) fn remedy(error: &str) -> Option<&'static str> {
    let (_, cause) = error.split_once(INVALID)?;
    Some(match cause {
        cause if cause.starts_with("UnknownIssuer") || cause.starts_with("BadSignature") => {
            "ca in plugind.toml must have the authority that signed the server's certificate"
        }
        cause if cause.contains("not valid for") || cause.starts_with("NotValidForName") => {
            "url in plugind.toml must have a name or an address of the server's certificate"
        }
        cause if cause.contains("expired") || cause.starts_with("Expired") => {
            "renew the server's certificate"
        }
        _ => "correct the server's certificate",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let not_after = UnixTime::now();
        let expired = CertificateError::ExpiredContext { time: not_after, not_after };
        for (error, remedy_part) in [
            (CertificateError::UnknownIssuer, "ca in plugind.toml"),
            (CertificateError::BadSignature, "ca in plugind.toml"),
            (name(&[]), "url in plugind.toml"),
            (name(&["a", "b"]), "url in plugind.toml"),
            (CertificateError::NotValidForName, "url in plugind.toml"),
            (expired, "renew"),
            (CertificateError::Expired, "renew"),
            (CertificateError::BadEncoding, "correct"),
        ] {
            let error = format!("TLS: {}", rustls::Error::InvalidCertificate(error));
            let remedy = remedy(&error);
            assert!(remedy.is_some_and(|it| it.contains(remedy_part)), "{error}: {remedy:?}");
        }
        assert_eq!(remedy("connection refused"), None);
    }
}
