//! `[sockets.NAME]`: the protocol of sockets, and its settings.

use crate::{
    base::name::SocketName,
    config::{
        Origin, Table,
        settings::{
            connections::ConnectionSetting,
            http::{AccessLog, HttpSetting, ProxyHeader},
            tls::{ClientCa, Tls},
        },
    },
};
use std::{collections::BTreeMap, fmt};

/// `[sockets.NAME]`, by the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketSettings(pub BTreeMap<SocketName, SocketSetting>);

/// `[sockets.NAME]`: the settings of the sockets of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSetting {
    /// The protocol spoken on it; none: the one of its name.
    pub protocol: Option<Protocol>,
    /// Where that was written.
    pub origin: Origin,
    /// The HTTP settings.
    pub http: HttpSetting,
    /// The certificates for TLS. If there is none, the sockets do not speak TLS.
    pub tls: Vec<Tls>,
    /// Which clients need a certificate, and who signs those.
    pub client_ca: Option<ClientCa>,
    /// The limits for clients.
    pub connections: ConnectionSetting,
}

/// The protocol spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP, for plugins.
    Http,
    /// Varlink, for the control of the daemon.
    Control,
    /// HTTP, for the metrics of the daemon.
    Metrics,
}

impl Protocol {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 3] =
        [("http", Self::Http), ("control", Self::Control), ("metrics", Self::Metrics)];

    /// The protocol of sockets without a setting.
    #[must_use]
    pub fn by_name(name: &SocketName) -> Option<Self> {
        let named = Self::ALL.into_iter().find(|(known, _)| *known == name.as_str());
        named.map(|(_, protocol)| protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Control => "control",
            Self::Metrics => "metrics",
        })
    }
}

impl SocketSetting {
    pub(super) fn read(name: &SocketName, table: &Table<'_>) -> Self {
        let protocol = table.choice("protocol", &Protocol::ALL);
        let http = HttpSetting {
            proxy_protocol: table.boolean("proxy-protocol").unwrap_or_default(),
            trusted_proxies: table.list("trusted-proxies", str::parse),
            proxy_header: table.choice("proxy-header", &ProxyHeader::ALL).unwrap_or_default(),
            access_log: table.choice("access-log", &AccessLog::ALL),
        };
        let optional = [("required", false), ("optional", true)];
        let optional = table.choice("client-certificate", &optional);
        let client_ca = table.parsed("client-ca").map(|file| ClientCa {
            file,
            origin: table.origin("client-ca"),
            optional: optional.unwrap_or_default(),
        });
        let tls: Vec<_> = table.tables("tls", Tls::read).into_iter().flatten().collect();
        if table.origin("tls").0.is_none() {
            for key in ["client-ca", "client-certificate"] {
                if table.origin(key).0.is_some() {
                    table.complain_about(
                        key,
                        format!("{key} must not be set without [[sockets.NAME.tls]]"),
                    );
                }
            }
        } else if optional.is_some() && client_ca.is_none() {
            let message = "client-certificate must not be set without client-ca";
            table.complain_about("client-certificate", message);
        }
        let spoken = protocol.or_else(|| Protocol::by_name(name));
        if spoken != Some(Protocol::Http) {
            let remedy = match protocol {
                Some(_) => "remove it, or change the protocol".to_owned(),
                None => format!(
                    "remove it, or write protocol = \"http\" below [sockets.{name}] if the daemon is to speak HTTP \
                     there"
                ),
            };
            for key in ["proxy-protocol", "trusted-proxies", "proxy-header", "access-log", "tls"] {
                if table.origin(key).0.is_some() {
                    let message = format!(
                        "{key} must not be set for a protocol other than \"http\"; {remedy}"
                    );
                    table.complain_about(key, message);
                }
            }
        }
        let (origin, connections) = (table.origin("protocol"), ConnectionSetting::read(table));
        Self { protocol, origin, http, tls, client_ca, connections }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{
        Document,
        settings::{Settings, tls::CredentialFile},
    };
    use std::path::Path;

    #[test]
    fn a_setting_for_http_is_a_mistake_on_any_other_socket() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        for socket in ["control", "metrics", "web"] {
            for line in ["access-log = \"json\"", "trusted-proxies = [\"unix\"]"] {
                let mistakes = parse(&format!("[sockets.{socket}]\n{line}\n")).unwrap_err();
                assert_eq!(mistakes.len(), 1, "{mistakes:?}");
                let mistake = mistakes[0].to_string();
                assert!(mistake.starts_with("plugind.toml:2:"), "{mistake}");
                assert!(
                    mistake
                        .contains("must not be set for a protocol other than \"http\"; remove it"),
                    "{mistake}"
                );
            }
        }
        assert!(parse("[sockets.http]\naccess-log = \"json\"\n").is_ok());
        assert!(parse("[sockets.web]\nconnections-max = 7\n").is_ok());
        let spoken = "[sockets.control]\nprotocol = \"http\"\naccess-log = \"json\"\n";
        assert!(parse(spoken).is_ok());
    }

    #[test]
    fn tls_needs_a_certificate_and_its_key() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let web = "[sockets.web]\nprotocol = \"http\"\nclient-ca = \"clients.pem\"\n";
        let tls =
            "[[sockets.web.tls]]\ncertificate = \"site.crt\"\nkey = \"/etc/plugind/site.key\"\n";
        let settings = parse(&format!("{web}{tls}{tls}")).unwrap();
        let web_setting = &settings.sockets.0[&"web".parse().unwrap()];
        assert_eq!(web_setting.tls.len(), 2);
        let certificate = &web_setting.tls[0].certificate.0;
        assert_eq!(*certificate, CredentialFile::Credential("site.crt".to_owned()));
        assert_eq!(web_setting.tls[0].key.0, CredentialFile::Path("/etc/plugind/site.key".into()));
        assert!(web_setting.client_ca.as_ref().is_some_and(|ca| !ca.optional));
        for (text, mistake) in [
            (web.to_owned(), "plugind.toml:3:13: client-ca must not be set without"),
            (format!("{web}[[sockets.web.tls]]\nkey = \"a\"\n"), "plugind.toml:4:"),
            (
                format!("{web}[[sockets.web.tls]]\ncertificate = \"a/b\"\nkey = \"c\"\n"),
                "plugind.toml:5:15: sockets.web.tls.certificate: \"a/b\" is not",
            ),
        ] {
            let mistakes = parse(&text).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(mistakes[0].to_string().starts_with(mistake), "{mistakes:?}");
        }
    }
}
