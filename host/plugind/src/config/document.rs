//! TOML files that are read as one: tables merge key by key; of any other value the later one counts.

use crate::config::diagnostic::{Diagnostic, Marks, Position};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};
use toml::de::{DeTable, DeValue};

/// Limit of the mistakes reported for one document; nobody reads more.
const REPORTED_MAX: usize = 50;

/// TOML files in the order in which they count, and the mistakes found in them.
#[derive(Default)]
pub struct Document {
    files: Vec<ConfigFile>,
    mistakes: RefCell<Vec<(At, String)>>,
}

struct ConfigFile {
    path: PathBuf,
    text: String,
    marks: Marks,
}

/// Where something stands in the files of a document.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) file: usize,
    pub(super) bytes: Range<usize>,
}

/// A value, of which tables may come from several files.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) at: At,
    pub(super) kind: ValueKind<'a>,
}

#[derive(Clone)]
pub(super) enum ValueKind<'a> {
    Table(Entries<'a>),
    /// Anything but a table.
    Value(&'a DeValue<'a>),
}

/// Values by their keys, each with the place of its key.
pub(super) type Entries<'a> = BTreeMap<&'a str, (At, Node<'a>)>;

/// A value that counts, for showing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it was written.
    pub place: Position,
    /// The table in which it is, as `service` or `serve`; empty at the top.
    pub table: String,
    /// Index of its table among several with this name, from 0; none if there can be only one.
    pub nth: Option<usize>,
    /// Its key as it was written; none: the table is there and empty.
    pub key: Option<String>,
    /// The value as it was written.
    pub value: String,
}

impl Document {
    /// A document of one file with this text; `path` is only for telling where it is from.
    #[must_use]
    pub fn new(path: &Path, text: impl Into<String>) -> Self {
        let mut document = Self::default();
        document.add(path, text);
        document
    }

    /// Adds a file, which takes precedence over those that were added before.
    pub fn add(&mut self, path: &Path, text: impl Into<String>) {
        let text = text.into();
        self.files.push(ConfigFile { path: path.to_owned(), marks: Marks::of(&text), text });
    }

