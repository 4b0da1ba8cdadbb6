//! A table of a document, from which each known key is taken once; what is left over is unknown.
//!
//! Serde stops at the first mistake and loses the place of some; this reader does neither.

use crate::base::suggest::suggest;
use crate::config::{
    diagnostic::{Diagnostic, Origin},
    document::{At, Document, Entries, Node, ValueKind, entries, is_tables},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
};
use toml::de::DeValue;

/// One table of a [`Document`].
pub struct Table<'a> {
    document: &'a Document,
    entries: &'a Entries<'a>,
    /// Where a table of a list begins; none: there is but one of its name.
    at: Option<At>,
    /// `service.` for the keys of `[service]`, nothing for those at the top.
    prefix: String,
    known: RefCell<BTreeSet<&'static str>>,
}

impl Document {
    /// Reads the document with `read`.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of files and lines.
    pub fn read<T>(&self, read: impl FnOnce(&Table<'_>) -> T) -> Result<T, Vec<Diagnostic>> {
        let read = self.with_merged(|entries| {
            let table = Table::new(self, entries, String::new());
            let read = read(&table);
            table.report_the_rest();
            read
        });
        let mistakes = self.mistakes();
        read.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }
}

impl<'a> Table<'a> {
    fn new(document: &'a Document, entries: &'a Entries<'a>, prefix: String) -> Self {
        Self { document, entries, at: None, prefix, known: RefCell::default() }
    }

    /// The boolean under `key`.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        self.take(key, "true or false", |value| value.as_bool())
    }

    /// The whole number under `key`, which must be at least `least`.
    pub fn number(&self, key: &'static str, least: u32) -> Option<u32> {
        let wanted = format!("a whole number of at least {least}");
        self.take(key, &wanted, |value| {
            let integer = value.as_integer()?;
            let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            (number >= least).then_some(number)
        })
    }

    /// The text under `key`.
    pub fn text(&self, key: &'static str) -> Option<String> {
        self.take(key, "text in quotes", |value| value.as_str().map(str::to_owned))
    }

