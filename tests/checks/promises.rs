//! Proves that SECURITY.md promises nothing without a test: each promise names some, and each that is named is there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use syn::visit::{self, Visit};

/// The beginning of the head of a table of promises.
const HEAD: &str = "| promise |";
/// The heading of the promises, and that of what follows them.
const PROMISES: &str = "\n## What is promised, and what shows it\n";
const NEXT: &str = "\n## ";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether this names a test: `PATH::FUNCTION`, or the path of a program that is one.
fn names_a_test(word: &str) -> bool {
    word.starts_with("tests/") || word.contains("::")
}

/// The functions of a file that are tests, in whatever modules of it.
#[derive(Default)]
struct Tests(BTreeSet<String>);

impl<'a> Visit<'a> for Tests {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().segments.last().is_some_and(|last| last.ident == "test")
        };
        if function.attrs.iter().any(is_test) {
            self.0.insert(function.sig.ident.to_string());
        }
        visit::visit_item_fn(self, function);
    }
}

/// Returns the mistake in the name of a test, if any.
fn missing(named: &str) -> Option<String> {
    let (path, function) = match named.split_once("::") {
        Some((path, function)) => (path, Some(function)),
        None => (named, None),
    };
    let Ok(text) = fs::read_to_string(top().join(path)) else {
        return Some(format!("{named}: there is no such file"));
    };
    let function = function?;
    let mut tests = Tests::default();
    tests.visit_file(&syn::parse_file(&text).expect("the compiler takes it, too"));
    (!tests.0.contains(function)).then(|| format!("{named}: there is no such test"))
}

/// The promises of a text in the form of SECURITY.md: the rows of its tables, without their heads.
fn promises(text: &str) -> Vec<&str> {
    let promises = text.split_once(PROMISES).expect("it has the heading").1;
    let promises = promises.split(NEXT).next().unwrap_or_default();
    let is_head = |line: &&str| line.starts_with(HEAD) || line.starts_with("| ---");
    promises.lines().filter(|line| line.starts_with("| ") && !is_head(line)).collect()
}

/// Returns the mistakes in a row: it names no test, or something other than a test.
fn wrong(promise: &str) -> Vec<String> {
    let Some((_, shown_by)) = promise.trim_matches(['|', ' ']).split_once(" | ") else {
        return vec![format!("{promise}: it has no second column")];
    };
    let named: Vec<_> = quoted(shown_by).collect();
    if named.is_empty() {
        return vec![format!("{promise}: it names no test")];
    }
    let wrong = |named: &&str| match names_a_test(named) {
        true => missing(named),
        false => Some(format!("{named}: write the path of a file and behind it ::NAME")),
    };
    named.iter().filter_map(wrong).collect()
}

#[test]
fn each_promise_names_a_test_and_each_test_that_is_named_is_there() {
    let text = fs::read_to_string(top().join("SECURITY.md")).expect("it is there");
    let promises = promises(&text);
    assert!(promises.len() > 20, "the table is not understood: {promises:?}");
    let wrong: Vec<_> = promises.into_iter().flat_map(wrong).collect();
    assert_eq!(wrong, [""; 0]);
    let elsewhere = quoted(&text).filter(|word| names_a_test(word) && !word.ends_with('/'));
    assert_eq!(elsewhere.filter_map(missing).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_promise_without_a_test_or_with_one_that_is_gone_is_found() {
    const THIS: &str = "tests/checks/promises.rs";
    let here = format!("{THIS}::a_promise_without_a_test_or_with_one_that_is_gone_is_found");
    let rows = [
        (format!("| right | `{here}` |"), 0),
        (format!("| a program | `tests/checks/no-compiler`, `{here}` |"), 0),
        ("| nothing | |".to_owned(), 1),
        ("| words | as everybody knows |".to_owned(), 1),
        ("| a name | `somewhere` |".to_owned(), 1),
        (format!("| no test | `{THIS}::wrong` |"), 1),
        (format!("| gone | `{THIS}::gone`, `tests/checks/gone`, `{here}` |"), 2),
    ];
    let table: String = rows.iter().map(|(row, _)| format!("{row}\n")).collect();
    let text = format!(
        "# Words\n| no | row |\n{PROMISES}\n### One\n{HEAD} b |\n| --- | --- |\n{table}\n### Two\n{HEAD} b |\n\n## Next\n| x | y |\n"
    );
    let found: Vec<_> = promises(&text).into_iter().map(|row| wrong(row).len()).collect();
    assert_eq!(found, rows.map(|(_, wrong)| wrong));
}
