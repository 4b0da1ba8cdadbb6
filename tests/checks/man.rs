//! Proves that the manual pages say what the code says: each option, command, key and event stands in both.

#[path = "man/events.rs"]
mod events;
#[path = "man/interfaces.rs"]
mod interfaces;
#[path = "man/metrics.rs"]
mod metrics;

use plugind_tests::{messages, program};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use syn::visit::{self, Visit};

fn below_host(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host").join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page(name: &str) -> String {
    read(&below_host("man").join(name))
}

/// All pages, sorted by name.
fn pages() -> Vec<PathBuf> {
    let all = fs::read_dir(below_host("man")).expect("host/man can be listed");
    let mut all: Vec<_> = all.map(|entry| entry.expect("host/man can be listed").path()).collect();
    all.sort();
    all
}

/// Returns the output of a program that is run with these arguments.
fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program can be run");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("help is text")
}

/// The long options in what `--help` prints.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start);
    // A value of an option is listed as `- value: …`.
    let lines = lines.filter(|line| line.starts_with('-') && !line.starts_with("- "));
    let long = lines.flat_map(|line| line.split("  ").next()?.split(", ").last());
    long.map(|option| option.split(' ').next().unwrap_or_default().to_owned()).collect()
}

/// The commands in what `--help` prints.
fn commands(help: &str) -> BTreeSet<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

/// The words of a page's macro lines that stand right behind the macro `wanted`.
fn behind<'a>(page: &'a str, wanted: &str) -> impl Iterator<Item = &'a str> {
    let lines = page.lines().filter_map(|line| line.strip_prefix('.'));
    let words = lines.flat_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.windows(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>()
    });
    words.filter(move |(name, _)| *name == wanted).map(|(_, word)| word)
}

/// The long options in a page, and the commands that it lists.
fn documented(page: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let long = behind(page, "Fl").filter(|option| option.starts_with('-'));
    let items = page.lines().filter_map(|line| line.strip_prefix(".It Cm "));
    let first = items.filter_map(|item| item.split_whitespace().next());
    (long.map(|option| format!("-{option}")).collect(), first.map(str::to_owned).collect())
}

/// The keys that the manifest's source takes from its tables, as `table.key`.
struct Keys {
    table: String,
    keys: BTreeSet<String>,
}

impl Keys {
    /// Tables with names that the operator chooses.
    fn note_named(&mut self, arguments: &syn::punctuated::Punctuated<syn::Expr, syn::Token![,]>) {
        let mut tables = Self { table: self.table.clone(), keys: BTreeSet::new() };
        tables.note(arguments);
        self.keys.extend(tables.keys.into_iter().map(|table| format!("{table}.NAME")));
    }

    fn note(&mut self, arguments: &syn::punctuated::Punctuated<syn::Expr, syn::Token![,]>) {
        if let Some(syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(key), .. })) =
            arguments.first()
        {
            self.keys.insert(format!("{}{}", self.table, key.value()));
        }
    }
}

fn is_path_to(expression: &syn::Expr, name: &str) -> bool {
    matches!(expression, syn::Expr::Path(path) if path.path.is_ident(name))
}

