//! The messages that the daemon logs, as the source code and the manual page each describe them.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::{
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
    visit::{self, Visit},
};

/// One event.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    pub(crate) message: String,
    priority: String,
    fields: BTreeSet<String>,
}

/// The messages that a source logs with at least the priority `info`.
#[derive(Default)]
pub(crate) struct Logged {
    /// Those with a MESSAGE_ID=, by the names of their constants.
    pub(crate) events: BTreeMap<String, Event>,
    /// Those without.
    pub(crate) others: BTreeSet<Event>,
}

/// The messages that this source logs.
pub(crate) fn in_source(source: &str) -> Logged {
    let mut events = Events::default();
    events.visit_file(&syn::parse_file(source).expect("the compiler accepts this source"));
    events.0
}

/// The items of this section of this page: the message of each, and the lines of its facts.
fn items<'a>(page: &'a str, section: &str) -> Vec<(&'a str, &'a str)> {
    let heading = format!("{section}\n");
    let section = page.split("\n.Sh ").find(|text| text.starts_with(&heading));
    let items = section.expect("the page has the section").split("\n.It Ql ").skip(1);
    let facts = items.map(|item| item.split_once("\n.Pp\n").expect("facts and a text").0);
    facts.map(|facts| facts.split_once('\n').expect("a message and facts")).collect()
}

/// The event that an item describes.
fn described(message: &str, facts: &str) -> Event {
    let line = |start: &str| facts.lines().find_map(|line| line.strip_prefix(start));
    let priority = line(".Ql ").expect("an event has a priority");
    let words = line(".Cm ").unwrap_or_default().split_whitespace();
    let fields = words.filter_map(|word| word.strip_suffix('=')).map(str::to_ascii_lowercase);
    Event {
        message: message.to_owned(),
        priority: priority.trim_end_matches([' ', ',', '.']).to_owned(),
        fields: fields.collect(),
    }
}

/// The messages in the section OTHER MESSAGES of this page.
pub(crate) fn others_in_page(page: &str) -> BTreeSet<Event> {
    let items = items(page, "OTHER MESSAGES").into_iter();
    items.map(|(message, facts)| described(message, facts)).collect()
}

/// The events in the section EVENTS of this page, by the names of their constants, each with its identifier.
pub(crate) fn in_page(page: &str) -> BTreeMap<String, (String, Event)> {
    let mut events = BTreeMap::new();
    for (message, facts) in items(page, "EVENTS") {
        let constant = facts.lines().find_map(|line| line.strip_prefix(".Dv "));
        let constant = constant.expect("an event has a constant").to_owned();
        let identifier = facts.lines().find_map(|line| line.strip_suffix(", priority"));
        let identifier = identifier.expect("an event has an identifier").to_owned();
        let event = described(message, facts);
        let other = events.insert(constant.clone(), (identifier, event));
        assert!(other.is_none(), "{constant} is in the page twice");
    }
    events
}

/// One argument of a tracing macro: a field, with its value if that is a path, or the message.
enum Argument {
    Field { name: String, value: Option<syn::Path> },
    Message(String),
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(syn::LitStr) {
            return Ok(Self::Message(input.parse::<syn::LitStr>()?.value()));
        }
        skip_sigil(input)?;
        let name = input.parse::<syn::Ident>()?.to_string();
        let mut value = None;
        if input.parse::<Option<syn::Token![=]>>()?.is_some() {
            skip_sigil(input)?;
            if let syn::Expr::Path(path) = input.parse::<syn::Expr>()? {
                value = Some(path.path);
            }
        }
        Ok(Self::Field { name, value })
    }
}

/// `%` and `?` say how tracing formats a value.
fn skip_sigil(input: ParseStream<'_>) -> syn::Result<()> {
    input.parse::<Option<syn::Token![%]>>()?;
    input.parse::<Option<syn::Token![?]>>()?;
    Ok(())
}

#[derive(Default)]
struct Events(Logged);

impl Events {
    fn add(&mut self, constant: &syn::Path, event: Event) {
        let constant = last(constant);
        let other = self.0.events.insert(constant.clone(), event);
        assert!(other.is_none(), "{constant} is used for two events");
    }

