//! `[keyvalue]`: where the stores of `wasi:keyvalue` are.

use crate::config::{
    Origin, Table,
    settings::{
        server::{NatsUrl, ServerSetting, ServerUrl, ValkeyUrl},
        tls::CredentialFile,
    },
};

/// Where stores are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyValueBackend {
    /// In files of the state directory.
    #[default]
    Embedded,
    /// In buckets of JetStream.
    Nats(ServerSetting<NatsUrl>),
    /// In a server that speaks the protocol of Redis.
    Valkey(ServerSetting<ValkeyUrl>),
}

#[derive(Clone, Copy)]
enum BackendKind {
    Embedded,
    Nats,
    Valkey,
}

impl KeyValueBackend {
    /// The kind of the server, if stores are on one.
    #[must_use]
    pub fn server(&self) -> Option<&'static str> {
        match self {
            Self::Embedded => None,
            Self::Nats(_) => Some("nats"),
            Self::Valkey(_) => Some("valkey"),
        }
    }

    /// The files that the server needs, each with its key and its place.
    pub(super) fn files(&self) -> Vec<(&'static str, &CredentialFile, &Origin)> {
        match self {
            Self::Embedded => Vec::new(),
            Self::Nats(server) => server.files(),
            Self::Valkey(server) => server.files(),
        }
    }

    pub(super) fn read(table: &Table<'_>) -> Self {
        let kinds = [
            ("embedded", BackendKind::Embedded),
            ("nats", BackendKind::Nats),
            ("valkey", BackendKind::Valkey),
        ];
        let kind = table.choice("backend", &kinds).unwrap_or(BackendKind::Embedded);
        let backend = match kind {
            BackendKind::Nats => server(table, "nats").map(Self::Nats),
            BackendKind::Valkey => server(table, "valkey").map(Self::Valkey),
            BackendKind::Embedded => {
                let unused = [
                    ("url", table.text("url")),
                    ("credential", table.text("credential")),
                    ("ca", table.text("ca")),
                ];
                for (key, _) in unused.iter().filter(|(_, value)| value.is_some()) {
                    let message = format!("keyvalue.{key} needs backend = \"nats\" or \"valkey\"");
                    table.complain_about(key, message);
                }
                None
            }
        };
        backend.unwrap_or_default()
    }
}

fn server<U: ServerUrl>(table: &Table<'_>, kind: &str) -> Option<ServerSetting<U>> {
    let setting = ServerSetting::read(table, "keyvalue");
    if table.origin("url").0.is_none() {
        let message =
            format!("keyvalue.backend = \"{kind}\" needs keyvalue.url, the server's address");
        table.complain_about("backend", message);
    }
    setting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Document,
        settings::{CredentialFile, Settings},
    };
    use std::path::Path;

    #[test]
    fn a_server_needs_an_address_and_the_embedded_stores_have_none() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        assert_eq!(parse("").unwrap().keyvalue, KeyValueBackend::Embedded);
        let text = "[keyvalue]\nbackend = \"nats\"\nurl = \"tls://nats.example\"\ncredential = \"nats\"\n\
                    ca = \"/etc/nats/ca.pem\"\n";
        let KeyValueBackend::Nats(server) = parse(text).unwrap().keyvalue else {
            panic!("it is another backend");
        };
        assert_eq!(server.url.to_string(), "tls://nats.example:4222");
        let credential = server.credential.map(|(file, _)| file);
        assert_eq!(credential, Some(CredentialFile::Credential("nats".to_owned())));
        for (text, mistake) in [
            (
                "backend = \"valkey\"\n",
                "plugind.toml:2:11: keyvalue.backend = \"valkey\" needs keyvalue.url, the server's address",
            ),
            (
                "url = \"nats://a\"\n",
                "plugind.toml:2:7: keyvalue.url needs backend = \"nats\" or \"valkey\"",
            ),
            (
                "backend = \"nats\"\nurl = \"nats://a\"\nca = \"ca.pem\"\n",
                "plugind.toml:4:6: keyvalue.ca needs a URL with TLS under keyvalue.url",
            ),
            (
                "backend = \"valkey\"\nurl = \"valkeys://a\"\n",
                "plugind.toml:3:7: keyvalue.ca is missing; TLS needs the authorities that sign the server's \
                 certificate, as a credential or a file in PEM format",
            ),
            (
                "backend = \"nats\"\nurl = \"valkey://a\"\n",
                "plugind.toml:3:7: keyvalue.url: \"valkey://a\" must be \"nats://HOST:PORT\", or \"tls://HOST:PORT\" \
                 with TLS",
            ),
        ] {
            let mistakes = parse(&format!("[keyvalue]\n{text}")).unwrap_err();
            assert_eq!(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(), [mistake]);
        }
        let mistakes = parse("[keyvalue]\nbackend = \"redis\"\n").unwrap_err();
        let mistake =
            "keyvalue.backend must be one of \"embedded\", \"nats\", \"valkey\", not \"redis\"";
        assert!(mistakes[0].to_string().ends_with(mistake), "{mistakes:?}");
    }
}
