//! The operations of a test on the plugin itself, by the control socket: its clocks, its instances and its version.

use crate::{
    client::{CallMethod, Client, ControlAddress},
    problem::{Problem, unless_interrupted, wait_for},
    project::check_manifest,
    run::{served::put_file, source_paths::SourcePaths},
    test::cases::PluginStep,
};
use plugind::{
    api,
    base::{name::PluginName, quantity::Span},
};
use serde::de::DeserializeOwned;
use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The longest time until the plugin is in the state that a test expects.
const STATE_MAX: Duration = Duration::from_secs(10);
/// Interval at which the state is read: some of its changes, such as those of the health, are not reported.
const LOOK: Duration = Duration::from_millis(100);

/// The plugin that is tested, as its operator sees it.
pub(super) struct TestedPlugin {
    pub(super) name: PluginName,
    /// The socket of the daemon.
    pub(super) control: PathBuf,
    /// The directory with its files.
    pub(super) plugins: PathBuf,
}

impl TestedPlugin {
    /// Moves the clocks that the plugin sees.
    pub(super) fn advance_clock(&self, Span(time): Span) -> Result<(), Problem> {
        let advance = Some(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let moved = api::ClockMove { advance, time: None };
        self.call::<api::ClockMoved>(CallMethod::MoveClock(moved)).map(drop)
    }

    /// Does a step, and waits until it is done.
    pub(super) fn run(&self, step: &PluginStep) -> Result<(), Problem> {
        let name = || api::Name { name: self.name.to_string() };
        match step {
            PluginStep::Restart => {
                self.call::<api::ServingVersion>(CallMethod::Restart(name())).map(drop)
            }
            PluginStep::Start => {
                self.call::<api::ServingVersion>(CallMethod::Start(name())).map(drop)
            }
            PluginStep::Stop => self.call::<api::EmptyReply>(CallMethod::Stop(name())).map(drop),
            PluginStep::Replace { component, manifest } => {
                let component = component.as_deref().map(|path| (path, self.file("wasm")));
                let manifest = manifest.as_deref().map(|path| (path, self.file("toml")));
                self.replace(component, manifest)
            }
        }
    }

    /// Replaces files of the plugin, and waits until the new version has taken over. A message names the files of the
    /// author.
    fn replace(
        &self,
        component: Option<(&Path, PathBuf)>,
        manifest: Option<(&Path, PathBuf)>,
    ) -> Result<(), Problem> {
        if let Some((path, _)) = &manifest {
            check_manifest(&self.name, path).map_err(|error| Problem::Mistakes(error.lines()))?;
        }
        let files: Vec<_> = [component, manifest].into_iter().flatten().collect();
        for (from, to) in &files {
            put_file(from, to).map_err(Problem::failed)?;
        }
        let name = api::Name { name: self.name.to_string() };
        let reloaded = self.call::<api::ServingVersion>(CallMethod::ReloadPlugin(name));
        let paths = files.into_iter().map(|(from, to)| (to, from.to_owned()));
        reloaded.map(drop).map_err(|problem| {
            let text = SourcePaths::new(paths).in_text(&problem.to_string()).into_owned();
            Problem::Mistakes(vec![text])
        })
    }

    /// Waits until the plugin is in this state, and returns the state that it is in instead, if it is not.
    pub(super) fn other_state(&self, expected: &str) -> Result<Option<String>, Problem> {
        let place = ControlAddress::of(self.control.clone());
        let name = api::Name { name: self.name.to_string() };
        wait_for(unless_interrupted(async {
            let mut client = Client::connect(&place)?;
            let deadline = Instant::now() + STATE_MAX;
            loop {
                let asked = CallMethod::Describe(name.clone());
                let api::Description { plugin, .. } = client.call(asked).await?;
                let api::Plugin { active_state, sub_state, .. } = plugin;
                if [&*active_state, &*sub_state].contains(&expected) {
                    return Ok(None);
                }
                if Instant::now() > deadline {
                    return Ok(Some(format!("{active_state} ({sub_state})")));
                }
                tokio::time::sleep(LOOK).await;
            }
        }))
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.plugins.join(format!("{}.{extension}", self.name))
    }

    fn call<R: DeserializeOwned + Debug>(&self, call: CallMethod) -> Result<R, Problem> {
        let place = ControlAddress::of(self.control.clone());
        wait_for(unless_interrupted(async { Ok(Client::connect(&place)?.call::<R>(call).await?) }))
    }
}