impl<'a> Visit<'a> for Keys {
    fn visit_item_mod(&mut self, _: &'a syn::ItemMod) {
        // The tests of the manifest contain no keys.
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        if let syn::Type::Path(path) = &*item.self_ty
            && let Some(name) = path.path.get_ident()
        {
            self.table = match name.to_string().as_str() {
                "Manifest" | "Settings" => String::new(),
                "HealthSetting" => "health.".to_owned(),
                "KeyValueBackend" => "keyvalue.".to_owned(),
                "PoolSettings" => "pool.".to_owned(),
                "SocketSetting" | "ConnectionSetting" => "sockets.NAME.".to_owned(),
                "Tls" => "sockets.NAME.tls.".to_owned(),
                "StreamSubscription" => "subscribe.".to_owned(),
                name => format!("{}.", name.to_lowercase()),
            };
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        if is_path_to(&call.receiver, "table") {
            match call.method == "named" {
                true => self.note_named(&call.args),
                false => self.note(&call.args),
            }
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_call(&mut self, call: &'a syn::ExprCall) {
        // The short name of `table.parsed` for spans of time.
        if is_path_to(&call.func, "span") {
            self.note(&call.args);
        }
        visit::visit_expr_call(self, call);
    }
}

#[test]
fn the_manual_of_the_daemon_has_its_options_and_no_others() {
    let help = output(program("plugind"), &["--help"]);
    let (long, _) = documented(&page("plugind.8"));
    assert_eq!(long, options(&help));
    assert!(long.contains("--listen"), "help is not understood: {help}");
    // The usage line is written by hand.
    let (usage, _) = help.split_once("Options:").expect("help has a usage line before the options");
    for option in long.iter().filter(|option| !["--help", "--version"].contains(&option.as_str())) {
        let forms = [format!("[{option} "), format!("[{option}]")];
        assert!(forms.iter().any(|form| usage.contains(form)), "{option} is not in {usage}");
    }
}

#[test]
fn the_manual_of_the_compiler_has_its_options_and_no_others() {
    let help = output(program("plugind-compile"), &["--help"]);
    let (long, _) = documented(&page("plugind-compile.8"));
    assert_eq!(long, options(&help));
    assert!(long.contains("--worker"), "help is not understood: {help}");
}

#[test]
fn the_manual_of_the_tool_has_its_commands_and_options_and_no_others() {
    let help = output(program("pluginctl"), &["--help"]);
    let all = commands(&help);
    assert!(all.contains("check"), "help is not understood: {help}");
    let mut known = options(&help);
    for command in all.iter().filter(|command| *command != "help") {
        known.extend(options(&output(program("pluginctl"), &[command, "--help"])));
    }
    let (long, listed) = documented(&page("pluginctl.1"));
    assert_eq!(long, known);
    assert_eq!(listed, all);
}

/// Returns what a list says about its item with this name.
fn item<'a>(list: &'a str, name: &str) -> &'a str {
    let (_, item) = list.split_once(&format!(".It Ql {name}\n")).expect("the list has the item");
    item.split("\n.It ").next().unwrap_or_default()
}

#[test]
fn the_manual_of_the_tool_names_the_toolchains_that_the_templates_use() {
    let (page, plugins) = (page("pluginctl.1"), below_host("../plugins"));
    let handbook = read(&plugins.join("README.md"));
    let (_, list) =
        page.split_once("built by the tools of its language:").expect("there is a list");
    let list = list.split("\n.El").next().unwrap_or_default();
    for (language, name, tools) in [
        ("rust", "Rust", &["cargo", "wasm32-wasip2"][..]),
        ("c", "C", &["wit-bindgen", "wasi-sdk", "zig", "jco"]),
        ("js", "JavaScript", &["npm", "componentize-qjs"]),
        ("python", "Python", &["pip", "componentize-py"]),
        ("go", "Go", &["wit-bindgen", "wasm-tools", "jco"]),
    ] {
        let template = plugins.join("templates").join(language).join("common");
        let files = fs::read_dir(&template).expect("each language has a template").flatten();
        let texts: Vec<_> = files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
        for tool in tools {
            assert!(item(list, language).contains(tool), "{language} without {tool}");
            assert!(texts.iter().any(|text| text.contains(tool)), "no {tool} for {language}");
        }
        assert!(handbook.contains(&format!("\n| {name} | ")), "{name} is not in the table");
        assert!(handbook.contains(tools.last().expect("there is one")), "{tools:?}");
    }
    assert_eq!(list.matches(".It Ql ").count(), 5);
}

/// The keys that this source reads; of `table`, unless it says otherwise.
fn keys_of(source: &str, table: &str) -> BTreeSet<String> {
    let source = read(&below_host("plugind/src").join(source));
    let mut read = Keys { table: table.to_owned(), keys: BTreeSet::new() };
    read.visit_file(&syn::parse_file(&source).expect("the compiler takes it, too"));
    read.keys
}

/// The keys that this page describes.
fn keys_in(name: &str) -> BTreeSet<String> {
    let (mut table, mut documented) = (String::new(), BTreeSet::new());
    for line in page(name).lines() {
        if let Some(heading) = line.strip_prefix(".Ss ") {
            let name = heading.trim_end_matches("\\&");
            let is_table = name.starts_with('[');
            let name = name.trim_matches(['[', ']']);
            table = if is_table { format!("{name}.") } else { String::new() };
            documented.extend(is_table.then(|| name.to_owned()));
        } else if let Some(item) = line.strip_prefix(".It Cm ") {
            documented.insert(format!("{table}{item}"));
        }
    }
    documented
}

#[test]
fn the_manuals_of_manifest_and_settings_have_the_keys_that_are_read_and_no_others() {
    let manifest = [
        "manifest",
        "manifest/instances",
        "manifest/limits",
        "manifest/on_demand",
        "manifest/service",
        "serve",
        "handover",
        "middleware",
        "subscribe",
    ]
    .map(|name| format!("plugin/{name}.rs"));
    let settings = [
        "settings",
        "settings/compile",
        "settings/connections",
        "settings/health",
        "settings/http",
        "settings/keyvalue",
        "settings/pool",
        "settings/sockets",
        "settings/tls",
        "settings/messaging",
    ]
    .map(|name| format!("config/{name}.rs"));
    for (page, sources, grants, one) in [
        ("plugind-plugin.5", &manifest[..], grant_keys(), "service.restart-sec"),
        ("plugind.toml.5", &settings[..], BTreeSet::new(), "compile.memory-max"),
    ] {
        let mut read: BTreeSet<_> = sources.iter().flat_map(|source| keys_of(source, "")).collect();
        read.extend(grants.iter().map(|key| format!("grants.{key}")));
        assert!(read.contains(one), "{sources:?} are not understood: {read:?}");
        assert_eq!(keys_in(page), read, "{page}");
    }
}

#[test]
fn each_grant_of_the_table_has_a_file_that_reads_its_key_and_no_other() {
    let keys = grant_keys();
    assert!(keys.contains("environment"), "the table is not understood: {keys:?}");
    for key in keys {
        let source = format!("plugin/grants/{}.rs", key.replace('-', "_"));
        assert_eq!(keys_of(&source, ""), [key].into(), "{source}");
    }
}

#[test]
fn the_manual_of_the_manifest_has_the_interfaces_of_the_table_and_no_others() {
    let table = interfaces::in_source(&table_of_interfaces());
    assert!(table.contains("wasi:cli/exit@0.2"), "the table is not understood: {table:?}");
    assert_eq!(interfaces::in_page(&page("plugind-plugin.5")), table);
}

fn table_of_interfaces() -> String {
    read(&below_host("plugind/src/plugin/interfaces.rs"))
}

fn grant_keys() -> BTreeSet<String> {
    interfaces::grants_in_source(&table_of_interfaces())
}

/// All sources below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let (mut sources, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("sources can be listed") {
            let path = entry.expect("sources can be listed").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension() == Some(OsStr::new("rs")) {
                sources.push(path);
            }
        }
    }
    sources
}

