//! Host names and their addresses, as `[config]` of the manifest defines them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The longest name, and the longest part of one, in DNS.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// The types of records that have an address, in DNS.
pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;
/// The class of the Internet.
pub(crate) const IN: u16 = 1;

/// All names, in lower case and without a dot at the end.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, Vec<IpAddr>>);

impl Names {
    /// Reads `NAME = "ADDRESS, ADDRESS"`.
    ///
    /// # Errors
    /// With the key, and what must hold for it or its value.
    pub(crate) fn read(config: Vec<(String, String)>) -> Result<Self, String> {
        let mut names = Self::default();
        for (key, value) in config {
            let name = normal(&key);
            if !is_valid(&name) {
                return Err(format!(
                    "a name must consist of parts with at most {LABEL_MAX} letters, digits, - or _, \
                     and have at most {NAME_MAX} characters; it is {key:?}"
                ));
            }
            let addresses =
                value.split(',').map(|address| address.trim().parse().map_err(|_| address));
            let addresses = addresses.collect::<Result<_, _>>().map_err(|address| {
                format!("{key}: an address must be one of IPv4 or IPv6; it is {address:?}")
            })?;
            if names.0.insert(name, addresses).is_some() {
                return Err(format!("{key}: a name must be given once, whatever its case"));
            }
        }
        Ok(names)
    }

    /// The number of names.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The addresses of a name; none if it is unknown.
    pub(crate) fn find(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(&normal(name)).map(Vec::as_slice)
    }
}

/// The type of the record of an address, and its bytes.
pub(crate) fn record(address: &IpAddr) -> (u16, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (A, Ipv4Addr::octets(address).to_vec()),
        IpAddr::V6(address) => (AAAA, Ipv6Addr::octets(address).to_vec()),
    }
}

/// A record as DNS has it. `name` must be one that was found.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a label of a valid name has at most 63 bytes, and an address at most 16"
)]
pub(crate) fn wire(name: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in normal(name).split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(IN.to_be_bytes());
    // The time for which others may keep it: a reload may change it.
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_valid(name: &str) -> bool {
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label =
        |label: &str| (1..=LABEL_MAX).contains(&label.len()) && label.chars().all(is_known);
    name.len() <= NAME_MAX && name.split('.').all(is_label)
}
