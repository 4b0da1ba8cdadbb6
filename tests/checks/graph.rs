//! The graph of what the modules of one crate import from each other, read from its sources.
//!
//! A module is a file. What a `#[cfg(test)]` item imports does not count, nor does the declaration of a child.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A module's place: `["plugin", "cache"]`; the root of the crate is the empty path.
pub(crate) type ModulePath = Vec<String>;

/// Where one module first imports another.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// One crate: its modules, and what each imports.
#[derive(Default)]
pub(crate) struct Graph {
    files: BTreeMap<ModulePath, PathBuf>,
    imports: BTreeMap<ModulePath, BTreeMap<ModulePath, Import>>,
    /// The modules that the root declares, in its order. The layers of a crate are among them.
    pub(crate) layers: Vec<String>,
}

impl Graph {
    /// Reads the crate whose root is the file `root`; `read` answers with a file's text, if there is such a file.
    pub(crate) fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut graph = Self::default();
        let mut parsed = Vec::new();
        let mut pending = vec![(ModulePath::new(), vec![root.to_owned()])];
        while let Some((module, candidates)) = pending.pop() {
            let Some((path, text)) =
                candidates.iter().find_map(|path| Some((path.clone(), read(path)?)))
            else {
                panic!("there is no file for module {}: {candidates:?}", name(&module));
            };
            let file = syn::parse_file(&text)
                .unwrap_or_else(|error| panic!("cannot parse {}: {error}", path.display()));
            let directory = match path.file_stem().and_then(|stem| stem.to_str()) {
                Some("mod") => path.with_file_name(""),
                _ if module.is_empty() => path.with_file_name(""),
                _ => path.with_extension(""),
            };
            for child in children(&file) {
                if module.is_empty() {
                    graph.layers.push(child.clone());
                }
                let candidates = vec![
                    directory.join(format!("{child}.rs")),
                    directory.join(&child).join("mod.rs"),
                ];
                pending.push(([module.as_slice(), &[child]].concat(), candidates));
            }
            graph.files.insert(module.clone(), path);
            parsed.push((module, file));
        }
        for (module, file) in &parsed {
            graph.add(module, file);
        }
        graph
    }

    fn add(&mut self, module: &ModulePath, file: &syn::File) {
        let mut paths = Paths::new(module.clone());
        paths.visit_file(file);
        let Paths { found, names, .. } = paths;
        for Found { scope, path, line, .. } in found {
            let Some(target) = self.resolve(&scope, &path, &names) else { continue };
            if target != *module {
                let import =
                    Import { file: self.files[module].clone(), line, path: path.join("::") };
                self.imports.entry(module.clone()).or_default().entry(target).or_insert(import);
            }
        }
    }

    /// The module that holds what `path` names when it is written in `scope`.
    fn resolve(&self, scope: &[String], path: &[String], names: &Names) -> Option<ModulePath> {
        let mut absolute = self.absolute(scope, path, names, 0)?;
        while !self.files.contains_key(&absolute) {
            absolute.pop()?;
        }
        Some(absolute)
    }

    fn absolute(
        &self,
        scope: &[String],
        path: &[String],
        names: &Names,
        depth: usize,
    ) -> Option<ModulePath> {
        let mut place = scope.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                place.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    place.pop()?;
                    rest = &rest[1..];
                }
            }
            // A child's name, or one that a `use` of this file gave to something else of this crate.
            first if path.len() > 1 => {
                place.push(first.to_owned());
                rest = &path[1..];
                if !self.files.contains_key(&place) {
                    // A name that stands for itself (`use syn::syn`) would be followed for ever.
                    let used = names.get(first).filter(|_| depth < 8)?;
                    place = self.absolute(&used.scope, &used.path, names, depth + 1)?;
                }
            }
            _ => return None,
        }
        place.extend_from_slice(rest);
        Some(place)
    }

    /// The shortest cycle of imports, one import a line; `None` where there is none.
    pub(crate) fn cycle(&self) -> Option<String> {
        let shortest =
            self.files.keys().filter_map(|start| self.way_back(start)).min_by_key(Vec::len)?;
        let lines = shortest.windows(2).map(|pair| self.line(&pair[0], &pair[1]));
        Some(lines.collect::<Vec<_>>().join("\n"))
    }

    /// The shortest way from `start` to itself, breadth first.
    fn way_back(&self, start: &ModulePath) -> Option<Vec<ModulePath>> {
        let mut ways = std::collections::VecDeque::from([vec![start.clone()]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            for target in self.imports.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
                let longer = [way.as_slice(), std::slice::from_ref(target)].concat();
                if target == start {
                    return Some(longer);
                }
                if seen.insert(target) {
                    ways.push_back(longer);
                }
            }
        }
        None
    }

    /// The imports of a layer from a later one, in the order in which the root declares them; `None` where there is
    /// none.
    pub(crate) fn upward(&self) -> Option<String> {
        let layer = |module: &ModulePath| {
            self.layers.iter().position(|layer| Some(layer) == module.first())
        };
        let mut upward = Vec::new();
        for (from, imports) in &self.imports {
            for to in imports.keys() {
                if let (Some(from_layer), Some(to_layer)) = (layer(from), layer(to))
                    && from_layer < to_layer
                {
                    upward.push(self.line(from, to));
                }
            }
        }
        (!upward.is_empty()).then(|| upward.join("\n"))
    }

    /// The files of the crate, without those for tests.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.values().map(PathBuf::as_path)
    }

    /// Whether `from` imports `to`, both as written in sources.
    pub(crate) fn has(&self, from: &str, to: &str) -> bool {
        self.imports.iter().any(|(module, imports)| {
            name(module) == from && imports.keys().any(|target| name(target) == to)
        })
    }

    fn line(&self, from: &ModulePath, to: &ModulePath) -> String {
        let Import { file, line, path } = &self.imports[from][to];
        format!("{}:{line}: {} imports {} as {path}", file.display(), name(from), name(to))
    }
}

