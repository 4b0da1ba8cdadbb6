//! The use of each socket: the existing sockets, matched against the settings. Pure.

#[cfg(feature = "runtime")]
use crate::systemd::certificates::TlsIdentity;
use crate::{
    base::name::SocketName,
    config::{
        Diagnostic,
        settings::{ConnectionSetting, HttpSetting, Protocol, SocketSettings},
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
    /// The names of those whose name is not a valid name of a socket.
    pub unnamed: BTreeSet<String>,
}

/// The use of each socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketPlan {
    /// The protocol of the sockets of each name.
    pub protocols: BTreeMap<SocketName, Protocol>,
    /// The HTTP settings of those that have any.
    pub http: BTreeMap<SocketName, HttpSetting>,
    /// Certificates and keys of those that speak TLS.
    #[cfg(feature = "runtime")]
    pub tls: BTreeMap<SocketName, TlsIdentity>,
    /// The limits for clients of a socket, where settings give any.
    pub limits: BTreeMap<SocketName, ConnectionSetting>,
    /// The names of sockets that nothing is served on. They stay open: a reload may find a use for them.
    pub unused: BTreeSet<String>,
    /// Those of them that nothing can be served on, since their name is not a valid name of a socket.
    pub unnamed: BTreeSet<String>,
    /// Sockets that have settings and do not exist.
    pub missing: BTreeSet<SocketName>,
    /// A plugin has a route, and no socket speaks HTTP.
    pub lacks_http: bool,
    /// Of which kinds the sockets of a name are.
    pub kinds: BTreeMap<SocketName, Vec<SocketKind>>,
    /// The sockets that plugins ask for as a whole.
    pub whole: BTreeSet<SocketName>,
    /// Those of them whose plugin serves. The clients of others wait in the kernel.
    pub served: BTreeSet<SocketName>,
    /// The plugins were asked. Before that, nothing is known to be unused.
    pub is_complete: bool,
}

/// The use of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketUse {
    /// The host speaks this protocol on it.
    Protocol(Protocol),
    /// A plugin serves it as a whole.
    Plugin,
}

impl From<Protocol> for SocketUse {
    fn from(protocol: Protocol) -> Self {
        Self::Protocol(protocol)
    }
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
    fn fits(self, kind: SocketKind) -> bool {
        match self {
            Self::Http | Self::Metrics => matches!(kind, SocketKind::Tcp | SocketKind::UnixStream),
            Self::Control => kind == SocketKind::UnixStream,
        }
    }

