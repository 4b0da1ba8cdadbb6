//! The handbook for authors quotes messages as they are.

use std::{fs, path::Path};

/// Lines of what `pluginctl check` prints in the golden tests, and of the events that are logged.
fn messages(top: &Path) -> Vec<String> {
    let cases = fs::read_dir(top.join("tests/golden")).expect("it is a directory").flatten();
    let files = cases.filter_map(|case| fs::read_dir(case.path()).ok()).flatten().flatten();
    let expected = files.map(|file| file.path()).filter(|path| {
        path.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with("expected"))
    });
    let texts = expected.chain([top.join("host/man/plugind.8")]);
    let texts = texts.map(|path| fs::read_to_string(path).expect("it is a text"));
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Whether a line has the parts of a message, in their order.
fn has(line: &str, message: &str) -> bool {
    message.split('…').try_fold(line, |rest, part| Some(rest.split_once(part)?.1)).is_some()
}

#[test]
fn the_most_common_mistakes_have_the_messages_of_the_programs() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let handbook = fs::read_to_string(top.join("plugins/README.md")).expect("it is a text");
    let section = handbook.split("## The most common mistakes").nth(1).expect("it is there");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(2);
    let rows: Vec<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(rows.len(), 12, "{rows:?}");
    let messages = messages(&top);
    for message in rows {
        assert!(messages.iter().any(|line| has(line, message)), "{message} is no message");
    }
}

#[test]
fn the_components_of_the_corpus_are_as_many_as_documented() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = |path: &str| fs::read_to_string(top.join(path)).expect("it is a text");
    let (corpus, documented) = (text("tests/corpus"), text("CONTRIBUTING.md"));
    let count = |command: &str| corpus.lines().filter(|line| line.starts_with(command)).count();
    // The functions begin with the same words, and a parenthesis.
    let (run, fail) = (count("serves ") + count("stands_before "), count("fails "));
    assert!(run > 12 && fail > 0, "the corpus is not understood: {run} and {fail}");
    for wanted in [
        format!("{} components in Rust, C, JavaScript and Python", run + fail),
        format!("{run} run unmodified, and {fail} must fail"),
    ] {
        assert!(documented.contains(&wanted), "CONTRIBUTING.md must contain \"{wanted}\"");
    }
}
