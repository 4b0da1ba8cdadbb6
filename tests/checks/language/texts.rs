//! Reads the words of a file that are meant for people: each with its line, in passages that belong together.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::visit::{self, Visit};

/// A word or a punctuation mark, and the line where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A text that is read as one: a phrase or a sentence does not reach beyond it.
pub(crate) type Passage = Vec<Word>;

/// Characters that end a word and are words of their own.
const MARKS: [char; 10] = ['.', ',', ';', ':', '!', '?', '(', ')', '|', '—'];

/// The words of a text that begins in this line. Paths (`pool/call.rs`), names in code (`pool::Call`) and placeholders
/// (`{name}`) are one word each; a backslash and the character behind it are none.
pub(crate) fn words(text: &str, line: usize) -> Passage {
    let (mut words, mut word, mut line) = (Passage::new(), String::new(), line);
    let mut characters = text.chars().peekable();
    let mut end = |word: &mut String, line| {
        let text = std::mem::take(word);
        let text = text.trim_matches(['\'', '-', '/', '_']).trim_end_matches("'s").to_owned();
        if !text.is_empty() {
            words.push(Word { line, text });
        }
    };
    while let Some(character) = characters.next() {
        let within = |next: Option<&char>| next.is_some_and(|next| next.is_alphanumeric());
        match character {
            '\\' => {
                end(&mut word, line);
                line += usize::from(characters.next() == Some('\n'));
            }
            ':' if characters.peek() == Some(&':') => {
                word.push_str("::");
                characters.next();
            }
            '.' | ':' if !word.is_empty() && within(characters.peek()) => word.push(character),
            _ if MARKS.contains(&character) => {
                end(&mut word, line);
                end(&mut character.to_string(), line);
            }
            _ if character.is_alphanumeric() || "_-'’/{}".contains(character) => {
                word.push(if character == '’' { '\'' } else { character });
            }
            _ => {
                end(&mut word, line);
                line += usize::from(character == '\n');
            }
        }
    }
    end(&mut word, line);
    words
}

/// The passages of a Rust source and the names of its tests.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) passages: Vec<Passage>,
    pub(crate) tests: Vec<Word>,
    /// The modules in files of their own that are compiled for tests only.
    pub(crate) test_modules: BTreeSet<String>,
    /// The line of the last documentation comment, which the next may continue.
    documented: Option<usize>,
    in_tests: bool,
}

impl Source {
    /// Reads string literals and documentation comments; of tests (`in_tests`, `#[cfg(test)]`) only the comments.
    pub(crate) fn read(text: &str, in_tests: bool) -> syn::Result<Self> {
        let mut source = Self { in_tests, ..Self::default() };
        source.visit_file(&syn::parse_file(text)?);
        Ok(source)
    }

    /// Reads the text of a literal, unless it is a number or a character.
    fn literal(&mut self, raw: &str, line: usize) {
        let raw = raw.trim_start_matches(['b', 'c', 'r', '#']);
        if !self.in_tests && raw.starts_with('"') {
            self.passages.push(words(raw, line));
        }
    }

    fn documentation(&mut self, literal: &syn::LitStr) {
        let line = literal.span().start().line;
        let read = words(&literal.value(), line);
        let continues = self.documented.is_some_and(|last| last + 1 == line);
        self.documented = (!read.is_empty()).then_some(line);
        match self.passages.last_mut() {
            Some(passage) if continues => passage.extend(read),
            _ => self.passages.push(read),
        }
    }

    /// The literals in what is not parsed: the arguments of macros and attributes; and tests that a macro makes.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut is_test, mut is_function) = (false, false);
        for token in tokens {
            match token {
                TokenTree::Literal(literal) => {
                    self.literal(&literal.to_string(), literal.span().start().line);
                }
                TokenTree::Ident(ident) if is_test && is_function => {
                    self.test(&ident);
                    (is_test, is_function) = (false, false);
                }
                TokenTree::Ident(ident) => is_function = ident == "fn",
                TokenTree::Group(group) => {
                    is_test |= group.stream().to_string() == "test";
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) => {}
            }
        }
    }

    fn test(&mut self, name: &syn::Ident) {
        self.tests.push(Word { line: name.span().start().line, text: name.to_string() });
    }
}

impl<'a> Visit<'a> for Source {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        let for_tests = module.attrs.iter().any(is_for_tests);
        if for_tests && module.content.is_none() {
            self.test_modules.insert(module.ident.to_string());
        }
        let outside = self.in_tests;
        self.in_tests |= for_tests;
        visit::visit_item_mod(self, module);
        self.in_tests = outside;
    }

    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().segments.last().is_some_and(|last| last.ident == "test")
        };
        if function.attrs.iter().any(is_test) {
            self.test(&function.sig.ident);
        }
        visit::visit_item_fn(self, function);
    }

    fn visit_attribute(&mut self, attribute: &'a syn::Attribute) {
        match &attribute.meta {
            syn::Meta::NameValue(syn::MetaNameValue {
                path,
                value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }),
                ..
            }) if path.is_ident("doc") => self.documentation(text),
            syn::Meta::List(list) => self.tokens(list.tokens.clone()),
            _ => visit::visit_attribute(self, attribute),
        }
    }

    fn visit_macro(&mut self, invocation: &'a syn::Macro) {
        self.tokens(invocation.tokens.clone());
    }

    fn visit_lit(&mut self, literal: &'a syn::Lit) {
        let token = match literal {
            syn::Lit::Str(text) => text.token(),
            syn::Lit::ByteStr(text) => text.token(),
            syn::Lit::CStr(text) => text.token(),
            _ => return,
        };
        self.literal(&token.to_string(), token.span().start().line);
    }
}

