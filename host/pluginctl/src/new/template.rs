//! The files of a project: those of its language, the WIT that it needs, and the SDK where there is one.

use crate::wit::{WIT, package};
use clap::ValueEnum;
use include_dir::{Dir, include_dir};
use std::{collections::BTreeMap, path::PathBuf};

static TEMPLATES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/templates");
static SDK: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/src");
static HARNESS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/test/src");

/// The packages below `wit/deps` from which the SDK generates bindings, besides those of WASI 0.3.
const SDK_PACKAGES: &[&str] = &["config", "keyvalue", "messaging"];
/// The packages of WASI 0.2 and 0.3, which are a file each.
const WASI_02: &[&str] = &["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
const WASI_03: &[&str] = &["cli", "clocks", "filesystem", "http", "random", "sockets"];

/// The languages that have templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    C,
    Js,
    Python,
    Go,
}

/// The kinds of plugins that have templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// It answers HTTP requests
    Http,
    /// It serves the connections of a stream socket
    Connection,
    /// It answers the datagrams of a socket
    Datagram,
    /// It serves WebSockets
    Websocket,
    /// It is a background program
    Job,
}

/// The files of a new project.
pub(super) struct Template {
    language: Language,
    kind: Kind,
}

/// The WIT of a project.
enum ProjectWit {
    /// The package `plugind:plugin` itself, from which the SDK generates its bindings, with the SDK.
    Sdk,
    /// A world of its own, and the packages that it needs.
    World { file: &'static str, wasi: &'static str, packages: &'static [&'static str] },
}

impl Language {
    /// Its name, for people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::Js => "JavaScript",
            Self::Python => "Python",
            Self::Go => "Go",
        }
    }

    /// Its name on the command line and as a directory of the templates.
    const fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Js => "js",
            Self::Python => "python",
            Self::Go => "go",
        }
    }
}

impl Kind {
    /// Its name on the command line and as a directory of the templates.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Connection => "connection",
            Self::Datagram => "datagram",
            Self::Websocket => "websocket",
            Self::Job => "job",
        }
    }

    /// Returns the clause for the README about serving the plugin with `pluginctl run`.
    const fn served(self) -> &'static str {
        match self {
            Self::Http => {
                "serves it on http://127.0.0.1:8080/@NAME@ (or another port, which it prints)"
            }
            Self::Websocket => {
                "serves it on ws://127.0.0.1:8080/@NAME@ (or another port, which it prints)"
            }
            Self::Connection => "serves it on a TCP port of 127.0.0.1, which it prints",
            Self::Datagram => "serves it on a UDP port of 127.0.0.1, which it prints",
            Self::Job => "runs it",
        }
    }

    /// Whether it serves a socket of its own, for which a unit is needed.
    const fn needs_socket(self) -> bool {
        matches!(self, Self::Connection | Self::Datagram)
    }

    /// The directories of its files in that of the language. Later ones are more exact.
    const fn directories(self) -> [&'static str; 3] {
        match self {
            Self::Http | Self::Connection | Self::Datagram | Self::Websocket => {
                ["common", "served", self.word()]
            }
            Self::Job => ["common", self.word(), self.word()],
        }
    }
}

impl Template {
    /// The template for a kind of plugin in a language.
    pub(super) const fn of(language: Language, kind: Kind) -> Self {
        Self { language, kind }
    }

    /// The WIT that it needs. Toolchains without async functions get WASI 0.2.
    fn wit(&self) -> ProjectWit {
        let (file, wasi, packages) = match (self.language, self.kind) {
            (Language::Rust, _) => return ProjectWit::Sdk,
            (_, Kind::Connection | Kind::Datagram | Kind::Websocket) => ("socket", "deps", &[][..]),
            (Language::C | Language::Go, Kind::Http) => ("http-0.2", "wasi-0.2", WASI_02),
            (Language::C, Kind::Job) => ("job-0.2", "wasi-0.2", &[][..]),
            (Language::Go, Kind::Job) => ("job-run-0.2", "wasi-0.2", WASI_02),
            // It cannot import the function of 0.3 that waits, which is async.
            (Language::Js, Kind::Job) => ("job-clock-0.2", "wasi-0.2", WASI_02),
            (_, Kind::Http) => ("http-0.3", "deps", WASI_03),
            (_, Kind::Job) => ("job-0.3", "deps", WASI_03),
        };
        ProjectWit::World { file, wasi, packages }
    }

