//! What the daemon's unit is in the way of, among what plugins were granted, and the drop-in that would let them.

use crate::{
    unit::{UNIT, Unit},
    view::{View, is_home},
};
use plugind::{
    base::{
        endpoint::{Endpoint, Host},
        name::PluginName,
        text::Escaped,
    },
    config::{Diagnostic, Origin},
    plugin::grants::{Grants, credential_file},
};
use std::{net::IpAddr, path::Path};

/// Where the daemon keeps what plugins keep, unless its unit says otherwise.
const STATE: &str = "/var/lib/plugind";
/// What names are resolved with.
const RESOLVING: [&str; 4] =
    ["/etc/nsswitch.conf", "/etc/hosts", "/etc/resolv.conf", "/run/systemd/resolve"];

/// A grant that cannot work under the unit.
#[derive(Debug)]
pub(crate) struct SandboxConflict {
    /// What is wrong, with its place in the manifest.
    pub(crate) told: String,
    /// Whether the daemon would not even link the plugin; else it fails when it makes use of the grant.
    pub(crate) at_link: bool,
}

/// Lines below `[Service]` that would let plugins do what they were granted.
#[derive(Default)]
pub(crate) struct DropIn(Vec<String>);

impl DropIn {
    /// The file, unless there is nothing to write.
    pub(crate) fn text(&self) -> Option<String> {
        let lines = self.0.iter().map(|line| format!("{}\n", Escaped(line)));
        (!self.0.is_empty()).then(|| format!("[Service]\n{}", lines.collect::<String>()))
    }

    fn add(&mut self, line: impl Into<String>) {
        let line = line.into();
        if !self.0.contains(&line) {
            self.0.push(line);
        }
    }
}

/// Holds what a plugin was granted against the unit.
pub(crate) fn judge(
    plugin: &PluginName,
    grants: &Grants,
    unit: &Unit,
    remedy: &mut DropIn,
) -> Vec<SandboxConflict> {
    let (view, origins) = (View::of(unit), &grants.origins);
    let mut found = Vec::new();
    for (key, origin, endpoints) in [
        ("outgoing-http", &origins.outgoing_http, &grants.outgoing_http),
        ("tcp-connect", &origins.tcp_connect, &grants.tcp_connect),
    ] {
        for endpoint in endpoints {
            let Some((why, at_link)) = unreachable(endpoint, unit, &view, remedy) else { continue };
            let message =
                format!("grants.{key} has {endpoint}, which {UNIT} keeps the daemon from: {why}");
            found.push(SandboxConflict { told: told(origin, message), at_link });
        }
    }
    for path in &grants.read {
        let Some(why) = view.hides(path) else { continue };
        if unit.is("ProtectHome", "yes") && is_home(path) {
            // Nobody but root gets through what `yes` puts there.
            remedy.add("ProtectHome=tmpfs");
        }
        // One that is not there keeps its plugin from starting, and not the daemon.
        remedy.add(format!("BindReadOnlyPaths={}", quoted("-", path)));
        let path = path.display();
        let message = format!("grants.read has {path}, which {UNIT} keeps the daemon from: {why}");
        found.push(SandboxConflict { told: told(&origins.read, message), at_link: true });
    }
    for key in &grants.credentials {
        let file = credential_file(plugin, key);
        if unit.provides(&file) {
            continue;
        }
        // Without a path a file that is not there keeps nobody from starting but its plugin.
        remedy.add(format!("LoadCredential={file}"));
        let message = format!(
            "grants.credentials has {key}, and no line of {UNIT} provides {file}, which would be /etc/credstore/{file}"
        );
        found.push(SandboxConflict { told: told(&origins.credentials, message), at_link: true });
    }
    if grants.state && has_no_state(unit) {
        remedy.add("StateDirectory=plugind");
        remedy.add("StateDirectoryMode=0700");
        let message = format!(
            "grants.state is of no use: {UNIT} has no StateDirectory=, and may not write to {STATE}"
        );
        found.push(SandboxConflict { told: told(&origins.state, message), at_link: true });
    }
    found
}

fn told(origin: &Origin, message: String) -> String {
    match &origin.0 {
        Some(place) => Diagnostic::at(place.clone(), message).to_string(),
        None => message,
    }
}