    /// The kind that the socket must be, and the line of the socket unit for that.
    fn needs(self) -> (&'static str, &'static str) {
        match self {
            Self::Http | Self::Metrics => {
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
    /// The limits for clients of the sockets of this name.
    #[must_use]
    pub fn connections(&self, name: &SocketName) -> ConnectionSetting {
        self.limits.get(name).copied().unwrap_or_default()
    }

    /// Matches the sockets against the settings.
    ///
    /// # Errors
    /// Every socket that is not of the kind that its protocol needs.
    pub fn new(sockets: &SocketKinds, settings: &SocketSettings) -> Result<Self, SocketMistakes> {
        let limits = settings.0.iter().map(|(name, setting)| (name.clone(), setting.connections));
        let limits = limits.collect();
        let (unnamed, kinds) = (sockets.unnamed.clone(), sockets.named.clone());
        let mut plan = Self { limits, unnamed, kinds, ..Self::default() };
        let mut mistakes = Vec::new();
        for (name, kinds) in &sockets.named {
            let setting = settings.0.get(name).and_then(|setting| setting.protocol);
            let Some(protocol) = setting.or_else(|| Protocol::by_name(name)) else {
                continue;
            };
            let wrong = kinds.iter().filter(|kind| !protocol.fits(**kind));
            mistakes.extend(wrong.map(|kind| SocketMistake::new(name, *kind, protocol, settings)));
            plan.protocols.insert(name.clone(), protocol);
        }
        let http = settings.0.iter().filter(|(name, _)| plan.is_http(name));
        plan.http = http.map(|(name, setting)| (name.clone(), setting.http.clone())).collect();
        let named = settings.0.keys().filter(|name| !sockets.named.contains_key(*name));
        plan.missing.extend(named.cloned());
        plan.find_unused();
        if mistakes.is_empty() { Ok(plan) } else { Err(SocketMistakes(mistakes)) }
    }

    /// The same, with the routes of plugins: whether one is a route of HTTP, and the sockets that they ask for as a whole.
    /// The protocol of a socket takes precedence: a plugin that asks for such a socket as a whole has a mistake.
    #[must_use]
    pub fn with_routes(mut self, has_http: bool, whole: BTreeSet<SocketName>) -> Self {
        self.lacks_http = has_http && !self.protocols.values().any(|it| *it == Protocol::Http);
        self.whole = whole;
        self.is_complete = true;
        self.whole.retain(|name| !self.protocols.contains_key(name));
        self.find_unused();
        self
    }

    fn find_unused(&mut self) {
        let is_used =
            |name: &SocketName| self.protocols.contains_key(name) || self.whole.contains(name);
        let unused = self.kinds.keys().filter(|name| !is_used(name)).map(ToString::to_string);
        self.unused = self.unnamed.iter().cloned().chain(unused).collect();
    }

    /// The use of each socket that is accepted from.
    pub fn uses(&self) -> impl Iterator<Item = (&SocketName, SocketUse)> {
        let protocols =
            self.protocols.iter().map(|(name, protocol)| (name, SocketUse::Protocol(*protocol)));
        let served = self.whole.intersection(&self.served);
        protocols.chain(served.map(|name| (name, SocketUse::Plugin)))
    }

    /// The use of this socket, if any.
    #[must_use]
    pub fn use_of(&self, name: &SocketName) -> Option<SocketUse> {
        let protocol = self.protocols.get(name).map(|protocol| SocketUse::Protocol(*protocol));
        let is_served = self.whole.contains(name) && self.served.contains(name);
        protocol.or_else(|| is_served.then_some(SocketUse::Plugin))
    }

    /// Why a plugin cannot serve this socket as a whole, if it has handlers of these kinds; none: it can.
    #[must_use]
    pub fn why_not_whole(
        &self,
        name: &SocketName,
        connections: bool,
        datagrams: bool,
    ) -> Option<String> {
        let lines = match (connections, datagrams) {
            (true, false) => "ListenStream=ADDRESS:PORT or ListenStream=/PATH",
            (false, _) => "ListenDatagram=ADDRESS:PORT or ListenDatagram=/PATH",
            (true, true) => "ListenStream= or ListenDatagram=",
        };
        if let Some(protocol) = self.protocols.get(name) {
            return Some(format!(
                "the daemon speaks the protocol \"{protocol}\" on the socket {name}, so no plugin can serve it as a \
                 whole; \
                 use a socket with another name"
            ));
        }
        let Some(kinds) = self.kinds.get(name) else {
            return Some(format!(
                "no socket has the name \"{name}\"; write a .socket unit with {lines}, FileDescriptorName={name}, \
                 Service=plugind.service and WantedBy=plugind.service, enable it, and restart plugind.service"
            ));
        };
        let fits = |kind: &SocketKind| match kind {
            SocketKind::Tcp | SocketKind::UnixStream => connections,
            SocketKind::Udp | SocketKind::UnixDatagram => datagrams,
            SocketKind::Other => false,
        };
        let kind = kinds.iter().find(|kind| !fits(kind))?;
        let handler = match (connections, datagrams) {
            (true, true) => "no handler for that",
            (true, false) => "a handler of connections only",
            (false, _) => "a handler of datagrams only",
        };
        Some(format!(
            "the socket {name} is of the type {kind}, and the component has {handler}; in its .socket unit, write {lines}"
        ))
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

    #[test]
    fn a_socket_that_a_plugin_asks_for_is_used_and_any_other_is_not() {
        let all: &[(&str, &[SocketKind])] = &[
            ("http", &[SocketKind::Tcp]),
            ("echo", &[SocketKind::UnixStream]),
            ("clock", &[SocketKind::Udp]),
        ];
        let whole = [name("echo"), name("http"), name("gone")].into();
        let mut plan = plan(all, "").unwrap().with_routes(true, whole);
        assert!(!plan.lacks_http);
        assert_eq!(plan.use_of(&name("echo")), None, "its plugin is not ready");
        plan.served.insert(name("echo"));
        plan.served.insert(name("gone"));
        assert_eq!(Vec::from_iter(&plan.unused), ["clock"]);
        assert_eq!(plan.use_of(&name("echo")), Some(SocketUse::Plugin));
        assert_eq!(plan.use_of(&name("http")), Some(SocketUse::Protocol(Protocol::Http)));
        assert_eq!(plan.uses().count(), 3);
    }

    #[test]
    fn a_socket_is_unused_again_when_no_plugin_asks_for_it_any_more() {
        let mut all = sockets(&[("echo", &[SocketKind::UnixStream])]);
        all.unnamed.insert("a b".to_owned());
        let plan = SocketPlan::new(&all, &SocketSettings::default()).unwrap();
        assert_eq!(Vec::from_iter(&plan.unused), ["a b", "echo"]);
        let plan = plan.with_routes(true, [name("echo")].into());
        assert!(plan.lacks_http);
        assert_eq!(Vec::from_iter(&plan.unused), ["a b"]);
        let plan = plan.with_routes(false, BTreeSet::new());
        assert!(!plan.lacks_http);
        assert_eq!(Vec::from_iter(&plan.unused), ["a b", "echo"]);
    }

    #[test]
    fn a_whole_socket_that_cannot_be_served_is_a_mistake_with_a_remedy() {
        let all: &[(&str, &[SocketKind])] = &[
            ("http", &[SocketKind::Tcp]),
            ("echo", &[SocketKind::Tcp, SocketKind::UnixStream]),
            ("clock", &[SocketKind::Udp]),
        ];
        let plan = plan(all, "").unwrap();
        let why = |socket: &str, connections, datagrams| {
            plan.why_not_whole(&name(socket), connections, datagrams).unwrap_or_default()
        };
        assert_eq!(why("echo", true, false), "");
        assert_eq!(why("clock", true, true), "");
        for (socket, connections, part) in [
            (
                "echo",
                false,
                "is of the type TCP, and the component has a handler of datagrams only",
            ),
            ("clock", true, "write ListenStream=ADDRESS:PORT or ListenStream=/PATH"),
            ("http", true, "speaks the protocol \"http\""),
            (
                "gone",
                true,
                "with ListenStream=ADDRESS:PORT or ListenStream=/PATH, FileDescriptorName=gone",
            ),
            ("gone", false, "with ListenDatagram=ADDRESS:PORT or ListenDatagram=/PATH"),
        ] {
            let why = why(socket, connections, !connections);
            assert!(why.contains(part), "{why}");
        }
    }
}
