//! The reference of the interfaces, `plugins/reference.md`, is generated from the comments of `wit/`.
//!
//! With `GOLDEN=write` in the environment it is written instead of compared.

use std::{fmt::Write as _, fs, path::Path};

/// The interfaces and the worlds, in the order of the page.
const FILES: [&str; 11] = [
    "lifecycle",
    "handover",
    "journal",
    "notify",
    "identity",
    "credentials",
    "connections",
    "datagram-handler",
    "websockets",
    "types",
    "world",
];

const HEAD: &str = "# The interfaces of `plugind:plugin`

This page is generated from the comments of `wit/` by `make reference`.
";

/// Comments that wait for their item, and an item that is not complete.
#[derive(Default)]
struct Page {
    text: String,
    docs: Vec<String>,
    item: Vec<String>,
    /// The last item had no comment, so that the next one without a comment stands beside it.
    is_bare: bool,
}

impl Page {
    /// Reads a file line by line: an interface or a world has no indentation, and its items have two spaces.
    fn read(&mut self, file: &str) {
        self.docs.clear();
        for line in file.lines() {
            let inner = line.strip_prefix("  ").unwrap_or(line);
            if !self.item.is_empty() {
                self.item.push(inner.to_owned());
                self.end_item(inner);
            } else if let Some(text) = inner.strip_prefix("///") {
                self.docs.push(text.strip_prefix(' ').unwrap_or(text).to_owned());
            } else if line.starts_with("package ") {
                self.heading(2, "The package");
            } else if let Some(name) = named(line, "interface") {
                self.heading(2, &format!("Interface `{name}`"));
            } else if let Some(name) = named(line, "world") {
                self.heading(2, &format!("World `{name}`"));
            } else if inner.starts_with(|it: char| it.is_ascii_lowercase()) {
                self.item.push(inner.to_owned());
                self.end_item(inner);
            }
        }
    }

    fn heading(&mut self, level: usize, title: &str) {
        self.is_bare = false;
        write!(self.text, "\n{} {title}\n\n", "#".repeat(level)).expect("it is a String");
        for line in self.docs.drain(..) {
            // In a page, the code of other languages is only shown.
            self.text.push_str(&line.replace("rust,ignore", "rust"));
            self.text.push('\n');
        }
    }

    /// Ends the item if this was its last line. What has no comment needs no heading.
    fn end_item(&mut self, line: &str) {
        if line != "}" && !line.ends_with(';') || line.starts_with("  ") {
            return;
        }
        let first = self.item.first().map(String::as_str).unwrap_or_default();
        let words: Vec<_> = first.split([':', ' ', '{']).filter(|it| !it.is_empty()).collect();
        let name = match words.as_slice() {
            ["enum" | "variant" | "record" | "resource" | "flags" | "type", name, ..]
            | [name, ..] => (*name).to_owned(),
            [] => String::new(),
        };
        let is_bare = self.docs.is_empty();
        if is_bare && self.is_bare {
            self.text.truncate(self.text.len() - "```\n".len());
        } else {
            if !is_bare {
                self.heading(3, &format!("`{name}`"));
            }
            self.text.push_str("\n```wit\n");
        }
        self.is_bare = is_bare;
        write!(self.text, "{}\n```\n", self.item.join("\n")).expect("it is a String");
        self.item.clear();
    }
}

/// The name in the first line of an interface or a world.
fn named<'a>(line: &'a str, what: &str) -> Option<&'a str> {
    line.strip_prefix(what)?.strip_prefix(' ')?.strip_suffix(" {")
}

#[test]
fn the_reference_is_generated_from_the_comments_of_the_interfaces() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut page = Page { text: HEAD.to_owned(), ..Page::default() };
    for file in FILES {
        let path = top.join("wit").join(file).with_extension("wit");
        page.read(&fs::read_to_string(&path).expect("the file is there"));
    }
    let count = fs::read_dir(top.join("wit")).expect("it is a directory").flatten();
    let wit = count.filter(|it| it.path().extension().is_some_and(|it| it == "wit"));
    assert_eq!(wit.count(), FILES.len(), "each file must be in the reference");
    let path = top.join("plugins/reference.md");
    if std::env::var_os("GOLDEN").is_some_and(|it| it == "write") {
        fs::write(&path, &page.text).expect("it can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page.text, "plugins/reference.md is not up to date: run make reference");
}
