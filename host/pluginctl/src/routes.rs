//! `pluginctl routes`: which plugin the configuration gives which route.

use crate::{
    columns::columns, format::route, output::Output, print::json_lines, search_path::SearchPathArgs,
};
use clap::Args;
use plugind::{
    base::{error_chain::ErrorChain, name::PluginName},
    check::check,
    config::settings,
    route::owners::{Route, RouteRequest},
};
use serde_json::Value;

/// The configuration whose routes are printed, and the format.
#[derive(Args)]
pub(crate) struct RoutesArgs {
    #[command(flatten)]
    tree: SearchPathArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl RoutesArgs {
    /// Finds the routes.
    pub(crate) fn run(&self) -> Output {
        if let Some(mistake) = self.tree.mistake() {
            return Output::of_configuration(mistake.to_string());
        }
        let mut output = Output::default();
        if let Err(error) = settings::read(&self.tree.search_path()) {
            output.is_configuration = true;
            output.mistakes.extend(error.lines());
        }
        // Routes follow from what components export and manifests say: nothing has to be compiled for them.
        let report = match check(&self.tree.search_path()) {
            Ok(report) => report,
            Err(error) => {
                output.is_configuration = true;
                output.mistakes.push(ErrorChain(&error).to_string());
                return output;
            }
        };
        let mut routes: Vec<_> = report
            .plugins
            .iter()
            .flat_map(|checked| checked.routes.iter().map(|request| (request, &checked.name)))
            .collect();
        routes.sort();
        for checked in &report.plugins {
            let mistakes = checked.failed.iter().flat_map(|(_, mistakes)| mistakes);
            output.mistakes.extend(mistakes.cloned());
        }
        output.mistakes.extend(report.ignored);
        output.reported = match self.json {
            true => {
                let entry = |(request, name): &(&RouteRequest, &PluginName)| {
                    let mut entry = route(request);
                    entry["plugin"] = Value::from(name.as_str());
                    entry
                };
                json_lines(&Value::from(routes.iter().map(entry).collect::<Vec<_>>()))
            }
            false if routes.is_empty() => "no routes\n".to_owned(),
            false => columns(
                &["SOCKET", "HOST", "ROUTE", "STRIPPED", "PLUGIN"],
                routes.iter().map(|((route, used), name)| {
                    let stripped = if used.strip > 0 { "yes" } else { "no" };
                    let (socket, host, prefix) = match route {
                        Route::Http(route) => {
                            let socket =
                                route.socket.as_ref().map_or("*", |socket| socket.as_str());
                            (socket, route.host.as_deref().unwrap_or("*"), route.prefix.as_str())
                        }
                        Route::Socket(socket) => (socket.as_str(), "-", "-"),
                    };
                    [socket, host, prefix, stripped, name.as_str()].map(str::to_owned).into()
                }),
            ),
        };
        output
    }
}