/// Why the daemon cannot connect to `to`, if it cannot, and whether it knows as soon as it links.
fn unreachable(
    to: &Endpoint,
    unit: &Unit,
    view: &View,
    remedy: &mut DropIn,
) -> Option<(String, bool)> {
    let mut why = Vec::new();
    let shared = unit.has("NetworkNamespacePath") || unit.has("JoinsNamespaceOf");
    if unit.is("PrivateNetwork", "yes") && !shared {
        why.push("PrivateNetwork=yes leaves it without a network".to_owned());
        remedy.add("PrivateNetwork=no");
    }
    let families = match to.host {
        Host::Address(IpAddr::V4(_)) => &["AF_INET"][..],
        Host::Address(IpAddr::V6(_)) => &["AF_INET6"],
        Host::Name(_) => &["AF_INET", "AF_INET6"],
    };
    let at_link = families.iter().all(|family| !may_use(family, unit));
    if at_link {
        why.push(format!("RestrictAddressFamilies= is without {}", families.join(" and ")));
        remedy.add(format!("RestrictAddressFamilies={}", families.join(" ")));
    }
    if is_denied(to, unit) {
        why.push("IPAddressDeny= forbids it".to_owned());
        remedy.add(match to.host {
            Host::Address(address) => format!("IPAddressAllow={address}"),
            Host::Name(_) => "IPAddressAllow=any".to_owned(),
        });
    }
    if let (Host::Name(_), Some(hidden)) = (&to.host, view.hides(Path::new("/etc/resolv.conf"))) {
        why.push(format!("/etc/resolv.conf, which resolving its name needs, is hidden: {hidden}"));
        RESOLVING.iter().for_each(|path| remedy.add(format!("BindReadOnlyPaths=-{path}")));
    }
    (!why.is_empty()).then(|| (why.join("; "), at_link))
}

/// Whether sockets of this family may be made: `~` stands before a list of those that may not.
fn may_use(family: &str, unit: &Unit) -> bool {
    let Some(families) = unit.get("RestrictAddressFamilies") else { return true };
    let has = |families: &str| families.split_whitespace().any(|word| word == family);
    match families.strip_prefix('~') {
        Some(barred) => !has(barred),
        None => has(families),
    }
}

/// Whether packets to this host are dropped. Where only the addresses decide, and its name stands for some that are not
/// known here, nothing is said.
fn is_denied(to: &Endpoint, unit: &Unit) -> bool {
    let covers = |name: &str, address: IpAddr| {
        let networks = unit.get(name).unwrap_or_default().split_whitespace();
        networks.filter_map(network).any(|(network, length)| is_within(address, network, length))
    };
    match to.host {
        Host::Address(address) => {
            covers("IPAddressDeny", address) && !covers("IPAddressAllow", address)
        }
        Host::Name(_) => {
            let denied: Vec<_> = unit.get("IPAddressDeny").unwrap_or_default().split(' ').collect();
            denied.contains(&"0.0.0.0/0") && denied.contains(&"::/0") && !unit.has("IPAddressAllow")
        }
    }
}

/// An address, and how many of its bits count.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    Some((address.parse().ok()?, length.parse().ok()?))
}

fn is_within(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let differs = |one: u128, other: u128, bits: u32| {
        let ignored = bits.saturating_sub(length);
        (one ^ other).checked_shr(ignored).unwrap_or_default() != 0
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            !differs(u32::from(one).into(), u32::from(other).into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => !differs(one.into(), other.into(), 128),
        _ => false,
    }
}

/// Whether there is no directory to which the daemon could write for plugins.
fn has_no_state(unit: &Unit) -> bool {
    let may_not_write = unit.is("ProtectSystem", "strict") || unit.is("DynamicUser", "yes");
    let covers = |entry: &str| {
        let at = entry.split(':').nth(1).unwrap_or(entry);
        Path::new(STATE).starts_with(at.trim_start_matches(['-', '+']))
    };
    let may_all_the_same =
        ["ReadWritePaths", "BindPaths"].iter().flat_map(|name| unit.paths(name)).any(covers);
    unit.is("StateDirectory", "") && may_not_write && !may_all_the_same
}

/// A path as a unit's value, in which `%` and, outside of quotes, blanks and colons mean something.
fn quoted(prefix: &str, path: &Path) -> String {
    let mut text = prefix.to_owned();
    for character in path.display().to_string().replace('%', "%%").chars() {
        // A colon would end the path.
        if matches!(character, '\\' | ':' | '"' | '\'') {
            text.push('\\');
        }
        text.push(character);
    }
    if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests;
