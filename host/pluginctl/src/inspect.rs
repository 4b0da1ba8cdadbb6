//! `pluginctl inspect`: what components are, what they import, and how they would be served.

use plugind::plugin::offers::{Offers, Preview};
use std::{fmt::Write as _, fs, path::Path};

/// Says what the component at `path` is, or why it is none.
pub(crate) fn inspect(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let offers = Offers::of(&bytes).map_err(|error| format!("{} {error}", path.display()))?;
    let mut told = format!("{}\n", path.display());
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(told, "  {name:<9} {value}").ok();
    };
    line("served", &served(&offers));
    line(
        "lifecycle",
        if offers.lifecycle { "its own" } else { "none: ready once it is instantiated" },
    );
    for (name, interfaces) in [("imports", &offers.imports), ("exports", &offers.exports)] {
        for (nth, interface) in interfaces.iter().enumerate() {
            line(if nth == 0 { name } else { "" }, interface);
        }
    }
    Ok(told)
}

fn served(offers: &Offers) -> String {
    match (offers.http, offers.run) {
        (Some(Preview::P3), _) => {
            "HTTP, by wasi:http 0.3; instances are shared by requests".to_owned()
        }
        (Some(Preview::P2), _) => {
            "HTTP, by wasi:http 0.2; every request has a fresh instance".to_owned()
        }
        (None, Some(_)) => "not at all: it is a background program".to_owned(),
        (None, None) => "not at all: it only has a life".to_owned(),
    }
}
