//! `middleware` of a manifest: the plugins through which the HTTP requests of a plugin go before it gets them.

use crate::{
    base::name::PluginName,
    config::{Origin, Table},
};
use std::sync::Arc;

/// The most plugins through which a request goes.
const LINKS_MAX: usize = 8;

/// The plugins through which the HTTP requests of a plugin go, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Middleware {
    /// Their names.
    pub links: Arc<[PluginName]>,
    /// Where they were written.
    pub origin: Origin,
}

/// Reads them; `name` is the plugin behind them, if it is known.
pub(super) fn read_middleware(table: &Table<'_>, name: Option<&PluginName>) -> Middleware {
    let links = table.list("middleware", str::parse::<PluginName>);
    let twice = links.iter().enumerate().find(|(nth, link)| links[..*nth].contains(link));
    if let Some((_, link)) = twice {
        let message = format!("middleware must name a plugin once, and names \"{link}\" twice");
        table.complain_about("middleware", message);
    }
    if links.iter().any(|link| Some(link) == name) {
        table.complain_about("middleware", "middleware must not name the plugin itself");
    }
    if links.len() > LINKS_MAX {
        let count = links.len();
        let message = format!("middleware must have at most {LINKS_MAX} names, not {count}");
        table.complain_about("middleware", message);
    }
    Middleware { links: links.into(), origin: table.origin("middleware") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Diagnostic, Document};
    use std::path::Path;

    fn parse(text: &str) -> Result<Middleware, Vec<String>> {
        let name = "shop".parse().unwrap();
        let document = Document::new(Path::new("m.toml"), text);
        let lines = |mistakes: Vec<Diagnostic>| mistakes.iter().map(ToString::to_string).collect();
        document.read(|table| read_middleware(table, Some(&name))).map_err(lines)
    }

    #[test]
    fn middleware_is_a_list_of_other_plugins_each_once() {
        let middleware = parse("middleware = [\"auth\", \"cors\"]\n").unwrap();
        let links: Vec<_> = middleware.links.iter().map(PluginName::as_str).collect();
        assert_eq!(links, ["auth", "cors"]);
        let nine: Vec<_> = (0..9).map(|nth| format!("\"m{nth}\"")).collect();
        for (list, mistake) in [
            ("\"a\", \"b\", \"a\"", "must name a plugin once, and names \"a\" twice"),
            ("\"shop\"", "must not name the plugin itself"),
            (&nine.join(", "), "must have at most 8 names, not 9"),
        ] {
            let mistakes = parse(&format!("middleware = [{list}]\n")).unwrap_err();
            assert_eq!(mistakes, [format!("m.toml:1:14: middleware {mistake}")]);
        }
    }
}