fn name(module: &[String]) -> String {
    [&["crate".to_owned()], module].concat().join("::")
}

/// The names that the `use` items of a file give to their imports.
type Names = BTreeMap<String, Found>;

/// A path as written, and the module in which it stands (a file, or a block `mod … {}` within it).
#[derive(Clone)]
struct Found {
    scope: ModulePath,
    path: Vec<String>,
    line: usize,
}

/// Collects the paths of one file.
struct Paths {
    scope: ModulePath,
    found: Vec<Found>,
    names: Names,
}

impl Paths {
    fn new(scope: ModulePath) -> Self {
        Self { scope, found: Vec::new(), names: Names::new() }
    }

    fn push(&mut self, path: Vec<String>, line: usize) {
        self.found.push(Found { scope: self.scope.clone(), path, line });
    }

    fn use_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        let (path, called) = match tree {
            syn::UseTree::Path(tree) => return self.use_tree(&with(&tree.ident), &tree.tree),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.use_tree(before, tree));
            }
            syn::UseTree::Glob(glob) => {
                return self.push(before.to_vec(), glob.star_token.spans[0].start().line);
            }
            syn::UseTree::Name(tree) if tree.ident == "self" => {
                (before.to_vec(), before.last().cloned().map(|name| (name, tree.ident.span())))
            }
            syn::UseTree::Name(tree) => {
                (with(&tree.ident), Some((tree.ident.to_string(), tree.ident.span())))
            }
            syn::UseTree::Rename(tree) if tree.ident == "self" => {
                (before.to_vec(), Some((tree.rename.to_string(), tree.ident.span())))
            }
            syn::UseTree::Rename(tree) => {
                (with(&tree.ident), Some((tree.rename.to_string(), tree.ident.span())))
            }
        };
        if let Some((called, span)) = called {
            let line = span.start().line;
            self.names.entry(called).or_insert_with(|| Found {
                scope: self.scope.clone(),
                path: path.clone(),
                line,
            });
            self.push(path, line);
        }
    }

    /// Paths within a macro's arguments, which are not parsed: names joined by `::`.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        let mut path = Vec::new();
        let mut start = 0;
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(ident) => {
                    if path.is_empty() {
                        start = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    if tokens.next_if(is_colon).is_some() && tokens.next_if(is_colon).is_some() {
                        continue;
                    }
                }
                // `use crate::{a, b}` within a macro: each element continues what stands before the brace.
                TokenTree::Group(group)
                    if group.delimiter() == Delimiter::Brace && !path.is_empty() =>
                {
                    let mut within = Self::new(self.scope.clone());
                    within.tokens(group.stream());
                    for found in within.found {
                        self.push([path.as_slice(), &found.path].concat(), found.line);
                    }
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            if !path.is_empty() {
                self.push(std::mem::take(&mut path), start);
            }
        }
    }
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':')
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_some() {
            self.scope.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.scope.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // `use ::name` is another crate.
        if item.leading_colon.is_none() {
            self.use_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.push(segments, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.visit_path(&invocation.path);
        self.tokens(invocation.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    // `pub(super)` says who may look, and imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// The modules that `file` declares and that lie in files of their own.
fn children(file: &syn::File) -> Vec<String> {
    let declared = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module)
            if module.content.is_none() && !module.attrs.iter().any(is_for_tests) =>
        {
            Some(module.ident.to_string())
        }
        _ => None,
    });
    declared.collect()
}

pub(crate) fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

pub(crate) fn is_for_tests(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}