    /// Adds a file whose bytes may not be text.
    ///
    /// # Errors
    /// When they are not UTF-8.
    pub fn add_bytes(&mut self, path: &Path, bytes: Vec<u8>) -> Result<(), Diagnostic> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let end = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..end]).into_owned();
            Diagnostic::at(
                Position::of(path, &before, &Marks::of(&before), end),
                "the file is not UTF-8; save it as UTF-8",
            )
        })?;
        self.add(path, text);
        Ok(())
    }

    /// The files, in the order in which they count.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Their texts, in the same order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.text.as_str())
    }

    /// All values that count, in the order in which a file has them: first those at the top.
    ///
    /// # Errors
    /// When a file is not TOML.
    pub fn settings(&self) -> Result<Vec<Setting>, Vec<Diagnostic>> {
        let settings = self.with_merged(|entries| {
            let mut settings = Vec::new();
            self.list(&mut settings, "", None, entries);
            settings
        });
        settings.ok_or_else(|| self.mistakes())
    }

    /// The files merged, unless one is not TOML; then mistakes say so.
    pub(super) fn with_merged<T>(&self, read: impl FnOnce(&Entries<'_>) -> T) -> Option<T> {
        let parsed: Vec<_> =
            self.files.iter().map(|file| DeTable::parse_recoverable(&file.text)).collect();
        let mut merged = Entries::new();
        for (file, (table, errors)) in parsed.iter().enumerate() {
            for error in errors {
                let bytes = error.span().unwrap_or_default();
                self.report(&At { file, bytes }, error.message());
            }
            merge(&mut merged, entries(file, table.get_ref()));
        }
        parsed.iter().all(|(_, errors)| errors.is_empty()).then(|| read(&merged))
    }

    fn list(
        &self,
        settings: &mut Vec<Setting>,
        table: &str,
        nth: Option<usize>,
        entries: &Entries<'_>,
    ) {
        let text = |at: &At| self.files[at.file].text.get(at.bytes.clone()).unwrap_or_default();
        let below = |key: &At| match table {
            "" => text(key).to_owned(),
            table => format!("{table}.{}", text(key)),
        };
        let mut tables = Vec::new();
        for (key, node) in entries.values() {
            match &node.kind {
                ValueKind::Table(inner) => tables.push((below(key), None, key, inner.clone())),
                ValueKind::Value(DeValue::Array(array)) if is_tables(array) => {
                    for (nth, inner) in array.iter().enumerate() {
                        let Some(inner) = inner.get_ref().as_table() else { continue };
                        tables.push((
                            below(key),
                            Some(nth),
                            key,
                            self::entries(node.at.file, inner),
                        ));
                    }
                }
                ValueKind::Value(_) => settings.push(Setting {
                    place: self.place(&node.at),
                    table: table.to_owned(),
                    nth,
                    key: Some(text(key).to_owned()),
                    value: text(&node.at).to_owned(),
                }),
            }
        }
        for (name, nth, key, inner) in tables {
            if inner.is_empty() {
                let (place, value) = (self.place(key), String::new());
                settings.push(Setting { place, table: name, nth, key: None, value });
            } else {
                self.list(settings, &name, nth, &inner);
            }
        }
    }

    /// Where `at` is.
    pub(super) fn place(&self, at: &At) -> Position {
        let file = &self.files[at.file];
        Position::of(&file.path, &file.text, &file.marks, at.bytes.start)
    }

    pub(super) fn report(&self, at: &At, message: impl Into<String>) {
        self.mistakes.borrow_mut().push((at.clone(), message.into()));
    }

    /// All mistakes, in the order of files and lines.
    pub(super) fn mistakes(&self) -> Vec<Diagnostic> {
        let mut all = self.mistakes.take();
        all.sort_by_key(|(at, _)| (at.file, at.bytes.start));
        let first = all.iter().take(REPORTED_MAX);
        let first = first.map(|(at, message)| Diagnostic::at(self.place(at), message));
        let mut reported: Vec<_> = first.collect();
        if let Some((next, _)) = all.get(REPORTED_MAX) {
            let further = all.len() - REPORTED_MAX;
            let message =
                format!("{further} more mistakes are not shown; correct the others first");
            reported.push(Diagnostic::about(&self.files[next.file].path, message));
        }
        reported
    }
}

/// The values of one file's table.
pub(super) fn entries<'a>(file: usize, table: &'a DeTable<'a>) -> Entries<'a> {
    let entry = |(key, value): (&'a toml::Spanned<_>, &'a toml::Spanned<DeValue<'a>>)| {
        let name: &std::borrow::Cow<'a, str> = key.get_ref();
        let kind = match value.get_ref() {
            DeValue::Table(table) => ValueKind::Table(entries(file, table)),
            value => ValueKind::Value(value),
        };
        let node = Node { at: At { file, bytes: value.span() }, kind };
        (name.as_ref(), (At { file, bytes: key.span() }, node))
    };
    table.iter().map(entry).collect()
}

fn merge<'a>(earlier: &mut Entries<'a>, later: Entries<'a>) {
    for (key, (at, node)) in later {
        match (earlier.get_mut(key), node) {
            (
                Some((_, Node { kind: ValueKind::Table(earlier), .. })),
                Node { kind: ValueKind::Table(later), .. },
            ) => merge(earlier, later),
            (_, node) => drop(earlier.insert(key, (at, node))),
        }
    }
}

/// Whether an array is what `[[key]]` makes.
pub(super) fn is_tables(array: &toml::de::DeArray<'_>) -> bool {
    !array.is_empty() && array.iter().all(|value| value.get_ref().is_table())
}
