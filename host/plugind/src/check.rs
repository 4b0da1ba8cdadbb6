//! The dry run of a configuration, as far as files decide it: verify plugins and assign routes.
//! `link_check` continues from there.

use crate::{
    api::FailedStage,
    base::{
        limits::ComponentLimits,
        name::{NameError, PluginName},
    },
    config::{ListError, SearchPath, settings},
    plugin::{
        call_cycles::{call_cycles, cycle_message},
        directories::{ScanReport, VerifyResult, name_of, read_plugins},
        middleware_links::middleware_mistakes,
        scan::{Found, Masked, Scanned, scan_one},
        verify::{Verified, verify},
    },
    route::owners::{RouteOwners, RouteRequest, conflict_message, requests_of},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The contents of the plugin directories, each plugin checked.
pub struct Report {
    /// The plugins in the order of their names.
    pub plugins: Vec<Checked>,
    /// Plugins that are masked.
    pub masked: Vec<Masked>,
    /// Files that belong to no plugin, each as a message with a remedy.
    pub ignored: Vec<String>,
}

/// One plugin that was checked.
pub struct Checked {
    /// Its name.
    pub name: PluginName,
    /// Its component.
    pub component: PathBuf,
    /// Its digest, manifest and inspection, unless it was rejected.
    pub verified: Option<Verified>,
    /// The routes that it asks for and gets.
    pub routes: Vec<RouteRequest>,
    /// The stage that fails, and every mistake in it.
    pub failed: Option<(FailedStage, Vec<String>)>,
}

/// A plugin that cannot be used. `plugind --check` prints a list of those that cannot be compiled or linked as JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFailure {
    /// The name of the plugin.
    pub plugin: String,
    /// The stage that fails.
    pub stage: FailedStage,
    /// The mistakes.
    pub mistakes: Vec<String>,
}

/// Checks the plugins of the search path.
///
/// # Errors
/// When a directory cannot be read.
pub fn check(search_path: &SearchPath) -> Result<Report, ListError> {
    let ScanReport { mut plugins, masked, ignored, .. } =
        read_plugins(search_path, component_limits(search_path))?;
    // A plugin that is to be installed takes no route from one that is there.
    plugins.sort_by_key(|outcome| {
        let component = outcome.as_ref().map_or_else(|it| &*it.component, Verified::path);
        search_path.is_staged(component)
    });
    let ignored = ignored.iter().map(ToString::to_string).collect();
    let middleware = middleware_mistakes(&plugins);
    Ok(Report { plugins: assign_routes(plugins, &middleware), masked, ignored })
}

/// What one component may have with these settings. If they have mistakes, which are reported elsewhere, the defaults
/// count.
#[must_use]
pub fn component_limits(search_path: &SearchPath) -> ComponentLimits {
    settings::read(search_path).map(|settings| settings.pool.component).unwrap_or_default()
}

/// Checks one plugin as if there were no other. Its component may have as much as these limits say.
#[must_use]
pub fn check_one(found: Found, limits: &ComponentLimits) -> Option<Checked> {
    // Its middleware cannot be known.
    assign_routes(vec![verify(found, limits)], &BTreeMap::new()).pop()
}

/// Finds a component at any path, such as a developer's build directory, with its manifest beside it.
#[must_use]
pub fn find_component(path: &Path) -> Scanned {
    scan_one(component_name(path), path)
}

/// The name of the plugin that a component would be, whatever its file is called: toolchains choose names of their own.
#[must_use]
pub fn component_name(path: &Path) -> PluginName {
    name_of_file(path).unwrap_or_else(|_| "plugin".parse().expect("it is a name"))
}

/// The name of a plugin that the name of a component's file gives.
///
/// # Errors
/// When it gives none: it does not begin with a letter, or is too long.
pub fn name_of_file(path: &Path) -> Result<PluginName, NameError> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.parse()
}

/// `middleware` says why plugins cannot have theirs.
fn assign_routes(
    plugins: Vec<VerifyResult>,
    middleware: &BTreeMap<PluginName, Vec<String>>,
) -> Vec<Checked> {
    let mut claimed = RouteOwners::default().claim_all(&plugins);
    let cycles = call_cycles(&plugins);
    let checked = |outcome: VerifyResult| {
        let (name, requests) = (name_of(&outcome).clone(), requests_of(&outcome));
        let conflicts = claimed.remove(&name).and_then(Result::err);
        match outcome {
            Err(rejected) => Checked {
                name,
                failed: Some((FailedStage::Verify, rejected.lines())),
                component: rejected.component,
                verified: None,
                routes: Vec::new(),
            },
            Ok(verified) => {
                let failed = conflicts.map(|conflicts| {
                    (FailedStage::Route, vec![conflict_message(&verified, &conflicts)])
                });
                let mistakes = middleware.get(&name).cloned();
                let cycle = || cycles.get(&name).map(|way| vec![cycle_message(&verified, way)]);
                let mistakes = mistakes.or_else(cycle);
                let failed = failed.or_else(|| Some((FailedStage::Verify, mistakes?)));
                let routes = if failed.is_none() { requests } else { Vec::new() };
                let component = verified.path().to_owned();
                Checked { name, component, verified: Some(verified), routes, failed }
            }
        }
    };
    plugins.into_iter().map(checked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_has_a_name_whatever_its_file_is_called() {
        for (file, name) in [
            ("hello.wasm", "hello"),
            ("target/My_Plugin.wasm", "my-plugin"),
            ("a.b.wasm", "a-b"),
            ("9.wasm", "plugin"),
            ("/", "plugin"),
        ] {
            assert_eq!(component_name(Path::new(file)).as_str(), name, "{file}");
        }
    }
}