    /// Parses the text under `key`.
    pub fn parsed<T: FromStr<Err: Display>>(&self, key: &'static str) -> Option<T> {
        let node = self.node(key)?;
        let Some(text) = node.value().and_then(DeValue::as_str) else {
            let message =
                format!("{}{key} must be text in quotes, not {}", self.prefix, node.shown());
            self.document.report(&node.at, message);
            return None;
        };
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.document.report(&node.at, format!("{}{key}: {error}", self.prefix));
                None
            }
        }
    }

    /// One of `choices`, by its name.
    pub fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let wanted = match names.as_slice() {
            [one] => one.clone(),
            all => format!("one of {}", all.join(", ")),
        };
        self.take(key, &wanted, |value| {
            let text = value.as_str()?;
            choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice)
        })
    }

    /// Reads the table `[key]` with `read`; an absent one is read as an empty one.
    pub fn table<T>(&self, key: &'static str, read: impl FnOnce(&Table<'_>) -> T) -> T {
        let empty = Entries::new();
        let entries = self.entries_of(key).unwrap_or(&empty);
        let table = Table::new(self.document, entries, format!("{}{key}.", self.prefix));
        let read = read(&table);
        table.report_the_rest();
        read
    }

    /// Reads each of the tables `[key.NAME]` with `read`.
    pub fn named<N: FromStr<Err: Display> + Ord, T>(
        &self,
        key: &'static str,
        read: impl Fn(&N, &Table<'_>) -> T,
    ) -> BTreeMap<N, T> {
        let mut all = BTreeMap::new();
        for (name, (at, node)) in self.entries_of(key).into_iter().flatten() {
            let path = format!("{}{key}.{name}", self.prefix);
            let (name, entries) = match (name.parse(), &node.kind) {
                (Ok(name), ValueKind::Table(entries)) => (name, entries),
                (Ok(_), ValueKind::Value(_)) => {
                    let message = format!("{path} must be a table [{path}], not {}", node.shown());
                    self.document.report(&node.at, message);
                    continue;
                }
                (Err(error), _) => {
                    self.document.report(at, format!("{path}: {error}"));
                    continue;
                }
            };
            let table = Table::new(self.document, entries, format!("{path}."));
            let read = read(&name, &table);
            all.insert(name, read);
            table.report_the_rest();
        }
        all
    }

    /// Reads each of the tables `[[key]]` with `read`.
    pub fn tables<T>(&self, key: &'static str, mut read: impl FnMut(&Table<'_>) -> T) -> Vec<T> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let array = match node.value().and_then(DeValue::as_array) {
            Some(array) if array.is_empty() || is_tables(array) => array,
            _ => {
                let message = format!(
                    "{}{key} must be a list of tables [[{}{key}]], not {}",
                    self.prefix,
                    self.prefix,
                    node.shown()
                );
                self.document.report(&node.at, message);
                return Vec::new();
            }
        };
        let mut all = Vec::new();
        for value in array.iter() {
            let Some(table) = value.get_ref().as_table() else { continue };
            // A list comes from one file, and so does all that is in it.
            let file = node.at.file;
            let entries = entries(file, table);
            let mut table = Table::new(self.document, &entries, format!("{}{key}.", self.prefix));
            table.at = Some(At { file, bytes: value.span() });
            all.push(read(&table));
            table.report_the_rest();
        }
        all
    }

    /// The list of texts under `key`, each as `parse` takes it.
    pub fn list<T, E: Display>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        let Some(node) = self.node(key) else { return all };
        let Some(array) = node.value().and_then(DeValue::as_array) else {
            let message =
                format!("{}{key} must be a list [\"…\"], not {}", self.prefix, node.shown());
            self.document.report(&node.at, message);
            return all;
        };
        for value in array.iter() {
            let wrong = match value.get_ref().as_str().map(&parse) {
                Some(Ok(parsed)) => {
                    all.push(parsed);
                    continue;
                }
                Some(Err(error)) => format!("{}{key}: {error}", self.prefix),
                None => {
                    let what = shown(value.get_ref());
                    format!("{}{key} must contain only text in quotes, not {what}", self.prefix)
                }
            };
            let at = At { file: node.at.file, bytes: value.span() };
            self.document.report(&at, wrong);
        }
        all
    }

    /// The table `[key]` of texts with keys of the author's own.
    pub fn texts(&self, key: &'static str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (name, (_, node)) in self.entries_of(key).into_iter().flatten() {
            match node.value().and_then(DeValue::as_str) {
                Some(text) => drop(texts.insert((*name).to_owned(), text.to_owned())),
                None => {
                    let message = format!(
                        "{}{key}.{name} must be text in quotes, not {}",
                        self.prefix,
                        node.shown()
                    );
                    self.document.report(&node.at, message);
                }
            }
        }
        texts
    }

    /// Reports a mistake in the value of `key` as a whole, which is there; or, in a table of a list, about its absence.
    pub fn complain_about(&self, key: &str, message: impl Into<String>) {
        let value = self.entries.get(key).map(|(_, node)| &node.at);
        if let Some(at) = value.or(self.at.as_ref()) {
            self.document.report(at, message);
        }
    }

    /// Where the value of `key` was written.
    pub fn origin(&self, key: &str) -> Origin {
        Origin(self.entries.get(key).map(|(_, node)| self.document.place(&node.at)))
    }

    fn entries_of(&self, key: &'static str) -> Option<&'a Entries<'a>> {
        let node = self.node(key)?;
        if let ValueKind::Table(entries) = &node.kind {
            return Some(entries);
        }
        let prefix = &self.prefix;
        let message =
            format!("{prefix}{key} must be a table [{prefix}{key}], not {}", node.shown());
        self.document.report(&node.at, message);
        None
    }

    fn take<T>(
        &self,
        key: &'static str,
        wanted: &str,
        take: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(key)?;
        let taken = node.value().and_then(take);
        if taken.is_none() {
            let message = format!("{}{key} must be {wanted}, not {}", self.prefix, node.shown());
            self.document.report(&node.at, message);
        }
        taken
    }

    fn node(&self, key: &'static str) -> Option<&'a Node<'a>> {
        self.known.borrow_mut().insert(key);
        self.entries.get(key).map(|(_, node)| node)
    }

    fn report_the_rest(&self) {
        let known = self.known.borrow();
        for (name, (at, _)) in self.entries.iter().filter(|(name, _)| !known.contains(**name)) {
            self.report_unknown(at, name, &known);
        }
    }

    fn report_unknown(&self, at: &At, name: &str, known: &BTreeSet<&'static str>) {
        let remedy = match suggest(name, known.iter().copied()) {
            Some(known) => format!("did you mean \"{known}\"?"),
            None => {
                format!("known keys are {}", known.iter().copied().collect::<Vec<_>>().join(", "))
            }
        };
        self.document.report(at, format!("unknown key \"{}{name}\"; {remedy}", self.prefix));
    }
}

impl Node<'_> {
    /// The value, unless it is a table.
    fn value(&self) -> Option<&DeValue<'_>> {
        match &self.kind {
            ValueKind::Table(_) => None,
            ValueKind::Value(value) => Some(value),
        }
    }

    /// The value as it can stand in a sentence.
    fn shown(&self) -> String {
        self.value().map_or_else(|| "a table".to_owned(), shown)
    }
}

