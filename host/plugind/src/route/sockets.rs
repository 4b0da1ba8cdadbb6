//! What is served on which socket: the sockets that there are, matched against the settings. Pure.

use crate::{
    base::name::SocketName,
    config::{
        Diagnostic,
        settings::{Protocol, SocketSettings},
    },
    systemd::sockets::SocketKind,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The sockets that there are. They stay the same for the daemon's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketKinds {
    /// Those with a name; several may share it.
    pub named: BTreeMap<SocketName, Vec<SocketKind>>,
    /// The names of those whose name cannot be asked for.
    pub unnamed: BTreeSet<String>,
}

/// What is served on which socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketPlan {
    /// What is spoken on the sockets of a name.
    pub protocols: BTreeMap<SocketName, Protocol>,
    /// The names of sockets that nothing is served on. They stay open: a reload may find a use for them.
    pub unused: BTreeSet<String>,
    /// Sockets with settings that there are none of.
    pub missing: BTreeSet<SocketName>,
}

/// A socket that cannot be used as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketMistake {
    name: SocketName,
    kind: SocketKind,
    protocol: Protocol,
    /// The setting that says so, if one does.
    setting: Option<Diagnostic>,
}

/// All sockets that cannot be used as they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct SocketMistakes(pub Vec<SocketMistake>);

impl Protocol {
    /// What is spoken on sockets of which nothing was said.
    fn by_name(name: &SocketName) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name.as_str())
            .map(|(_, protocol)| protocol)
    }

    fn fits(self, kind: SocketKind) -> bool {
        match self {
            Self::Http => matches!(kind, SocketKind::Tcp | SocketKind::UnixStream),
            Self::Control => kind == SocketKind::UnixStream,
        }
    }

    /// What the socket has to be, and the line of the socket unit for that.
    fn needs(self) -> (&'static str, &'static str) {
        match self {
            Self::Http => {
                ("a stream socket that listens", "ListenStream=ADDRESS:PORT or ListenStream=/PATH")
            }
            Self::Control => ("a unix stream socket that listens", "ListenStream=/PATH"),
        }
    }
}

impl fmt::Display for SocketMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (needed, line) = self.protocol.needs();
        let Self { name, kind, protocol, setting } = self;
        if let Some(setting) = setting {
            return write!(f, "{setting}");
        }
        write!(
            f,
            "the socket {name} is of the type {kind}, and the protocol \"{protocol}\" needs {needed}; in its .socket \
             unit, write {line}"
        )
    }
}

impl SocketMistake {
    fn new(
        name: &SocketName,
        kind: SocketKind,
        protocol: Protocol,
        settings: &SocketSettings,
    ) -> Self {
        let (needed, _) = protocol.needs();
        let setting = settings.0.get(name).and_then(|setting| {
            setting.protocol?;
            let message = format!(
                "sockets.{name}.protocol must fit the socket, which is of the type {kind}: \"{protocol}\" needs {needed}"
            );
            Some(Diagnostic::at(setting.origin.0.clone()?, message))
        });
        Self { name: name.clone(), kind, protocol, setting }
    }
}

impl SocketPlan {
    /// Matches the sockets against the settings.
    ///
    /// # Errors
    /// Every socket that is not of the kind that its protocol needs.
    pub fn new(sockets: &SocketKinds, settings: &SocketSettings) -> Result<Self, SocketMistakes> {
        let mut plan = Self { unused: sockets.unnamed.clone(), ..Self::default() };
        let mut mistakes = Vec::new();
        for (name, kinds) in &sockets.named {
            let setting = settings.0.get(name).and_then(|setting| setting.protocol);
            let Some(protocol) = setting.or_else(|| Protocol::by_name(name)) else {
                plan.unused.insert(name.to_string());
                continue;
            };
            let wrong = kinds.iter().filter(|kind| !protocol.fits(**kind));
            mistakes.extend(wrong.map(|kind| SocketMistake::new(name, *kind, protocol, settings)));
            plan.protocols.insert(name.clone(), protocol);
        }
        let named = settings.0.keys().filter(|name| !sockets.named.contains_key(*name));
        plan.missing.extend(named.cloned());
        if mistakes.is_empty() { Ok(plan) } else { Err(SocketMistakes(mistakes)) }
    }

    /// Whether anything is served by this protocol.
    #[must_use]
    pub fn serves(&self, protocol: Protocol) -> bool {
        self.protocols.values().any(|served| *served == protocol)
    }

    /// Whether this socket is there and speaks HTTP.
    #[must_use]
    pub fn is_http(&self, name: &SocketName) -> bool {
        self.protocols.get(name) == Some(&Protocol::Http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, settings::Settings};
    use std::path::Path;

    fn name(name: &str) -> SocketName {
        name.parse().unwrap()
    }

    fn sockets(all: &[(&str, &[SocketKind])]) -> SocketKinds {
        let named = all.iter().map(|(socket, kinds)| (name(socket), kinds.to_vec())).collect();
        SocketKinds { named, unnamed: BTreeSet::new() }
    }

    fn plan(all: &[(&str, &[SocketKind])], settings: &str) -> Result<SocketPlan, String> {
        let document = Document::new(Path::new("plugind.toml"), settings);
        let settings = Settings::parse(&document).unwrap();
        SocketPlan::new(&sockets(all), &settings.sockets).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_socket_speaks_what_its_name_says_unless_a_setting_says_otherwise() {
        let all: &[(&str, &[SocketKind])] = &[
            ("http", &[SocketKind::Tcp, SocketKind::UnixStream]),
            ("control", &[SocketKind::UnixStream]),
            ("web", &[SocketKind::UnixStream]),
            ("clock", &[SocketKind::Udp]),
        ];
        let by_name = plan(all, "").unwrap();
        assert!(by_name.is_http(&name("http")) && !by_name.is_http(&name("web")));
        assert_eq!(by_name.protocols[&name("control")], Protocol::Control);
        assert_eq!(Vec::from_iter(&by_name.unused), ["clock", "web"]);
        let by_setting = plan(all, "[sockets.web]\nprotocol = \"http\"\n").unwrap();
        assert!(by_setting.is_http(&name("web")));
        assert_eq!(Vec::from_iter(&by_setting.unused), ["clock"]);
        assert_eq!(by_setting.missing, BTreeSet::new());
    }

    #[test]
    fn a_socket_of_the_wrong_kind_is_a_mistake_with_a_remedy() {
        for kind in [SocketKind::Udp, SocketKind::UnixDatagram, SocketKind::Other] {
            let mistake = plan(&[("http", &[kind])], "").unwrap_err();
            assert!(mistake.contains("write ListenStream=ADDRESS:PORT"), "{mistake}");
        }
        let mistake = plan(&[("control", &[SocketKind::Tcp])], "").unwrap_err();
        assert!(mistake.contains("write ListenStream=/PATH"), "{mistake}");
        let mistake =
            plan(&[("clock", &[SocketKind::Udp])], "[sockets.clock]\nprotocol = \"http\"\n");
        let mistake = mistake.unwrap_err();
        assert!(mistake.starts_with("plugind.toml:2:12: sockets.clock.protocol must"), "{mistake}");
    }

    #[test]
    fn settings_of_a_socket_that_is_not_there_are_noted() {
        let plan = plan(&[], "[sockets.web]\nprotocol = \"http\"\n").unwrap();
        assert_eq!(Vec::from_iter(plan.missing), [name("web")]);
        assert!(!plan.protocols.contains_key(&name("web")));
    }
}
