//! The contents of the programs; and no guest of the tests is unused.

use plugind_tests::program;
use proc_macro2::{TokenStream, TokenTree};
use std::{collections::BTreeSet, fs, path::Path};

fn has(program: &[u8], name: &str) -> bool {
    program.windows(name.len()).any(|bytes| bytes == name.as_bytes())
}

#[test]
fn the_daemon_contains_no_compiler_and_its_client_contains_no_runtime() {
    for (name, runs, compiles) in
        [("plugind", true, false), ("pluginctl", false, false), ("plugind-compile", true, true)]
    {
        let bytes = fs::read(program(name)).unwrap();
        for compiler in ["cranelift_codegen", "wasmtime_internal_cranelift"] {
            assert_eq!(has(&bytes, compiler), compiles, "{name}: {compiler}");
        }
        for runtime in ["wasmtime::runtime", "wasmtime_environ"] {
            assert_eq!(has(&bytes, runtime), runs, "{name}: {runtime}");
        }
        assert!(has(&bytes, "wasmparser"), "{name} has no names in it, so this proves nothing");
    }
}

/// Adds every string literal to `found`. Comments do not count.
fn collect_texts(tokens: TokenStream, found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect_texts(group.stream(), found),
            TokenTree::Literal(literal) => {
                let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                found.extend(text.map(|text| text.value()));
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => (),
        }
    }
}

fn stems(directory: &Path) -> BTreeSet<String> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_guest_and_every_example_plugin_is_used_by_a_test() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = BTreeSet::new();
    let files = ["daemon", "boot"].map(|suite| fs::read_dir(tests.join(suite)).unwrap());
    for file in files.into_iter().flatten() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        collect_texts(source.parse().unwrap(), &mut named);
    }
    let guests = stems(&tests.join("guests/examples"));
    assert!(guests.len() > 30, "there are no guests");
    let mut plugins = stems(&tests.join("../plugins"));
    for not_a_plugin in ["README", "reference", "sdk", "templates", "test"] {
        plugins.remove(not_a_plugin);
    }
    assert_eq!(plugins.len(), 13);
    let all = guests.into_iter().chain(plugins.iter().map(|name| name.replace('-', "_")));
    let is_named =
        |name: &String| [name.clone(), name.replace('_', "-")].iter().any(|it| named.contains(it));
    let unused: Vec<_> = all.filter(|name| !is_named(name)).collect();
    assert_eq!(unused, [""; 0], "no test uses these");
}

#[test]
fn a_guest_that_only_a_comment_names_is_found_to_be_unused() {
    let mut named = BTreeSet::new();
    let source = "// \"in_comment\"\n/// \"in_docs\"\nfn f() { assert!(uses(\"in_code\")) }";
    collect_texts(source.parse().unwrap(), &mut named);
    assert!(named.contains("in_code"));
    assert!(!named.contains("in_comment") && !named.contains("in_docs"));
}