/// A value as it can stand in a sentence.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        other => format!("a {}", other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::quantity::Span;
    use std::path::Path;

    #[test]
    fn every_mistake_is_found_at_once_and_reported_at_its_place() {
        let text = "a = 1\nspam = true\n[service]\ntimeout = \"soon\"\nmode = \"fast\"\n[[serve]]\nruote = \"/\"\n[config]\nx = 1\n[grants]\nread = [\"/a\", 1, \"b\"]\n";
        let document = Document::new(Path::new("f.toml"), text);
        let mistakes = document
            .read(|top| {
                top.boolean("a");
                top.table("service", |service| {
                    service.parsed::<Span>("timeout");
                    service.choice("mode", &[("slow", 1), ("slower", 2)]);
                });
                top.tables("serve", |serve| serve.text("route"));
                top.texts("config");
                top.table("grants", |grants| {
                    grants.list("read", |text| match text.starts_with('/') {
                        true => Ok(()),
                        false => Err(format!("{text:?} is not an absolute path")),
                    });
                });
            })
            .unwrap_err();
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "f.toml:1:5: a must be true or false, not 1",
                "f.toml:2:1: unknown key \"spam\"; known keys are a, config, grants, serve, service",
                "f.toml:4:11: service.timeout: \"soon\" is not a time span; write \"30s\", \"5min\" or \"1min 30s\"",
                "f.toml:5:8: service.mode must be one of \"slow\", \"slower\", not \"fast\"",
                "f.toml:7:1: unknown key \"serve.ruote\"; did you mean \"route\"?",
                "f.toml:9:5: config.x must be text in quotes, not 1",
                "f.toml:11:15: grants.read must contain only text in quotes, not 1",
                "f.toml:11:18: grants.read: \"b\" is not an absolute path",
            ]
        );
    }

    #[test]
    fn tables_with_names_of_their_own_are_read_each_for_itself() {
        let read = |text: &str| {
            let document = Document::new(Path::new("f.toml"), text);
            document.read(|top| {
                top.named::<crate::base::name::SocketName, _>("sockets", |_, socket| {
                    socket.text("protocol")
                })
            })
        };
        let sockets = read("[sockets.web]\nprotocol = \"http\"\n[sockets.admin]\n").unwrap();
        assert_eq!(sockets[&"web".parse().unwrap()].as_deref(), Some("http"));
        assert_eq!(sockets[&"admin".parse().unwrap()], None);
        let text = "[sockets]\nWeb = {}\nadmin = 1\n[sockets.web]\nprotocl = \"http\"\n";
        let mistakes: Vec<_> = read(text).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            mistakes,
            [
                "f.toml:2:1: sockets.Web: a name can have only a-z, 0-9 and -, not 'W'",
                "f.toml:3:9: sockets.admin must be a table [sockets.admin], not 1",
                "f.toml:5:1: unknown key \"sockets.web.protocl\"; did you mean \"protocol\"?",
            ]
        );
    }

    #[test]
    fn broken_toml_is_reported_at_its_place_too() {
        let document = Document::new(Path::new("f.toml"), "a = \nb = [1\n");
        let mistakes = document.read(|_| ()).unwrap_err();
        assert!(mistakes[0].to_string().starts_with("f.toml:1:"), "{mistakes:?}");
    }

    #[test]
    fn a_later_file_overrides_each_key_and_mistakes_name_their_own_file() {
        let mut document = Document::new(
            Path::new("f.toml"),
            "required = 1\n[service]\nrestart = \"no\"\n[[serve]]\nroute = \"/a\"\n[[serve]]\n[config]\na = \"1\"\nb = \"1\"\n",
        );
        document.add(
            Path::new("d/1.toml"),
            "required = true\n[service]\nrestrat = \"no\"\n[[serve]]\nroute = \"/b\"\n[config]\nb = \"2\"\n",
        );
        let read = |document: &Document| {
            document.read(|top| {
                let required = top.boolean("required");
                top.table("service", |service| service.text("restart"));
                let routes = top.tables("serve", |serve| serve.text("route"));
                (required, routes, top.texts("config"))
            })
        };
        let lines: Vec<_> = read(&document).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["d/1.toml:3:1: unknown key \"service.restrat\"; did you mean \"restart\"?"]
        );
        document.add(Path::new("d/2.toml"), "service = 7\n");
        let lines: Vec<_> = read(&document).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["d/2.toml:1:11: service must be a table [service], not 7"]);
        document.add(Path::new("d/3.toml"), "service = {}\n");
        let (required, routes, config) = read(&document).unwrap();
        assert_eq!((required, routes), (Some(true), vec![Some("/b".to_owned())]));
        assert_eq!((config["a"].as_str(), config["b"].as_str()), ("1", "2"));
    }

    #[test]
    fn only_the_first_of_very_many_mistakes_in_a_file_are_reported() {
        let text: String = (0..10_000).map(|number| format!("x{number} = 1\n")).collect();
        let mistakes = Document::new(Path::new("f.toml"), text).read(|_| ()).unwrap_err();
        assert_eq!(mistakes.len(), 51);
        assert!(mistakes[50].to_string().contains("9950 more mistakes are not shown"));
    }
}
