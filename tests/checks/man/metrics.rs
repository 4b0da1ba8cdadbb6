//! The metrics, as the daemon's table and the manual page have them.

use std::collections::BTreeMap;
use syn::visit::{self, Visit};

/// The facts about a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownMetric {
    /// Its kind, in lower case.
    pub(crate) kind: String,
    /// Its labels.
    pub(crate) labels: Vec<String>,
    /// Its description.
    pub(crate) help: String,
}

#[derive(Default)]
struct Found(Vec<(String, String, KnownMetric)>);

fn text(expression: &syn::Expr) -> Option<String> {
    match expression {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        syn::Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        _ => None,
    }
}

/// One text, or the texts of a list.
fn texts(expression: &syn::Expr) -> Vec<String> {
    match expression {
        syn::Expr::Reference(reference) => texts(&reference.expr),
        syn::Expr::Array(array) => array.elems.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

impl<'a> Visit<'a> for Found {
    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        visit::visit_expr_method_call(self, call);
        if call.method == "of"
            && matches!(&*call.receiver, syn::Expr::Call(_))
            && let Some((_, unit, _)) = self.0.last_mut()
        {
            let name = call.args.first().and_then(text).unwrap_or_default();
            *unit = format!("_{}", name.to_lowercase());
        }
    }

    fn visit_expr_call(&mut self, call: &'a syn::ExprCall) {
        visit::visit_expr_call(self, call);
        if text(&call.func).as_deref() != Some("metric") {
            return;
        }
        let mut arguments = call.args.iter();
        let mut next = || arguments.next().and_then(text).unwrap_or_default();
        let (kind, name, help) = (next().to_lowercase(), next(), next());
        let Some(syn::Expr::Call(reader)) = arguments.next() else { return };
        let reader_name = text(&reader.func).unwrap_or_default();
        let by_plugin = reader_name.starts_with("Plugin").then(|| "plugin".to_owned());
        let has_labels = reader_name.ends_with("By") || reader_name.ends_with("Info");
        let by = reader.args.first().filter(|_| has_labels).map(texts).unwrap_or_default();
        let labels = by_plugin.into_iter().chain(by).collect();
        self.0.push((name, String::new(), KnownMetric { kind, labels, help }));
    }
}

/// The metrics of the table, by their full names.
pub(crate) fn in_source(source: &str) -> BTreeMap<String, KnownMetric> {
    let mut found = Found::default();
    found.visit_file(&syn::parse_file(source).expect("the compiler takes it, too"));
    let full = |(name, unit, metric): (String, String, KnownMetric)| {
        let suffix = match &*metric.kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        (format!("{name}{unit}{suffix}"), metric)
    };
    found.0.into_iter().map(full).collect()
}

/// The metrics that a page describes: an item with name, kind and labels, and a sentence.
pub(crate) fn in_page(page: &str) -> BTreeMap<String, KnownMetric> {
    let mut found = BTreeMap::new();
    // A long line is continued after a backslash.
    let page = page.replace("\\\n", "");
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, rest)) = line.strip_prefix(".It Sy ").and_then(|it| it.split_once(" Pq "))
        else {
            continue;
        };
        let (kind, labels) = rest.split_once("; ").unwrap_or((rest, ""));
        let labels = labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned);
        let mut help = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('.')) {
            help.push(line);
        }
        let help = help.join(" ").trim_end_matches('.').to_owned();
        let metric = KnownMetric { kind: kind.to_owned(), labels: labels.collect(), help };
        found.insert(name.to_owned(), metric);
    }
    found
}
