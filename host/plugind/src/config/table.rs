//! A TOML table from which each known key is taken once; what is left over is unknown.
//!
//! Serde would stop at the first mistake and loses the place of some; this reader does neither.

use super::complaint::Complaint;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// How different a key may be from a known one to be taken for a slip of the pen.
const SIMILAR: f64 = 0.7;

/// One TOML file, and what there is to complain about in it.
pub struct Document {
    path: PathBuf,
    text: String,
    complaints: RefCell<Vec<Complaint>>,
}

impl Document {
    /// A document with this text; `path` is only for telling where it is from.
    #[must_use]
    pub fn new(path: &Path, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), text: text.into(), complaints: RefCell::default() }
    }

    /// Reads the document with `read`.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of the lines.
    pub fn read<T>(&self, read: impl FnOnce(&Table<'_>) -> T) -> Result<T, Vec<Complaint>> {
        let (root, errors) = DeTable::parse_recoverable(&self.text);
        for error in errors {
            self.complain(error.span().map_or(0, |span| span.start), error.message());
        }
        let is_toml = self.complaints.borrow().is_empty();
        let read = is_toml.then(|| {
            let table = Table::new(self, root.get_ref(), String::new());
            let read = read(&table);
            table.complain_about_the_rest();
            read
        });
        let mut complaints = self.complaints.take();
        complaints.sort();
        match read {
            Some(read) if complaints.is_empty() => Ok(read),
            _ => Err(complaints),
        }
    }

    fn complain(&self, offset: usize, message: impl Into<String>) {
        let complaint = Complaint::at(&self.path, &self.text, offset, message);
        self.complaints.borrow_mut().push(complaint);
    }
}

/// One table of a [`Document`].
pub struct Table<'a> {
    document: &'a Document,
    table: &'a DeTable<'a>,
    /// `service.` for the keys of `[service]`, nothing for those at the top.
    prefix: String,
    known: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Table<'a> {
    fn new(document: &'a Document, table: &'a DeTable<'a>, prefix: String) -> Self {
        Self { document, table, prefix, known: RefCell::default() }
    }

    /// The boolean under `key`.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        self.take(key, "true or false", |value| value.as_bool())
    }

    /// The whole number under `key`, which must be at least `least`.
    pub fn number(&self, key: &'static str, least: u32) -> Option<u32> {
        let wanted = format!("a whole number from {least} on");
        self.take(key, &wanted, |value| {
            let integer = value.as_integer()?;
            let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            (number >= least).then_some(number)
        })
    }

    /// The text under `key`.
    pub fn text(&self, key: &'static str) -> Option<String> {
        self.take(key, "a text in quotes", |value| value.as_str().map(str::to_owned))
    }

    /// What the text under `key` parses to.
    pub fn parsed<T: FromStr<Err: Display>>(&self, key: &'static str) -> Option<T> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.complain(
                value,
                format!("{}{key} is a text in quotes, not {}", self.prefix, a(value.get_ref())),
            );
            return None;
        };
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.complain(value, format!("{}{key}: {error}", self.prefix));
                None
            }
        }
    }

    /// One of `choices`, by its name.
    pub fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.take(key, &format!("one of {}", names.join(", ")), |value| {
            let text = value.as_str()?;
            choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice)
        })
    }

    /// Reads the table `[key]` with `read`; an absent one is read as an empty one.
    pub fn table<T>(&self, key: &'static str, read: impl FnOnce(&Table<'_>) -> T) -> T {
        let empty = DeTable::new();
        let table = match self.value(key) {
            None => &empty,
            Some(value) => value.get_ref().as_table().unwrap_or_else(|| {
                self.complain(
                    value,
                    format!("{}{key} is a table [{key}], not {}", self.prefix, a(value.get_ref())),
                );
                &empty
            }),
        };
        let table = Table::new(self.document, table, format!("{}{key}.", self.prefix));
        let read = read(&table);
        table.complain_about_the_rest();
        read
    }

    /// Reads each of the tables `[[key]]` with `read`.
    pub fn tables<T>(&self, key: &'static str, mut read: impl FnMut(&Table<'_>) -> T) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let tables: Option<Vec<_>> = value
            .get_ref()
            .as_array()
            .and_then(|array| array.iter().map(|value| value.get_ref().as_table()).collect());
        let Some(tables) = tables else {
            self.complain(value, format!("{}{key} is a list of tables [[{key}]]", self.prefix));
            return Vec::new();
        };
        let mut all = Vec::new();
        for table in tables {
            let table = Table::new(self.document, table, format!("{}{key}.", self.prefix));
            all.push(read(&table));
            table.complain_about_the_rest();
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
        let Some(value) = self.value(key) else { return all };
        let Some(array) = value.get_ref().as_array() else {
            let what = a(value.get_ref());
            self.complain(value, format!("{}{key} is a list [\"…\"], not {what}", self.prefix));
            return all;
        };
        for value in array.iter() {
            match value.get_ref().as_str().map(&parse) {
                Some(Ok(parsed)) => all.push(parsed),
                Some(Err(error)) => self.complain(value, format!("{}{key}: {error}", self.prefix)),
                None => {
                    let what = a(value.get_ref());
                    self.complain(
                        value,
                        format!("{}{key} has texts in quotes, not {what}", self.prefix),
                    );
                }
            }
        }
        all
    }

    /// The table `[key]` of texts with keys of the author's own.
    pub fn texts(&self, key: &'static str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        let Some(value) = self.value(key) else { return texts };
        let Some(table) = value.get_ref().as_table() else {
            self.complain(
                value,
                format!("{}{key} is a table [{key}], not {}", self.prefix, a(value.get_ref())),
            );
            return texts;
        };
        for (name, value) in table {
            match value.get_ref().as_str() {
                Some(text) => drop(texts.insert(name.get_ref().to_string(), text.to_owned())),
                None => self.complain(
                    value,
                    format!(
                        "{}{key}.{} is a text in quotes, not {}",
                        self.prefix,
                        name.get_ref(),
                        a(value.get_ref())
                    ),
                ),
            }
        }
        texts
    }

    /// Complains about the value of `key` as a whole, which is there.
    pub fn complain_about(&self, key: &str, message: impl Into<String>) {
        if let Some(value) = self.table.get(key) {
            self.complain(value, message);
        }
    }

    fn take<T>(
        &self,
        key: &'static str,
        wanted: &str,
        take: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let taken = take(value.get_ref());
        if taken.is_none() {
            self.complain(
                value,
                format!("{}{key} is {wanted}, not {}", self.prefix, shown(value.get_ref())),
            );
        }
        taken
    }

    fn value(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().insert(key);
        self.table.get(key)
    }

    fn complain(&self, value: &Spanned<DeValue<'_>>, message: impl Into<String>) {
        self.document.complain(value.span().start, message);
    }

    fn complain_about_the_rest(&self) {
        let known = self.known.borrow();
        for key in self.table.keys().filter(|key| !known.contains(key.get_ref().as_ref())) {
            let name = key.get_ref();
            let nearest = known
                .iter()
                .map(|known| (strsim::jaro_winkler(known, name), known))
                .filter(|(similarity, _)| *similarity >= SIMILAR)
                .max_by(|(one, _), (other, _)| one.total_cmp(other));
            let remedy = match nearest {
                Some((_, known)) => format!("did you mean \"{known}\"?"),
                None => {
                    format!("known are {}", known.iter().copied().collect::<Vec<_>>().join(", "))
                }
            };
            let message = format!("unknown key \"{}{name}\"; {remedy}", self.prefix);
            self.document.complain(key.span().start, message);
        }
    }
}

