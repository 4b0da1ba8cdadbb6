//! Certificates and keys for TLS: credentials that systemd passes, or files. They are read at the start and at each
//! reload, and a mistake in one leaves all as they were.

use crate::{
    base::name::SocketName,
    config::{
        Diagnostic, Origin,
        settings::{ClientCa, CredentialFile, SocketSetting, SocketSettings, Tls},
    },
    systemd::credential_file,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

/// The certificates and keys that the sockets of a name need for TLS.
#[derive(Clone)]
pub struct TlsIdentity {
    /// Of all files that were read. The same files are the same identity.
    digest: [u8; 32],
    /// The configuration of TLS.
    pub config: Arc<ServerConfig>,
}

impl PartialEq for TlsIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for TlsIdentity {}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsIdentity").finish_non_exhaustive()
    }
}

/// All that is wrong with certificates and keys.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct CertificatesError(Vec<Diagnostic>);

/// Reads what TLS needs on all sockets that have settings for it. Blocks.
///
/// # Errors
/// Every mistake in the files.
pub fn load(
    settings: &SocketSettings,
    credentials: Option<&Path>,
) -> Result<BTreeMap<SocketName, TlsIdentity>, CertificatesError> {
    let mut reader = Reader { credentials, digest: Sha256::new(), mistakes: Vec::new() };
    let with_tls = settings.0.iter().filter(|(_, setting)| !setting.tls.is_empty());
    let all: BTreeMap<_, _> = with_tls
        .filter_map(|(name, setting)| Some((name.clone(), reader.identity(name, setting)?)))
        .collect();
    if reader.mistakes.is_empty() { Ok(all) } else { Err(CertificatesError(reader.mistakes)) }
}

/// Reads files, and notes what is wrong with them.
struct Reader<'a> {
    credentials: Option<&'a Path>,
    digest: Sha256,
    mistakes: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn identity(&mut self, socket: &SocketName, setting: &SocketSetting) -> Option<TlsIdentity> {
        let provider = Arc::new(ring::default_provider());
        self.digest = Sha256::new();
        let certificates = setting.tls.iter().map(|tls| self.certificate(socket, tls, &provider));
        // All of them, so that every mistake is found.
        let certificates: Vec<_> = certificates.collect();
        let clients = setting.client_ca.as_ref().map(|ca| self.clients(socket, ca));
        let certificates = certificates.into_iter().collect::<Option<Vec<_>>>()?;
        let clients = match clients {
            Some(clients) => Some(clients?),
            None => None,
        };
        let config = config(provider, certificates, clients);
        let origin = &setting.tls.first()?.certificate.1;
        let config =
            config.map_err(|error| self.complain(origin, format!("sockets.{socket}.tls: {error}")));
        Some(TlsIdentity {
            digest: self.digest.clone().finalize().into(),
            config: Arc::new(config.ok()?),
        })
    }

    fn certificate(
        &mut self,
        socket: &SocketName,
        tls: &Tls,
        provider: &CryptoProvider,
    ) -> Option<Arc<CertifiedKey>> {
        let ((certificate, certificate_origin), (key, key_origin)) = (&tls.certificate, &tls.key);
        let label = format!("sockets.{socket}.tls.certificate");
        let chain = self.certificates(&label, certificate, certificate_origin);
        let label = format!("sockets.{socket}.tls.key");
        let key = self.read(&label, key, key_origin).and_then(|pem| {
            let key = PrivateKeyDer::from_pem_slice(&pem);
            key.map_err(|error| {
                let message =
                    format!("{label} must name a file with a private key in PEM format ({error})");
                self.complain(key_origin, message);
            })
            .ok()
        });
        let certified = CertifiedKey::from_der(chain?, key?, provider);
        certified
            .map_err(|error| {
                self.complain(
                    key_origin,
                    format!("{label} must belong to the certificate: {error}"),
                )
            })
            .ok()
            .map(Arc::new)
    }

    fn clients(&mut self, socket: &SocketName, ca: &ClientCa) -> Option<(RootCertStore, bool)> {
        let label = format!("sockets.{socket}.client-ca");
        let mut roots = RootCertStore::empty();
        for root in self.certificates(&label, &ca.file, &ca.origin)? {
            if let Err(error) = roots.add(root) {
                self.complain(&ca.origin, format!("{label}: {error}"));
                return None;
            }
        }
        self.digest.update([u8::from(ca.optional)]);
        Some((roots, ca.optional))
    }

    fn certificates(
        &mut self,
        label: &str,
        file: &CredentialFile,
        origin: &Origin,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let pem = self.read(label, file, origin)?;
        let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        match all {
            Ok(all) if !all.is_empty() => return Some(all),
            Ok(_) => self.complain(
                origin,
                format!("{label} must name a file with a certificate in PEM format"),
            ),
            Err(error) => self.complain(origin, format!("{label}: {error}")),
        }
        None
    }

    fn read(&mut self, label: &str, file: &CredentialFile, origin: &Origin) -> Option<Vec<u8>> {
        match credential_file::read(label, file, origin, self.credentials) {
            Ok(bytes) => {
                self.digest.update(bytes.len().to_le_bytes());
                self.digest.update(&bytes);
                Some(bytes)
            }
            Err(mistake) => {
                self.mistakes.push(mistake);
                None
            }
        }
    }

    fn complain(&mut self, origin: &Origin, message: String) {
        self.mistakes.push(credential_file::mistake(origin, message));
    }
}

fn config(
    provider: Arc<CryptoProvider>,
    certificates: Vec<Arc<CertifiedKey>>,
    clients: Option<(RootCertStore, bool)>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder =
        builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((roots, optional)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates(certificates)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(|error| error.to_string())?;
    Ok(config)
}

/// The certificates of a socket. The name that the client asks for selects one of them.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |certified: &&Arc<CertifiedKey>| {
            certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let named = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = named.and_then(|name| {
            self.0.iter().filter(usable).find(|certified| is_for(certified, &name))
        });
        // A client that names no host, or another one, can decide itself whether to accept the first certificate.
        named.or_else(|| self.0.iter().find(usable)).cloned()
    }
}

fn is_for(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = certified.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