    /// Fills in what depends on the plugin.
    fn fill_in(&self, text: &str, name: &str) -> String {
        let socket = match self.kind.needs_socket() {
            true => {
                "- `@NAME@.socket` is the unit of its socket: copy it to `/etc/systemd/system`, enable it, and run `systemctl restart plugind` instead of the reload.\n"
            }
            false => "",
        };
        let model = if self.kind == Kind::Job { "command" } else { "reactor" };
        let handler = match (self.language, self.kind) {
            // Its toolchain cannot import async functions.
            (Language::Js, Kind::Connection | Kind::Websocket) => {
                format!("blocking-{}-handler", self.kind.word())
            }
            (_, kind) => format!("{}-handler", kind.word()),
        };
        text.replace("@HANDLER@", &handler)
            .replace("@SERVED@", self.kind.served())
            .replace("@SOCKET@", socket)
            .replace("@MODEL@", model)
            .replace("@NAME@", name)
            .replace("@IDENT@", &name.replace('-', "_"))
    }
}

/// All files of a project for the plugin `name`, by their paths within it.
pub(super) fn render(template: &Template, name: &str) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    put_text("plugin.toml", &format!("{name}.toml"), &mut files);
    put_text(&format!("tests/{}.toml", template.kind.word()), "test.toml", &mut files);
    if template.kind.needs_socket() {
        let unit = format!("sockets/{}.socket", template.kind.word());
        put_text(&unit, &format!("{name}.socket"), &mut files);
    }
    for directory in template.kind.directories() {
        if let Some(own) = TEMPLATES.get_dir(format!("{}/{directory}", template.language.word())) {
            put_all(own, "", &mut files);
        }
    }
    match template.wit() {
        ProjectWit::Sdk => {
            put_package("wit", &mut files);
            for package in SDK_PACKAGES {
                put_directory(
                    &format!("deps/{package}"),
                    &format!("wit/deps/{package}"),
                    &mut files,
                );
            }
            put_wasi("deps", WASI_03, &mut files);
            put_all(&SDK, "vendor/plugind-sdk/src", &mut files);
            put_all(&HARNESS, "vendor/plugind-test/src", &mut files);
        }
        ProjectWit::World { file, wasi, packages } => {
            put_text(&format!("wit/{file}.wit"), "wit/world.wit", &mut files);
            put_package("wit/deps/plugind-plugin", &mut files);
            put_directory("deps/config", "wit/deps/wasi-config", &mut files);
            put_wasi(wasi, packages, &mut files);
        }
    }
    files.into_iter().map(|(path, text)| (path, template.fill_in(&text, name))).collect()
}

/// Puts a file of the templates into the project.
fn put_text(from: &str, path: &str, files: &mut BTreeMap<PathBuf, String>) {
    let text = TEMPLATES.get_file(from).and_then(|file| file.contents_utf8());
    files.insert(path.into(), text.unwrap_or_default().to_owned());
}

/// Puts the files of the package `plugind:plugin` into this directory.
fn put_package(into: &str, files: &mut BTreeMap<PathBuf, String>) {
    files.extend(package().map(|(path, text)| (PathBuf::from(into).join(path), text.to_owned())));
}