fn is_for_tests(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}

/// The comments of a Rust source that are lines of their own.
pub(crate) fn comments(text: &str) -> Vec<Passage> {
    passages(text, comment)
}

/// The passages of a document: its paragraphs, items, cells and headings, by the kind of file.
pub(crate) fn document(name: &str, text: &str) -> Vec<Passage> {
    let extension = name.rsplit('.').next().unwrap_or_default();
    let line: fn(&str, bool) -> Line = match extension {
        "md" => markdown,
        "wit" | "varlink" => comment,
        _ if extension.parse::<u8>().is_ok() => manual,
        _ => unit,
    };
    passages(text, line)
}

fn passages(text: &str, line: fn(&str, bool) -> Line) -> Vec<Passage> {
    let (mut passages, mut passage, mut literal) = (Vec::new(), Passage::new(), false);
    for (index, text) in text.lines().enumerate() {
        let read = line(text, literal);
        literal ^= read.switches_literal;
        if read.begins || literal {
            passages.push(std::mem::take(&mut passage));
        }
        passage.extend(words(read.text, index + 1));
        if read.ends {
            passages.push(std::mem::take(&mut passage));
        }
    }
    passages.push(passage);
    passages.retain(|passage| !passage.is_empty());
    passages
}

/// A line of a document.
#[derive(Default)]
struct Line<'a> {
    text: &'a str,
    /// Whether a passage begins before it, and ends behind it.
    begins: bool,
    ends: bool,
    /// Whether it begins or ends a block that is shown as it is, where each line is a passage.
    switches_literal: bool,
}

fn markdown(line: &str, literal: bool) -> Line<'_> {
    let text = line.trim_start();
    if text.starts_with("```") {
        return Line { begins: true, ends: true, switches_literal: true, ..Line::default() };
    }
    let number = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let is_item = ["- ", "* ", "> "].iter().any(|mark| text.starts_with(mark))
        || (number.len() < text.len() && number.starts_with(". "));
    let is_heading = text.starts_with('#');
    let is_row = text.starts_with('|');
    let begins = literal || text.is_empty() || is_item || is_heading || is_row;
    Line { text, begins, ends: is_heading || is_row, switches_literal: false }
}

/// Rust, WIT and varlink: the other lines of the latter two consist of names.
fn comment(line: &str, _: bool) -> Line<'_> {
    let line = line.trim_start();
    let text = line.strip_prefix("//").or_else(|| line.strip_prefix("# "));
    let text = text.unwrap_or_default().trim_start_matches(['/', '!']).trim_start();
    Line { text, begins: text.is_empty(), ..Line::default() }
}

/// The macros of mdoc that stand within a sentence; all others begin another passage.
const INLINE: [&str; 26] = [
    "Nm", "Xr", "Fl", "Ar", "Cm", "Pa", "Ev", "Er", "Dv", "Va", "Vt", "Ic", "Li", "Ql", "Dq", "Sq",
    "Pq", "Em", "Sy", "No", "Ns", "Op", "Fn", "Lk", "Mt", "Ux",
];

fn manual(line: &str, literal: bool) -> Line<'_> {
    let Some(called) = line.strip_prefix('.') else {
        return Line { text: line, begins: literal, ..Line::default() };
    };
    if let Some(text) = called.strip_prefix("\\\"") {
        // A comment, which is read by itself.
        return Line { text, begins: true, ends: true, ..Line::default() };
    }
    let (name, arguments) = called.split_once(' ').unwrap_or((called, ""));
    match name {
        "Bd" | "Ed" => Line { begins: true, ends: true, switches_literal: true, ..Line::default() },
        _ if INLINE.contains(&name) => Line { text: arguments, begins: literal, ..Line::default() },
        _ => Line { text: arguments, begins: true, ends: true, ..Line::default() },
    }
}

/// Units and the catalog: comments, texts and values.
fn unit(line: &str, _: bool) -> Line<'_> {
    let text = line.strip_prefix('#').unwrap_or(line).trim_start();
    let begins = text.is_empty() || text.starts_with('[') || !line.starts_with('#');
    Line { text, begins, ..Line::default() }
}

/// The sentences of a passage that have more words than this, by the line where each begins, with their lengths.
pub(crate) fn longer_than(max: usize, passage: &[Word]) -> Vec<(usize, usize)> {
    let ends = |word: &Word| matches!(word.text.as_str(), "." | "!" | "?");
    let is_word = |word: &&Word| word.text.chars().any(char::is_alphanumeric);
    let sentences = passage.split(ends);
    let counted = sentences.filter_map(|sentence| {
        let first = sentence.first()?;
        Some((first.line, sentence.iter().filter(is_word).count()))
    });
    counted.filter(|(_, count)| *count > max).collect()
}
