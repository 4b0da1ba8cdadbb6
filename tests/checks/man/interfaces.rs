//! The interfaces that a plugin may import, as the table in the source code and the manual page each list them.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};

/// The imports in the rows of `interfaces!`, each with a version: `wasi:cli/exit@0.2`.
pub(crate) fn in_source(source: &str) -> BTreeSet<String> {
    let (rows, lists) = (rows(source, "interfaces"), version_lists(source));
    let mut imports = BTreeSet::new();
    for call in groups(rows).into_iter().flat_map(groups) {
        // `("wasi:cli/exit", WASI)`, or `("wasi:config/store", &["0.2.0-rc.1"])`
        let tokens: Vec<_> = call.clone().into_iter().collect();
        let mut texts = texts(call);
        let Some(name) = texts.first().cloned().filter(|name| name.contains('/')) else { continue };
        let versions = match tokens.get(2) {
            Some(TokenTree::Ident(list)) => lists[&list.to_string()].clone(),
            _ => texts.split_off(1),
        };
        assert!(!versions.is_empty(), "{name} has no version");
        imports.extend(versions.iter().map(|version| format!("{name}@{version}")));
    }
    imports
}

/// The keys in the rows of `grants!`: the text before each `=`.
pub(crate) fn grants_in_source(source: &str) -> BTreeSet<String> {
    let tokens: Vec<_> = rows(source, "grants").into_iter().collect();
    let is_assignment =
        |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '=');
    let keys = tokens.windows(2).filter(|pair| is_assignment(&pair[1]));
    keys.flat_map(|pair| texts(pair[0].clone().into())).collect()
}

/// The imports in the section INTERFACES of this page.
///
/// `.It Sy wasi:cli No 0.2 , 0.3` begins the interfaces of a package with the versions of most of them. A line `.Sy exit`
/// names one, and a line `(0.2)` behind it gives its versions. The first full stop ends them; sentences follow.
pub(crate) fn in_page(page: &str) -> BTreeSet<String> {
    let lines = page.lines().skip_while(|line| *line != ".Sh INTERFACES").skip(1);
    let (mut package, mut usual, mut listing) = (String::new(), Vec::new(), false);
    let mut imports: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines.take_while(|line| !line.starts_with(".Sh ")) {
        if let Some(item) = line.strip_prefix(".It Sy ") {
            let (name, versions) = item.split_once(" No ").expect("an item has versions");
            (package, usual, listing) = (name.to_owned(), versions_in(versions), true);
            continue;
        }
        if !listing {
            continue;
        }
        listing = !line.ends_with('.');
        match line.strip_prefix(".Sy ").and_then(|rest| rest.split(' ').next()) {
            Some(name) => imports.push((format!("{package}/{name}"), usual.clone())),
            None => {
                let (_, versions) = imports.last_mut().expect("versions stand behind a name");
                *versions = versions_in(line.trim_matches(['(', ')', ',', '.']));
            }
        }
    }
    let versions = imports.into_iter().flat_map(|(name, versions)| {
        versions.into_iter().map(move |version| format!("{name}@{version}"))
    });
    versions.collect()
}

fn versions_in(list: &str) -> Vec<String> {
    list.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Returns the text in the braces of `NAME! { … }`.
fn rows(source: &str, name: &str) -> TokenStream {
    let file = syn::parse_file(source).expect("the compiler accepts this source");
    let calls = file.items.into_iter().filter_map(|item| match item {
        syn::Item::Macro(item) if item.ident.is_none() => Some(item.mac),
        _ => None,
    });
    let call = calls.into_iter().find(|call| call.path.is_ident(name));
    call.unwrap_or_else(|| panic!("there is no {name}!")).tokens
}

/// The constants that are lists of versions, by their names.
fn version_lists(source: &str) -> BTreeMap<String, Vec<String>> {
    let file = syn::parse_file(source).expect("the compiler accepts this source");
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in file.items {
        let syn::Item::Const(constant) = item else { continue };
        let value = match *constant.expr {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => vec![text.value()],
            syn::Expr::Reference(reference) => {
                let syn::Expr::Array(array) = *reference.expr else { continue };
                let elements = array.elems.into_iter().flat_map(|element| match element {
                    syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => {
                        vec![text.value()]
                    }
                    // Another constant, which comes before.
                    syn::Expr::Path(path) => {
                        let name = path.path.get_ident().map(ToString::to_string);
                        name.and_then(|name| lists.get(&name).cloned()).unwrap_or_default()
                    }
                    _ => Vec::new(),
                });
                elements.collect()
            }
            _ => continue,
        };
        lists.insert(constant.ident.to_string(), value);
    }
    lists
}

/// The groups right within these tokens.
fn groups(tokens: TokenStream) -> Vec<TokenStream> {
    let groups = tokens.into_iter().filter_map(|token| match token {
        TokenTree::Group(group) => Some(group.stream()),
        _ => None,
    });
    groups.collect()
}

/// All texts in quotes within these tokens.
fn texts(tokens: TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => found.extend(texts(group.stream())),
            TokenTree::Literal(literal) => {
                let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                found.extend(text.map(|text| text.value()));
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => (),
        }
    }
    found
}