    /// Reads the use of a macro, which is one of tracing or may contain others, as `select!` does.
    fn read(&mut self, name: &str, tokens: &TokenStream) {
        let priority = match name {
            "error" => "err",
            "warn" => "warning",
            "info" => "info",
            _ => return self.read_within(tokens.clone()),
        };
        let parser = Punctuated::<Argument, syn::Token![,]>::parse_terminated;
        let arguments = parser.parse2(tokens.clone());
        let (mut constant, mut message, mut fields) = (None, None, BTreeSet::new());
        for argument in arguments.expect("an event has fields and a message") {
            match argument {
                Argument::Field { name, value } if name == "message_id" => constant = value,
                Argument::Field { name, .. } => drop(fields.insert(name)),
                Argument::Message(text) => message = Some(text),
            }
        }
        let message = message.expect("an event has a message");
        let event = Event { message, priority: priority.to_owned(), fields };
        match constant {
            Some(constant) => self.add(&constant, event),
            None => drop(self.0.others.insert(event)),
        }
    }

    fn read_within(&mut self, tokens: TokenStream) {
        let trees: Vec<_> = tokens.into_iter().collect();
        for (index, tree) in trees.iter().enumerate() {
            let TokenTree::Group(group) = tree else { continue };
            let name = match trees[..index] {
                [.., TokenTree::Ident(ref name), TokenTree::Punct(ref mark)]
                    if mark.as_char() == '!' =>
                {
                    name.to_string()
                }
                _ => String::new(),
            };
            self.read(&name, &group.stream());
        }
    }
}

impl<'a> Visit<'a> for Events {
    fn visit_macro(&mut self, used: &'a syn::Macro) {
        self.read(&last(&used.path), &used.tokens);
    }

    /// The entry about lost entries does not use tracing: a function puts its fields into a datagram.
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        let mut datagram = Datagram::default();
        datagram.visit_item_fn(function);
        let Datagram { constant, message, priority, fields } = datagram;
        if let Some(constant) = constant {
            let message = message.expect("a datagram with MESSAGE_ID has a MESSAGE");
            let priority = priority.expect("a datagram with MESSAGE_ID has a priority");
            self.add(&constant, Event { message, priority, fields });
        }
        visit::visit_item_fn(self, function);
    }
}

/// The calls with which a function fills a datagram: `datagram.put("FIELD", value)`, and a path `Priority::Name`.
#[derive(Default)]
struct Datagram {
    constant: Option<syn::Path>,
    message: Option<String>,
    priority: Option<String>,
    fields: BTreeSet<String>,
}

impl<'a> Visit<'a> for Datagram {
    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        visit::visit_expr_method_call(self, call);
        let (Some(name), Some(value)) = (call.args.first().and_then(text), call.args.get(1)) else {
            return;
        };
        match (call.method == "put", name.as_str(), value) {
            (false, ..) => (),
            (true, "MESSAGE_ID", syn::Expr::Path(path)) => self.constant = Some(path.path.clone()),
            (true, "MESSAGE", _) => self.message = formatted(value),
            (true, name, _) => drop(self.fields.insert(name.to_ascii_lowercase())),
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.segments.len() == 2 && path.segments[0].ident == "Priority" {
            self.priority = Some(last(path).to_ascii_lowercase());
        }
    }
}

fn last(path: &syn::Path) -> String {
    path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
}

fn text(expression: &syn::Expr) -> Option<String> {
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = expression else {
        return None;
    };
    Some(text.value())
}

/// The phrase in `&format!("phrase field={value}")`, without the fields.
fn formatted(expression: &syn::Expr) -> Option<String> {
    let syn::Expr::Reference(reference) = expression else { return None };
    let syn::Expr::Macro(used) = &*reference.expr else { return None };
    let text = used.mac.parse_body::<syn::LitStr>().ok()?.value();
    let phrase = text.split(' ').take_while(|word| !word.contains('='));
    Some(phrase.collect::<Vec<_>>().join(" "))
}