/// `an array`, `a table`: what a value is, for saying that it should be something else.
fn a(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// A value as it can stand in a sentence.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        other => a(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Span;

    #[test]
    fn every_mistake_is_found_at_once_and_told_with_its_place() {
        let text = "a = 1\nspam = true\n[service]\ntimeout = \"soon\"\nmode = \"fast\"\n[[serve]]\nruote = \"/\"\n[config]\nx = 1\n[grants]\nread = [\"/a\", 1, \"b\"]\n";
        let document = Document::new(Path::new("f.toml"), text);
        let complaints = document
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
                        false => Err(format!("{text:?} is no absolute path")),
                    });
                });
            })
            .unwrap_err();
        let told: Vec<_> = complaints.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "f.toml:1:5: a is true or false, not 1",
                "f.toml:2:1: unknown key \"spam\"; known are a, config, grants, serve, service",
                "f.toml:4:11: service.timeout: \"soon\" is no span of time; write \"30s\", \"5min\" or \"1min 30s\"",
                "f.toml:5:8: service.mode is one of \"slow\", \"slower\", not \"fast\"",
                "f.toml:7:1: unknown key \"serve.ruote\"; did you mean \"route\"?",
                "f.toml:9:5: config.x is a text in quotes, not an integer",
                "f.toml:11:15: grants.read has texts in quotes, not an integer",
                "f.toml:11:18: grants.read: \"b\" is no absolute path",
            ]
        );
    }

    #[test]
    fn broken_toml_is_told_with_its_place_too() {
        let document = Document::new(Path::new("f.toml"), "a = \nb = [1\n");
        let complaints = document.read(|_| ()).unwrap_err();
        assert!(complaints[0].to_string().starts_with("f.toml:1:"), "{complaints:?}");
    }
}
