//! Proves that messages and documents are written in plain English: without the words of a list, each of which has a
//! replacement. Refuses long sentences in the texts that operators read.

#[path = "language/files.rs"]
mod files;
#[path = "language/texts.rs"]
mod texts;
#[path = "language/words.rs"]
mod words;

use files::{below, documents, parsed, read, sources};
use std::collections::BTreeMap;
use texts::{Passage, Source, Word, comments, document, longer_than, words};
use words::UNUSED;

const LONGEST_NAME: usize = 80;
const LONGEST_SENTENCE: usize = 35;

/// Returns the words of the list that are in this passage: the line, the words, and the replacement.
fn unused_in(passage: &[Word]) -> Vec<(usize, &'static str, &'static str)> {
    let mut found = Vec::new();
    for (spellings, replacement) in UNUSED {
        for spelling in *spellings {
            let wanted: Vec<_> = spelling.split(' ').collect();
            for window in passage.windows(wanted.len()) {
                let same = |(word, wanted): (&Word, &&str)| word.text.to_lowercase() == **wanted;
                if window.iter().zip(&wanted).all(same) {
                    found.push((window[0].line, *spelling, *replacement));
                }
            }
        }
    }
    found.sort_unstable();
    found
}

/// One line for each word of the list that was found, by file.
type Findings = BTreeMap<String, Vec<String>>;

fn findings<'a>(texts: impl Iterator<Item = (&'a str, Vec<Passage>)>) -> Findings {
    let mut findings = Findings::new();
    for (path, passages) in texts {
        for (line, word, replacement) in passages.iter().flat_map(|it| unused_in(it)) {
            let finding = format!("{path}:{line}: \"{word}\": write {replacement}");
            findings.entry(path.to_owned()).or_default().push(finding);
        }
    }
    findings
}

