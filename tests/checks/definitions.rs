//! The definitions in a crate's files: types, with their places, and functions, with their lengths.

use crate::graph::{attributes, is_for_tests};
use std::path::{Path, PathBuf};
use syn::{
    spanned::Spanned,
    visit::{self, Visit},
};

/// A type or a function in a file. Those for tests are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    /// Number of its lines, without its attributes and documentation.
    pub(crate) lines: usize,
}

/// The structs, enums, unions, traits and aliases that a file defines, not those that an `impl` associates.
pub(crate) fn types(file: &Path, text: &str) -> Vec<Definition> {
    collect(file, text).types
}

/// The functions that a file defines, whether free or of a type.
pub(crate) fn functions(file: &Path, text: &str) -> Vec<Definition> {
    collect(file, text).functions
}

fn collect(file: &Path, text: &str) -> Definitions {
    let parsed = syn::parse_file(text)
        .unwrap_or_else(|error| panic!("cannot parse {}: {error}", file.display()));
    let mut found = Definitions { file: file.to_owned(), types: Vec::new(), functions: Vec::new() };
    found.visit_file(&parsed);
    found
}

struct Definitions {
    file: PathBuf,
    types: Vec<Definition>,
    functions: Vec<Definition>,
}

impl Definitions {
    fn define(&self, name: &syn::Ident, first: usize, last: usize) -> Definition {
        let (name, file) = (name.to_string(), self.file.clone());
        Definition { name, file, line: first, lines: last + 1 - first }
    }

    fn add_type(&mut self, name: &syn::Ident) {
        let line = name.span().start().line;
        self.types.push(self.define(name, line, line));
    }

    fn add_function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        self.functions.push(self.define(&signature.ident, first, last));
    }
}

impl<'ast> Visit<'ast> for Definitions {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if attributes(item).iter().any(is_for_tests) {
            return;
        }
        match item {
            syn::Item::Struct(item) => self.add_type(&item.ident),
            syn::Item::Enum(item) => self.add_type(&item.ident),
            syn::Item::Union(item) => self.add_type(&item.ident),
            syn::Item::Trait(item) => self.add_type(&item.ident),
            syn::Item::TraitAlias(item) => self.add_type(&item.ident),
            syn::Item::Type(item) => self.add_type(&item.ident),
            syn::Item::Fn(item) => self.add_function(&item.sig, &item.block),
            _ => (),
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !function.attrs.iter().any(is_for_tests) {
            self.add_function(&function.sig, &function.block);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add_function(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}
