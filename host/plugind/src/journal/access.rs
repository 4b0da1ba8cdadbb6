//! Entries of the access log, one for each request: with fields, or as a line that other programs read.

use crate::{
    base::{
        name::{PluginName, SocketName},
        request_identity::RequestIdentity,
    },
    config::settings::AccessLog,
};
use serde_json::json;
use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

/// One request that was answered.
#[derive(Clone, Debug)]
pub struct AccessEntry {
    /// Its format.
    pub format: AccessLog,
    /// The socket.
    pub socket: SocketName,
    /// The plugin that has its route, if one has.
    pub plugin: Option<PluginName>,
    /// The client.
    pub client: String,
    /// The method.
    pub method: String,
    /// The host that the client asked for, as far as it is known.
    pub host: String,
    /// Path and query, as the client wrote them.
    pub target: String,
    /// The protocol, as in `HTTP/1.1`.
    pub protocol: &'static str,
    /// The status of the response.
    pub status: u16,
    /// The number of bytes of its body that were given to the connection.
    pub bytes: u64,
    /// When the request arrived.
    pub begun: SystemTime,
    /// The time until the last byte was given to the connection.
    pub duration: Duration,
    /// `Referer`
    pub referer: String,
    /// `User-Agent`
    pub user_agent: String,
    /// The identity of the request, if it was well-formed.
    pub request: Option<RequestIdentity>,
}

/// The months of the combined format.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl AccessEntry {
    /// The line that other programs read, if the format has lines.
    pub(super) fn line(&self) -> Option<String> {
        match self.format {
            AccessLog::Journal => None,
            AccessLog::Combined => Some(self.combined()),
            AccessLog::Json => Some(self.json()),
        }
    }

    /// The format of Apache and nginx.
    fn combined(&self) -> String {
        let Self { client, method, target, protocol, status, bytes, .. } = self;
        let (method, target) = (Quoted(method), Quoted(target));
        let or_none = |text: &str| Quoted(if text.is_empty() { "-" } else { text }).to_string();
        let (referer, user_agent) = (or_none(&self.referer), or_none(&self.user_agent));
        let time = self.time();
        format!(
            "{client} - - [{time}] \"{method} {target} {protocol}\" {status} {bytes} \"{referer}\" \"{user_agent}\""
        )
    }

    /// When the request arrived, as in `10/Oct/2000:13:55:36 +0000`.
    fn time(&self) -> String {
        let time = humantime::format_rfc3339_seconds(self.begun).to_string();
        let month = time.get(5..7).and_then(|month| month.parse::<usize>().ok());
        let month = month.and_then(|month| MONTHS.get(month.checked_sub(1)?));
        let part = |range| time.get(range).unwrap_or_default();
        let (year, day, clock) = (part(0..4), part(8..10), part(11..19));
        format!("{day}/{}/{year}:{clock} +0000", month.unwrap_or(&"-"))
    }

    fn json(&self) -> String {
        let line = json!({
            "time": humantime::format_rfc3339_micros(self.begun).to_string(),
            "socket": self.socket.as_str(),
            "plugin": self.plugin.as_ref().map(PluginName::as_str),
            "client": self.client,
            "method": self.method,
            "host": self.host,
            "target": self.target,
            "protocol": self.protocol,
            "status": self.status,
            "bytes": self.bytes,
            "duration_usec": self.duration_usec(),
            "referer": self.referer,
            "user_agent": self.user_agent,
            "request_id": self.request.map(|request| request.request_id().to_string()),
            "trace_id": self.request.map(|request| request.trace_id().to_string()),
        });
        ascii(&line.to_string())
    }

    /// Returns the duration, in microseconds.
    pub(super) fn duration_usec(&self) -> u64 {
        u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX)
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn length(&self) -> usize {
        let texts = [&self.client, &self.method, &self.host, &self.target, &self.referer];
        texts.iter().map(|text| text.len()).sum::<usize>() + self.user_agent.len()
    }
}

/// A text between quotes of the combined format, escaped so that it cannot end them.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=b'~' => f.write_char(byte.into())?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

/// The same JSON without characters that a terminal or a reader of lines could take for something else. Such characters
/// are only in strings.
fn ascii(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if c == ' ' || c.is_ascii_graphic() {
            line.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    line
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::journal) fn entry(format: AccessLog) -> AccessEntry {
        let traceparent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        AccessEntry {
            format,
            socket: "web".parse().unwrap(),
            plugin: Some("hello".parse().unwrap()),
            client: "192.0.2.7".to_owned(),
            method: "GET".to_owned(),
            host: "a.example".to_owned(),
            target: "/hello?a=\"b".to_owned(),
            protocol: "HTTP/1.1",
            status: 200,
            bytes: 12,
            begun: SystemTime::UNIX_EPOCH + Duration::from_secs(951_827_696),
            duration: Duration::from_micros(1500),
            referer: String::new(),
            user_agent: "curl\n1\\".to_owned(),
            request: RequestIdentity::parse(traceparent),
        }
    }

    #[test]
    fn a_combined_line_is_read_in_one_way_only() {
        let line = entry(AccessLog::Combined).line().unwrap();
        assert_eq!(
            line,
            "192.0.2.7 - - [29/Feb/2000:12:34:56 +0000] \"GET /hello?a=\\\"b HTTP/1.1\" 200 12 \"-\" \
             \"curl\\x0a1\\\\\""
        );
    }

    #[test]
    fn json_has_no_character_that_means_something_to_a_terminal() {
        let text = "\u{85}\u{202e}\u{7f}\u{1f980}é\"";
        let json = ascii(&json!({ "a": text }).to_string());
        assert!(json.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["a"], text);
    }

    #[test]
    fn a_line_of_json_has_every_field() {
        let line = entry(AccessLog::Json).line().unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2000-02-29T12:34:56.000000Z");
        assert_eq!(value["target"], "/hello?a=\"b");
        assert_eq!((&value["status"], &value["bytes"]), (&json!(200), &json!(12)));
        assert_eq!(value["duration_usec"], 1500);
        assert_eq!(value["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(value.as_object().unwrap().len(), 15);
        assert!(entry(AccessLog::Journal).line().is_none());
    }
}
