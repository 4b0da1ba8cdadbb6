//! Whether the kernel and the unit of the daemon permit the connections that were granted.

use crate::{
    base::endpoint::Endpoint,
    systemd::address_families::{self, BarredFamilies},
};
use rustix::net::AddressFamily;
use std::io;

/// Connections were granted that nobody in this process can open.
#[derive(Debug, thiserror::Error)]
#[error(
    "was granted connections to {to}, and the unit of the daemon allows none; add {families} to \
     RestrictAddressFamilies= of the unit, as plugind-network.conf does: `pluginctl check` prints the drop-in"
)]
pub struct NetworkError {
    to: Endpoint,
    families: &'static str,
    source: io::Error,
}

/// Tries whether the daemon may open connections of the kinds that these need.
///
/// That shows only what holds for every connection. An obstacle to one of them is reported to the guest that opens it.
///
/// # Errors
/// When it may not.
pub(super) fn open<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Result<(), NetworkError> {
    check_families(endpoints, address_families::try_family)
}

fn check_families<'a>(
    mut endpoints: impl Iterator<Item = &'a Endpoint>,
    try_to_open: impl Fn(AddressFamily) -> rustix::io::Result<()>,
) -> Result<(), NetworkError> {
    let barred = |to: &'a Endpoint| {
        let BarredFamilies { families, source } = address_families::barred(to, &try_to_open)?;
        Some(NetworkError { to: to.clone(), families, source })
    };
    endpoints.find_map(barred).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_grant_that_needs_a_forbidden_kind_of_connection_is_reported() {
        let reported = |endpoint: &str, barred: &[AddressFamily]| {
            let endpoint: Endpoint = endpoint.parse().unwrap();
            let outcome =
                check_families([endpoint].iter(), |family| match barred.contains(&family) {
                    true => Err(Errno::AFNOSUPPORT),
                    false => Err(Errno::MFILE),
                });
            outcome.err().map(|error| error.to_string())
        };
        let (v4, v6) = (AddressFamily::INET, AddressFamily::INET6);
        for (endpoint, barred, families) in [
            ("10.1.2.3:5432", &[v4][..], Some("AF_INET to")),
            ("10.1.2.3:5432", &[v6], None),
            ("[2001:db8::1]:80", &[v6], Some("AF_INET6 to")),
            ("[2001:db8::1]:80", &[v4], None),
            ("db.example:5432", &[v4], None),
            ("db.example:5432", &[v4, v6], Some("AF_INET or AF_INET6 to")),
        ] {
            let reported = reported(endpoint, barred);
            assert_eq!(reported.is_some(), families.is_some(), "{endpoint}: {reported:?}");
            let parts = [endpoint, families.unwrap_or_default(), "plugind-network.conf"];
            assert!(
                reported.is_none_or(|reported| parts.iter().all(|part| reported.contains(part)))
            );
        }
        assert!(check_families([].iter(), |_| Err(Errno::AFNOSUPPORT)).is_ok());
    }
}
