//! The files of a project: those of its language, the WIT that it needs, and the SDK where there is one.

use clap::ValueEnum;
use include_dir::{Dir, include_dir};
use std::{collections::BTreeMap, path::PathBuf};

static TEMPLATES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/templates");
static WIT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");
static SDK: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/src");

/// The packages of WASI 0.2 and 0.3, which are a file each.
const WASI_02: &[&str] = &["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
const WASI_03: &[&str] = &["cli", "clocks", "filesystem", "http", "random", "sockets"];

/// The languages that have a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    C,
    Js,
    Python,
}

/// The files of a new project.
pub(super) struct Template {
    /// The name of the language, for people.
    pub(super) language: &'static str,
    directory: &'static str,
    wit: ProjectWit,
}

/// The WIT of a project.
enum ProjectWit {
    /// The package `plugind:plugin` itself, from which the SDK generates its bindings, with the SDK.
    Sdk,
    /// A world of its own, and the packages that it needs.
    World { file: &'static str, wasi: &'static str, packages: &'static [&'static str] },
}

const HTTP_02: ProjectWit =
    ProjectWit::World { file: "wit/http-0.2.wit", wasi: "wasi-0.2", packages: WASI_02 };
const HTTP_03: ProjectWit =
    ProjectWit::World { file: "wit/http-0.3.wit", wasi: "deps", packages: WASI_03 };

impl Template {
    /// The template for a language.
    pub(super) const fn of(language: Language) -> Self {
        match language {
            Language::Rust => Self { language: "Rust", directory: "rust", wit: ProjectWit::Sdk },
            Language::C => Self { language: "C", directory: "c", wit: HTTP_02 },
            Language::Js => Self { language: "JavaScript", directory: "js", wit: HTTP_03 },
            Language::Python => Self { language: "Python", directory: "python", wit: HTTP_03 },
        }
    }
}

/// All files of a project for the plugin `name`, by their paths within it.
pub(super) fn render(template: &Template, name: &str) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let manifest = TEMPLATES.get_file("plugin.toml").and_then(|file| file.contents_utf8());
    files.insert(PathBuf::from(format!("{name}.toml")), manifest.unwrap_or_default().to_owned());
    if let Some(own) = TEMPLATES.get_dir(template.directory) {
        put_all(own, "", &mut files);
    }
    match template.wit {
        ProjectWit::Sdk => {
            put_package("wit", &mut files);
            put_directory("deps/config", "wit/deps/config", &mut files);
            put_all(&SDK, "vendor/plugind-sdk/src", &mut files);
        }
        ProjectWit::World { file, wasi, packages } => {
            let world = TEMPLATES.get_file(file).and_then(|file| file.contents_utf8());
            files.insert("wit/world.wit".into(), world.unwrap_or_default().to_owned());
            put_package("wit/deps/plugind-plugin", &mut files);
            put_directory("deps/config", "wit/deps/wasi-config", &mut files);
            for package in packages {
                let text = WIT.get_file(format!("{wasi}/{package}.wit"));
                let text = text.and_then(|file| file.contents_utf8()).unwrap_or_default();
                let path = format!("wit/deps/wasi-{package}/{package}.wit");
                files.insert(path.into(), text.to_owned());
            }
        }
    }
    let named = files.into_iter().map(|(path, text)| {
        (path, text.replace("@NAME@", name).replace("@IDENT@", &name.replace('-', "_")))
    });
    named.collect()
}

/// Puts the files of the package `plugind:plugin` into this directory.
fn put_package(into: &str, files: &mut BTreeMap<PathBuf, String>) {
    let is_wit =
        |file: &&include_dir::File<'_>| file.path().extension().is_some_and(|it| it == "wit");
    for file in WIT.files().filter(is_wit) {
        put(file, file.path(), into, files);
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

    #[test]
    fn a_project_has_all_files_of_its_language_with_the_name_filled_in() {
        for language in Language::value_variants() {
            let files = render(&Template::of(*language), "my-plugin");
            let common = ["my-plugin.toml", "README.md", ".gitignore", "pluginctl.toml"];
            for path in common {
                assert!(files.contains_key(&PathBuf::from(path)), "{language:?}: {path}");
            }
            for (path, text) in &files {
                assert!(!text.is_empty(), "{language:?}: {} is empty", path.display());
                let placeholder = ["@NAME@", "@IDENT@"].iter().find(|word| text.contains(**word));
                assert_eq!(placeholder, None, "{language:?}: {}", path.display());
            }
            let readme = &files[&PathBuf::from("README.md")];
            assert!(readme.lines().count() <= 12, "{language:?}: the README is long");
        }
    }

    #[test]
    fn a_guest_of_one_version_of_wasi_gets_nothing_of_the_other() {
        for (language, own, other) in
            [(Language::C, "0.2.", "@0.3."), (Language::Js, "0.3.", "@0.2.1")]
        {
            let files = render(&Template::of(language), "x");
            let http = &files[&PathBuf::from("wit/deps/wasi-http/http.wit")];
            assert!(http.starts_with(&format!("package wasi:http@{own}")));
            for (path, text) in files.iter().filter(|(path, _)| path.starts_with("wit")) {
                let names = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let of_other: Vec<_> =
                    names.filter(|line| line.contains("wasi:") && line.contains(other)).collect();
                assert_eq!(of_other, [""; 0], "{language:?}: {}", path.display());
            }
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
    fn the_sdk_of_a_project_has_the_dependencies_of_the_sdk() {
        let own = include_str!("../../../../plugins/sdk/Cargo.toml");
        let copy = TEMPLATES.get_file("rust/vendor/plugind-sdk/Cargo.toml").unwrap();
        let of = |text: &str| {
            let lines = text.lines().skip_while(|line| *line != "[features]");
            let lines = lines
                .take_while(|line| *line != "[lints]")
                .map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned());
            lines.filter(|line| !line.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(of(copy.contents_utf8().unwrap()), of(own));
    }
}
