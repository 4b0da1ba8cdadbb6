//! `[messaging]`: the NATS server for messages.

use crate::config::{
    Table,
    settings::server::{NatsUrl, ServerSetting},
};

/// `[messaging]`
pub(super) struct Messaging;

impl Messaging {
    /// The server; none: the daemon has no connection for messages.
    pub(super) fn read(table: &Table<'_>) -> Option<ServerSetting<NatsUrl>> {
        let setting = ServerSetting::read(table, "messaging");
        let others = [("credential", table.origin("credential")), ("ca", table.origin("ca"))];
        if table.origin("url").0.is_none() {
            for (key, _) in others.iter().filter(|(_, origin)| origin.0.is_some()) {
                let message = format!(
                    "messaging.{key} must not be set without messaging.url; write url = \"nats://HOST:4222\""
                );
                table.complain_about(key, message);
            }
        }
        setting
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Document, settings::Settings};
    use std::path::Path;

    #[test]
    fn a_server_has_a_url_and_perhaps_a_credential() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        assert_eq!(parse("").unwrap().messaging, None);
        let text = "[messaging]\nurl = \"nats://nats.example\"\ncredential = \"nats\"\n";
        let server = parse(text).unwrap().messaging.unwrap();
        assert_eq!(server.url.to_string(), "nats://nats.example:4222");
        for (text, mistake) in [
            ("url = \"http://a\"\n", "plugind.toml:2:7: messaging.url: \"http://a\" must be"),
            (
                "credential = \"a\"\n",
                "plugind.toml:2:14: messaging.credential must not be set without messaging.url",
            ),
            ("user = \"a\"\n", "plugind.toml:2:1: unknown key \"messaging.user\""),
        ] {
            let mistakes = parse(&format!("[messaging]\n{text}")).unwrap_err();
            assert!(mistakes[0].to_string().starts_with(mistake), "{mistakes:?}");
        }
    }
}
