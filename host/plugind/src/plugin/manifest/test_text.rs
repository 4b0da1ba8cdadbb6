//! Manifests in the text of tests.

use crate::{
    config::{Diagnostic, Document},
    plugin::manifest::{ComponentFacts, Manifest},
};
use std::path::Path;

/// The file `m.toml` with this text.
pub fn document(text: &str) -> Document {
    Document::new(Path::new("m.toml"), text)
}

/// The manifest of a plugin whose component is not known, or each mistake as a line.
pub fn parse(text: &str) -> Result<Manifest, Vec<String>> {
    parse_for(None, text)
}

/// The manifest of a plugin with such a component, or each mistake as a line.
pub fn parse_for(
    component: Option<ComponentFacts<'_>>,
    text: &str,
) -> Result<Manifest, Vec<String>> {
    let lines = |mistakes: Vec<Diagnostic>| mistakes.iter().map(ToString::to_string).collect();
    Manifest::parse_for(&"hello".parse().unwrap(), component, &document(text)).map_err(lines)
}

/// A component that imports this.
pub fn importing(imports: &[String]) -> ComponentFacts<'_> {
    ComponentFacts { imports, hands_over: false, serves: true }
}
