//! Conflicts between the sandbox of the daemon's unit and the grants of plugins or the settings, and the drop-in that
//! resolves them.

use crate::{
    print::placed,
    unit::{UNIT, Unit},
    view::{View, is_home},
};
use plugind::{
    base::{
        endpoint::{Endpoint, Host},
        name::PluginName,
        text::Escaped,
    },
    config::settings::{CredentialFile, Settings},
    plugin::{
        grants::{Grants, unit_need::UnitNeed},
        interfaces::Grant,
    },
};
use std::{fmt::Display, net::IpAddr, path::Path};

/// The directory of plugins' states, unless the unit sets another one.
const STATE: &str = "/var/lib/plugind";
/// The paths that resolving names needs.
const RESOLVING: [&str; 4] =
    ["/etc/nsswitch.conf", "/etc/hosts", "/etc/resolv.conf", "/run/systemd/resolve"];

/// A grant or a setting that cannot work under the unit.
#[derive(Debug)]
pub(crate) struct SandboxConflict {
    /// The mistake, with its place.
    pub(crate) reported: String,
    /// Whether the daemon would not even link the plugin, or not start with the setting; else what is configured fails when
    /// it is used.
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

/// Compares the grants of a plugin with the unit.
pub(crate) fn find_conflicts(
    plugin: &PluginName,
    grants: &Grants,
    unit: &Unit,
    remedy: &mut DropIn,
) -> Vec<SandboxConflict> {
    let checker = Checker { unit, view: View::of(unit) };
    let mut found = Vec::new();
    for grant in Grant::ALL {
        let origin = grants.origin(*grant);
        for need in grants.needs(*grant, plugin) {
            let conflict = checker.conflict(grant.key(), &need, remedy);
            found.extend(conflict.map(|(message, at_link)| SandboxConflict {
                reported: placed(&origin, message),
                at_link,
            }));
        }
    }
    found
}

/// Compares the servers and the files that `plugind.toml` names with the unit.
pub(crate) fn find_settings_conflicts(
    settings: &Settings,
    unit: &Unit,
    remedy: &mut DropIn,
) -> Vec<SandboxConflict> {
    let checker = Checker { unit, view: View::of(unit) };
    let mut found = Vec::new();
    for (setting, to, origin) in settings.server_endpoints() {
        if let Some((why, at_start)) = unreachable(to, unit, &checker.view, remedy) {
            let reported = placed(origin, no_access(setting, to, &why));
            found.push(SandboxConflict { reported, at_link: at_start });
        }
    }
    for (setting, file, origin) in settings.files() {
        let message = match file {
            CredentialFile::Credential(name) if !unit.provides(name) => {
                remedy.add(format!("LoadCredential={name}"));
                format!(
                    "{setting} has {name}, and {UNIT} does not pass the credential {name}; write LoadCredential={name} \
                     into the unit, and the value into /etc/credstore/{name}"
                )
            }
            CredentialFile::Path(path) => match checker.hidden(path, remedy) {
                Some(why) => no_access(&setting, &path.display(), &why),
                None => continue,
            },
            CredentialFile::Credential(_) => continue,
        };
        found.push(SandboxConflict { reported: placed(origin, message), at_link: true });
    }
    found
}

/// The unit, as far as grants need something of it.
struct Checker<'a> {
    unit: &'a Unit,
    view: View,
}

impl Checker<'_> {
    /// Why the unit does not allow what the grant `key` needs, if it does not, and whether the daemon knows as soon as
    /// it links.
    fn conflict(
        &self,
        key: &str,
        need: &UnitNeed<'_>,
        remedy: &mut DropIn,
    ) -> Option<(String, bool)> {
        match need {
            UnitNeed::Connection(endpoint) => {
                let (why, at_link) = unreachable(endpoint, self.unit, &self.view, remedy)?;
                Some((kept_from(key, endpoint, &why), at_link))
            }
            UnitNeed::Directory(path) => {
                let why = self.hidden(path, remedy)?;
                Some((kept_from(key, &path.display(), &why), true))
            }
            UnitNeed::Credential { key: name, file } => {
                if self.unit.provides(file) {
                    return None;
                }
                // Without a path, a missing file stops only its plugin from starting.
                remedy.add(format!("LoadCredential={file}"));
                let message = format!(
                    "grants.{key} has {name}, and {UNIT} does not pass the credential {file}; write \
                     LoadCredential={file} into the unit, and the value into /etc/credstore/{file}"
                );
                Some((message, true))
            }
            UnitNeed::StateDirectory => {
                if !has_no_state(self.unit) {
                    return None;
                }
                remedy.add("StateDirectory=plugind");
                remedy.add("StateDirectoryMode=0700");
                let message = format!(
                    "grants.{key} needs {STATE}, which {UNIT} cannot write, because it has no StateDirectory=; write \
                     StateDirectory=plugind into the unit"
                );
                Some((message, true))
            }
        }
    }

    /// Returns the reason that a directory is hidden from the daemon, if it is.
    fn hidden(&self, path: &Path, remedy: &mut DropIn) -> Option<String> {
        let why = self.view.hides(path)?;
        if self.unit.is("ProtectHome", "yes") && is_home(path) {
            // `yes` puts directories there that only root can enter.
            remedy.add("ProtectHome=tmpfs");
        }
        // A missing directory stops its plugin from starting, and not the daemon.
        remedy.add(format!("BindReadOnlyPaths={}", quoted("-", path)));
        Some(why.to_string())
    }
}

fn kept_from(key: &str, what: &dyn Display, why: &str) -> String {
    no_access(&format!("grants.{key}"), what, why)
}

fn no_access(setting: &str, what: &dyn Display, why: &str) -> String {
    format!("{setting} has {what}, to which {UNIT} gives the daemon no access: {why}")
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
        why.push("PrivateNetwork=yes gives it no network".to_owned());
        remedy.add("PrivateNetwork=no");
    }
    let families = match to.host {
        Host::Address(IpAddr::V4(_)) => &["AF_INET"][..],
        Host::Address(IpAddr::V6(_)) => &["AF_INET6"],
        Host::Name(_) => &["AF_INET", "AF_INET6"],
    };
    let at_link = families.iter().all(|family| !may_use(family, unit));
    if at_link {
        why.push(format!("RestrictAddressFamilies= excludes {}", families.join(" and ")));
        remedy.add(format!("RestrictAddressFamilies={}", families.join(" ")));
    }
    if is_denied(to, unit) {
        why.push("IPAddressDeny= denies the address".to_owned());
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

/// Whether packets to this host are dropped. False if it depends on the addresses of a name, which are unknown.
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
    let can_write_elsewhere =
        ["ReadWritePaths", "BindPaths"].iter().flat_map(|name| unit.paths(name)).any(covers);
    unit.is("StateDirectory", "") && may_not_write && !can_write_elsewhere
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