/// Puts packages of WASI, which are files of this directory, into the project.
fn put_wasi(from: &str, packages: &[&str], files: &mut BTreeMap<PathBuf, String>) {
    for package in packages {
        let text = WIT.get_file(format!("{from}/{package}.wit"));
        let text = text.and_then(|file| file.contents_utf8()).unwrap_or_default();
        let path = format!("wit/deps/wasi-{package}/{package}.wit");
        files.insert(path.into(), text.to_owned());
    }
}

/// Puts a directory of the WIT into another one.
fn put_directory(from: &str, into: &str, files: &mut BTreeMap<PathBuf, String>) {
    if let Some(directory) = WIT.get_dir(from) {
        put_all(directory, into, files);
    }
}

/// Puts all that is below a directory into another one.
fn put_all(directory: &Dir<'_>, into: &str, files: &mut BTreeMap<PathBuf, String>) {
    put_below(directory, directory, into, files);
}

fn put_below(
    top: &Dir<'_>,
    directory: &Dir<'_>,
    into: &str,
    files: &mut BTreeMap<PathBuf, String>,
) {
    for file in directory.files() {
        put(file, file.path().strip_prefix(top.path()).unwrap_or(file.path()), into, files);
    }
    for inner in directory.dirs() {
        put_below(top, inner, into, files);
    }
}