#[test]
fn messages_and_documents_use_plain_words() {
    let documents: Vec<_> = documents().into_iter().map(|path| (read(&path), path)).collect();
    let of_documents = documents.iter().map(|(text, path)| (path.as_str(), document(path, text)));
    let files: Vec<_> = sources().into_iter().map(|path| (path.clone(), read(&path))).collect();
    let of_sources = parsed(&files).into_iter().map(|(path, source)| (path, source.passages));
    let of_documents: Vec<_> = of_documents.collect();
    let empty: Vec<_> = of_documents.iter().filter(|(_, it)| it.is_empty()).collect();
    assert!(empty.is_empty(), "nothing was read in {empty:?}");
    let texts: Vec<_> = of_documents.into_iter().chain(of_sources).collect();

    let words: usize = texts.iter().flat_map(|(_, passages)| passages).map(Vec::len).sum();
    assert!(texts.len() > 100 && words > 30_000, "only {words} words in {} files", texts.len());

    let found: Vec<_> = findings(texts.into_iter()).into_values().flatten().collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The Rust sources of the programs, the plugins and the tests.
fn rust() -> impl Iterator<Item = String> {
    ["host", "plugins", "tests"].into_iter().flat_map(|path| below(path, ".rs"))
}

#[test]
fn comments_and_names_of_tests_use_plain_words() {
    let (mut texts, mut count) = (Vec::new(), 0);
    // The words themselves, and what is tried with them, are in this check.
    for path in rust().filter(|path| !path.starts_with("tests/checks/language")) {
        let text = read(&path);
        let source = Source::read(&text, true).unwrap_or_else(|it| panic!("{path}: {it}"));
        let names = source.tests.iter().map(|name| words(&name.text.replace('_', " "), name.line));
        let passages: Vec<_> = comments(&text).into_iter().chain(names).collect();
        count += passages.iter().map(Vec::len).sum::<usize>();
        texts.push((path, passages));
    }
    assert!(count > 50_000, "only {count} words were found");
    let texts = texts.iter().map(|(path, passages)| (path.as_str(), passages.clone()));
    let found: Vec<_> = findings(texts).into_values().flatten().collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn names_of_tests_are_short() {
    let (mut long, mut count) = (Vec::new(), 0);
    for path in rust() {
        let source = Source::read(&read(&path), true).unwrap_or_else(|it| panic!("{path}: {it}"));
        count += source.tests.len();
        for name in source.tests.into_iter().filter(|it| it.text.len() > LONGEST_NAME) {
            let Word { line, text } = name;
            long.push(format!("{path}:{line}: {text} must have at most {LONGEST_NAME} characters"));
        }
    }
    assert!(count > 400, "only {count} tests were found");
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// No sentence of the manuals and of README.md may have more than [`LONGEST_SENTENCE`] words.
#[test]
fn sentences_of_manuals_and_readme_are_short() {
    let (mut read_sentences, mut long) = (0, Vec::new());
    for path in documents() {
        if path != "README.md" && !path.starts_with("host/man/") {
            continue;
        }
        for passage in document(&path, &without_synopsis(&read(&path))) {
            read_sentences += longer_than(0, &passage).len();
            for (line, count) in longer_than(LONGEST_SENTENCE, &passage) {
                long.push(format!("{path}:{line}: {count} words"));
            }
        }
    }
    assert!(read_sentences > 500, "only {read_sentences} sentences were found");
    assert_eq!(long, Vec::<String>::new(), "a sentence must have at most {LONGEST_SENTENCE} words");
}

/// A document in which the lines of the section SYNOPSIS are empty: they are no sentences.
fn without_synopsis(text: &str) -> String {
    let mut is_synopsis = false;
    let lines = text.lines().map(|line| {
        if let Some(section) = line.strip_prefix(".Sh ") {
            is_synopsis = section == "SYNOPSIS";
        }
        if is_synopsis { "\n".to_owned() } else { format!("{line}\n") }
    });
    lines.collect()
}

/// The words that are found in a document of this name, with their lines.
fn found_in(name: &str, text: &str) -> Vec<(usize, &'static str)> {
    let passages = document(name, text);
    let found = passages.iter().flat_map(|passage| unused_in(passage));
    found.map(|(line, word, _)| (line, word)).collect()
}

/// The same in a Rust source.
fn found_in_source(text: &str) -> Vec<(usize, &'static str)> {
    let source = Source::read(text, false).expect("the text parses");
    let found = source.passages.iter().flat_map(|passage| unused_in(passage));
    found.map(|(line, word, _)| (line, word)).collect()
}

#[test]
fn every_word_of_the_list_is_found_wherever_it_stands() {
    for (spelling, _) in UNUSED.iter().flat_map(|(all, to)| all.iter().map(move |it| (*it, to))) {
        let text = format!("One\nline {spelling}, and\nmore.\n");
        assert!(found_in("A.md", &text).contains(&(2, spelling)), "{spelling}");
        let text = format!("fn f() {{}}\n/// Once\n/// {spelling}\nfn g() {{}}\n");
        assert!(found_in_source(&text).contains(&(3, spelling)), "{spelling}");
    }
}

#[test]
fn a_word_is_found_in_every_kind_of_document() {
    for (name, text, line) in [
        ("A.md", "# The doors\n", 1),
        ("A.md", "- first\n- **Doors**\n", 2),
        ("A.md", "| a | the doors |\n", 1),
        ("A.md", "```\n# doors\n```\n", 2),
        ("a.5", ".It Cm serve\nThe\n.Em doors\n", 3),
        ("a.5", ".Bd -literal\ndoors\n.Ed\n", 2),
        ("a.5", ".\\\" doors\n", 1),
        ("a.5", ".Nd the doors\n", 1),
        ("a.wit", "interface a {\n    /// The doors.\n    b: func();\n}\n", 2),
        ("a.service", "# The doors\n[Unit]\n", 1),
        ("a.service", "[Unit]\nDescription=The doors\n", 2),
        ("a.catalog", "-- 0123\nSubject: doors\n", 2),
    ] {
        assert_eq!(found_in(name, text), [(line, "doors")], "{name}: {text}");
    }
}

#[test]
fn a_word_is_found_in_every_kind_of_string() {
    for (text, line) in [
        ("/// The doors.\nfn f() {}", 1),
        ("//! The doors.\nfn f() {}", 1),
        ("struct A {\n    /// The doors.\n    a: u8,\n}", 2),
        ("fn f() {\n    g(\"the doors\");\n}", 2),
        ("fn f() {\n    info!(\n        name = 1, \"the doors\");\n}", 3),
        ("fn f() { info!(a, { format!(r#\"the doors\"#) }); }", 1),
        ("const A: &str = \"one\n    doors\";", 2),
        ("const A: &str = \"one\\\n    doors\";", 2),
        ("const A: &str = \"one\\ndoors\";", 1),
        ("const A: &[u8] = b\"doors\";", 1),
        ("enum A {\n    #[error(\"{0}: the doors\")]\n    B(u8),\n}", 2),
        ("#[expect(unused, reason = \"the doors\")]\nfn f() {}", 1),
        ("#[cfg(test)]\nmod tests {\n    /// The doors.\n    fn f() {}\n}", 3),
    ] {
        assert_eq!(found_in_source(text), [(line, "doors")], "{text}");
    }
}

#[test]
fn names_in_code_and_strings_of_tests_are_not_read() {
    for text in [
        "fn doors() {}",
        "/// See [`crate::doors`] and `doors.rs` and `pool/doors`.\nfn f() {}",
        "fn f() { format!(\"{doors} {doors:?}\"); }",
        "#[cfg(test)]\nmod tests {\n    fn f() { g(\"doors\", format!(\"doors\")); }\n}",
        "// doors\nfn f() {}",
        "fn f() { indoors(\"indoors, of doorsteps\") }",
    ] {
        assert_eq!(found_in_source(text), [], "{text}");
    }
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [
        file("src/a.rs", "#[cfg(test)] mod tests; mod b;"),
        file("src/a/tests.rs", "mod c; const A: &str = \"doors\";"),
        file("src/a/tests/c.rs", "const A: &str = \"doors\";"),
        file("src/a/b.rs", "const A: &str = \"doors\";"),
    ];
    let parsed = parsed(&files).into_iter().map(|(path, source)| (path, source.passages));
    assert_eq!(findings(parsed).into_keys().collect::<Vec<_>>(), ["src/a/b.rs"]);
}

#[test]
fn a_phrase_is_found_across_lines_but_not_across_sentences_and_paragraphs() {
    assert_eq!(found_in("A.md", "it goes\non\n"), [(1, "goes on")]);
    assert_eq!(found_in("a.wit", "/// It goes\n/// on.\n"), [(1, "goes on")]);
    assert_eq!(found_in_source("/// It Goes\n/// on.\nfn f() {}"), [(1, "goes on")]);
    for apart in ["it goes. On", "it goes\n\non", "- it goes\n- on", "it goes, on"] {
        assert_eq!(found_in("A.md", apart), [], "{apart}");
    }
    assert_eq!(found_in_source("/// It goes\n///\n/// on.\nfn f() {}"), []);
}

#[test]
fn tests_are_found_by_name_however_they_are_made() {
    let text = "#[test]\nfn one() {}\nmod tests {\n    #[tokio::test]\n    async fn two() {}\n}\n\
                proptest! {\n    #[test]\n    fn three(a in 0..9) {}\n    fn none() {}\n}\nfn no() {}";
    let source = Source::read(text, true).expect("the text parses");
    let names: Vec<_> = source.tests.iter().map(|it| (it.line, it.text.as_str())).collect();
    assert_eq!(names, [(2, "one"), (5, "two"), (9, "three")]);
}

#[test]
fn a_long_sentence_is_found_by_its_words() {
    let sentence = |words: usize| format!("{} end.", "word, ".repeat(words - 1));
    let lengths = |text: &str| -> Vec<_> {
        document("a.5", text).iter().flat_map(|passage| longer_than(35, passage)).collect()
    };
    assert_eq!(lengths(&format!("{}\n{}\n", sentence(35), sentence(36))), [(2, 36)]);
    assert_eq!(
        lengths(&format!("{}\n.Xr a 1 .\n{}\n", "word ".repeat(34), sentence(9))),
        [(1, 36)]
    );
    assert_eq!(lengths(&format!("{}\n.Pp\n{}\n", "word ".repeat(34), sentence(9))), []);
}
