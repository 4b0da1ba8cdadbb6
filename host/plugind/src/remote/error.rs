//! Why a server cannot be used as it is configured.

use crate::{
    base::endpoint::Endpoint,
    config::{Diagnostic, Origin},
    systemd::{
        address_families::{self, BarredFamilies},
        credential_file,
    },
};
use rustix::net::AddressFamily;

/// Why a server cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RemoteError(Diagnostic);

impl From<Diagnostic> for RemoteError {
    fn from(mistake: Diagnostic) -> Self {
        Self(mistake)
    }
}

/// Checks that the daemon may open connections to `to`. The error names the setting: `label`, which was written at
/// `origin`.
///
/// # Errors
/// When it may not.
pub(super) fn check_network(
    label: &str,
    to: &Endpoint,
    origin: &Origin,
) -> Result<(), RemoteError> {
    check_families(label, to, origin, address_families::try_family)
}

fn check_families(
    label: &str,
    to: &Endpoint,
    origin: &Origin,
    attempt: impl Fn(AddressFamily) -> rustix::io::Result<()>,
) -> Result<(), RemoteError> {
    address_families::barred(to, attempt).map_or(Ok(()), |BarredFamilies { families, source }| {
        let message = format!(
            "{label}: the daemon must be able to connect to {to}, and cannot ({source}); add {families} to \
             RestrictAddressFamilies= of its unit and open its network, as plugind-network.conf does"
        );
        Err(credential_file::mistake(origin, message).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_unit_without_the_kind_of_socket_is_named_with_the_remedy() {
        let to: Endpoint = "10.1.2.3:4222".parse().unwrap();
        let check = |errno| {
            let checked = check_families("keyvalue.url", &to, &Origin::default(), |_| Err(errno));
            checked.err().map(|error| error.to_string())
        };
        let message = check(Errno::AFNOSUPPORT).unwrap();
        for part in
            ["plugind.toml", "keyvalue.url", "10.1.2.3:4222", "AF_INET", "plugind-network.conf"]
        {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(
            check(Errno::MFILE),
            None,
            "a lack of descriptors may have ended when the connection is made"
        );
    }
}