fn put(
    file: &include_dir::File<'_>,
    path: &std::path::Path,
    into: &str,
    files: &mut BTreeMap<PathBuf, String>,
) {
    // Under its real name it would count in the sources of plugind as well.
    let path = match path.file_name() {
        Some(name) if name == "gitignore" => path.with_file_name(".gitignore"),
        _ => path.to_owned(),
    };
    let text = file.contents_utf8().unwrap_or_default();
    files.insert(PathBuf::from(into).join(path), text.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All templates.
    fn all() -> Vec<(Language, Kind, Template)> {
        let kinds = Kind::value_variants();
        let of = |language: &Language| {
            let language = *language;
            kinds.iter().map(move |kind| (language, *kind, Template::of(language, *kind)))
        };
        Language::value_variants().iter().flat_map(of).collect()
    }

    #[test]
    fn every_language_has_every_kind() {
        for (language, kind, _) in all() {
            let directory = format!("{}/{}", language.word(), kind.word());
            assert!(TEMPLATES.get_dir(&directory).is_some(), "{directory}");
        }
    }

    #[test]
    fn a_project_has_all_files_of_its_kind_with_the_name_filled_in() {
        for (language, kind, template) in all() {
            let files = render(&template, "my-plugin");
            let mut paths =
                vec!["my-plugin.toml", "README.md", ".gitignore", "pluginctl.toml", "test.toml"];
            paths.extend(kind.needs_socket().then_some("my-plugin.socket"));
            for path in paths {
                assert!(files.contains_key(&PathBuf::from(path)), "{language:?} {kind:?}: {path}");
            }
            for (path, text) in &files {
                let path = path.display();
                assert!(!text.is_empty(), "{language:?} {kind:?}: {path} is empty");
                let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '@'));
                let mut placeholders = words
                    .filter(|word| word.len() > 2 && word.starts_with('@') && word.ends_with('@'));
                assert_eq!(placeholders.next(), None, "{language:?} {kind:?}: {path}");
            }
            let readme = &files[&PathBuf::from("README.md")];
            assert!(readme.lines().count() <= 12, "{language:?}: the README is long");
        }
    }

    #[test]
    fn a_name_that_is_no_identifier_does_not_appear_in_code() {
        for (language, kind, template) in all() {
            // A WIT identifier can neither be a keyword nor have a part that begins with a digit.
            for (path, text) in render(&template, "resource-02") {
                let extension = path.extension().and_then(|extension| extension.to_str());
                let is_code =
                    matches!(extension, Some("wit" | "rs" | "c" | "h" | "js" | "json" | "py"));
                // The tests in Rust contain the name as text.
                if is_code && !path.starts_with("tests") {
                    let path = path.display();
                    assert!(!text.contains("resource-02"), "{language:?} {kind:?}: {path}");
                }
            }
        }
    }

    #[test]
    fn a_guest_of_one_version_of_wasi_gets_nothing_of_the_other() {
        for (language, kind, template) in all() {
            let files = render(&template, "x");
            let other = match (language, kind) {
                (Language::Rust, _) => continue,
                (Language::C | Language::Go, _) | (Language::Js, Kind::Job) => "@0.3.",
                (Language::Js | Language::Python, _) => "@0.2.1",
            };
            for (path, text) in files.iter().filter(|(path, _)| path.starts_with("wit")) {
                let names = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let of_other: Vec<_> =
                    names.filter(|line| line.contains("wasi:") && line.contains(other)).collect();
                assert_eq!(of_other, [""; 0], "{language:?} {kind:?}: {}", path.display());
            }
        }
    }

    #[test]
    fn a_project_has_the_wit_that_its_sdk_reads() {
        let files = render(&Template::of(Language::Rust, Kind::Http), "x");
        let sources = files.iter().filter(|(path, _)| path.starts_with("vendor/plugind-sdk/src"));
        let read = sources.flat_map(|(_, text)| {
            text.lines().filter_map(|line| line.trim().strip_prefix("path: \"../../"))
        });
        let read: Vec<_> = read.map(|path| path.trim_end_matches("\",")).collect();
        assert!(read.contains(&"wit") && read.contains(&"wit/deps/config"), "{read:?}");
        for directory in read {
            assert!(
                files.keys().any(|path| path.parent() == Some(directory.as_ref())),
                "{directory}"
            );
        }
    }

    #[test]
    fn a_project_has_the_packages_that_its_sdk_and_their_worlds_import() {
        let files = render(&Template::of(Language::Rust, Kind::Http), "x");
        let lines = |directory: &'static str| {
            let files = files.iter().filter(move |(path, _)| path.starts_with(directory));
            files.flat_map(|(_, text)| text.lines().map(str::trim))
        };
        let imports = lines("vendor/plugind-sdk/src").chain(lines("wit"));
        let imported =
            imports.filter_map(|line| line.strip_prefix("import wasi:")?.split_once('/'));
        let mut imported: Vec<_> = imported.map(|(package, _)| package).collect();
        imported.sort_unstable();
        imported.dedup();
        assert!(imported.contains(&"http"), "{imported:?}");
        for package in imported {
            let declared = format!("package wasi:{package}@");
            assert!(lines("wit").any(|line| line.starts_with(&declared)), "{package}");
        }
    }

    #[test]
    fn the_package_plugind_plugin_needs_no_other() {
        let mut files = BTreeMap::new();
        put_package("", &mut files);
        assert!(files.contains_key(&PathBuf::from("lifecycle.wit")));
        for (path, text) in &files {
            let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
            let of_wasi: Vec<_> = code.filter(|line| line.contains("wasi:")).collect();
            assert_eq!(of_wasi, [""; 0], "{}", path.display());
        }
    }

    #[test]
    fn the_crates_of_a_project_have_the_dependencies_of_ours() {
        let of = |text: &str, from: &str| {
            let lines = text.lines().skip_while(|line| *line != from);
            let lines = lines
                .take_while(|line| *line != "[lints]" && !line.starts_with("[dev-dependencies]"))
                .map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned());
            lines.filter(|line| !line.is_empty()).collect::<Vec<_>>()
        };
        for (name, own, from) in [
            ("sdk", include_str!("../../../../plugins/sdk/Cargo.toml"), "[features]"),
            ("test", include_str!("../../../../plugins/test/Cargo.toml"), "[dependencies]"),
        ] {
            let copy = TEMPLATES.get_file(format!("rust/common/vendor/plugind-{name}/Cargo.toml"));
            let copy = copy.unwrap().contents_utf8().unwrap();
            assert_eq!(of(copy, from), of(own, from), "{name}");
        }
    }
}
