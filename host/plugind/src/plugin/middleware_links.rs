//! Whether the plugins that manifests name as middleware are there, and pass requests on. Pure.

use crate::{
    base::{name::PluginName, suggest::suggest},
    config::{Diagnostic, Position},
    plugin::{
        directories::{VerifyResult, name_of},
        middleware::Middleware,
        verify::Verified,
    },
};
use std::collections::BTreeMap;

/// For each plugin that was verified, why it cannot have the middleware that it names, among the plugins that there
/// are.
#[must_use]
pub fn middleware_mistakes(plugins: &[VerifyResult]) -> BTreeMap<PluginName, Vec<String>> {
    let all: BTreeMap<_, _> = plugins.iter().map(|outcome| (name_of(outcome), outcome)).collect();
    let mistakes = plugins.iter().filter_map(|outcome| {
        let verified = outcome.as_ref().ok()?;
        let Middleware { links, origin } = &verified.manifest().middleware;
        let place = origin.0.clone().unwrap_or_else(|| Position::whole(verified.path()));
        let mistakes = links.iter().filter_map(|link| why_not(link, &all));
        let mistakes = mistakes.map(|why| Diagnostic::at(place.clone(), why).to_string());
        let mistakes: Vec<_> = mistakes.collect();
        (!mistakes.is_empty()).then(|| (verified.name().clone(), mistakes))
    });
    mistakes.collect()
}

/// Why a plugin cannot be a link.
fn why_not(link: &PluginName, all: &BTreeMap<&PluginName, &VerifyResult>) -> Option<String> {
    let Some(outcome) = all.get(link) else {
        let nearest = suggest(link.as_str(), all.keys().map(|name| name.as_str()));
        let nearest = nearest.map(|name| format!("; did you mean \"{name}\"?"));
        let remedy = nearest.unwrap_or_else(|| "; install it, or remove the name".to_owned());
        return Some(format!("middleware: there is no plugin \"{link}\"{remedy}"));
    };
    let (inspection, manifest) = match outcome {
        Ok(verified) => (Some(verified.inspection()), Some(Verified::manifest(verified))),
        Err(rejected) => (None, rejected.manifest.as_ref()),
    };
    if inspection.is_some_and(|inspection| !inspection.is_middleware()) {
        return Some(format!(
            "middleware: \"{link}\" does not both export and import wasi:http/handler@0.3, so it would pass no request \
             on; remove the name"
        ));
    }
    if manifest.is_some_and(|manifest| !manifest.middleware.links.is_empty()) {
        return Some(format!(
            "middleware: \"{link}\" must not have middleware itself; name all of them here, in order"
        ));
    }
    None
}