#[test]
fn the_manual_of_the_daemon_has_each_message_as_it_is_logged() {
    let (mut logged, mut others) = (BTreeMap::new(), BTreeSet::new());
    for source in sources(&below_host("plugind/src")) {
        let found = events::in_source(&read(&source));
        for (constant, event) in found.events {
            let other = logged.insert(constant.clone(), event);
            assert!(other.is_none(), "{constant} is used for two events");
        }
        others.extend(found.others);
    }
    // An instance for one request fails with the message of the event, and without its identifier.
    others.retain(|event| !logged.values().any(|logged| logged.message == event.message));
    let (mut identifiers, mut documented) = (BTreeMap::new(), BTreeMap::new());
    for (constant, (identifier, event)) in events::in_page(&page("plugind.8")) {
        identifiers.insert(constant.clone(), identifier);
        documented.insert(constant, event);
    }
    assert_eq!(identifiers, messages());
    assert_eq!(documented, logged);
    assert_eq!(events::others_in_page(&page("plugind.8")), others);
}

#[test]
fn the_manual_of_the_metrics_has_those_of_the_table_and_no_others() {
    let table = metrics::in_source(&read(&below_host("plugind/src/metrics/table.rs")));
    let duration = table.get("plugind_plugin_request_duration_seconds");
    assert_eq!(duration.map(|it| &*it.kind), Some("histogram"), "it is not understood: {table:?}");
    assert_eq!(metrics::in_page(&page("plugind-metrics.7")), table);
}

#[test]
fn the_manual_pages_refer_to_each_other_and_mandoc_reports_nothing() {
    let pages = pages();
    for path in &pages {
        let text = read(path);
        for name in behind(&text, "Xr").filter(|name| name.starts_with("plugin")) {
            let known = |page: &PathBuf| page.file_stem() == Some(OsStr::new(name));
            assert!(pages.iter().any(known), "{} names {name}", path.display());
        }
    }
    let linted = Command::new("mandoc").arg("-Tlint").args(&pages).output();
    let linted = linted.expect("mandoc is there: tests/setup test");
    let said = [linted.stdout, linted.stderr].concat();
    // Which pages of others are installed is the machine's affair.
    let ours =
        |line: &&str| !line.contains("referenced manual not found") && !line.contains("mandoc.db");
    let said = String::from_utf8_lossy(&said);
    assert_eq!(said.lines().filter(ours).collect::<Vec<_>>(), [""; 0]);
}
