//! `pluginctl reload`: asks the daemon to read the directories again, and prints the progress.

use crate::{
    client::{CallMethod, CallRefused, Client, ClientError, ControlAddress},
    print::{complain, json, line, print},
    problem::{Problem, unless_interrupted, wait_for},
    progress::ReloadProgress,
    progress_line::ProgressLine,
    run::source_paths::SourcePaths,
    stale_credentials, stale_directories,
};
use clap::ValueEnum;
use plugind::{api, base::name::PluginName};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct ReloadArgs {
    /// Reload this plugin only (default: all that have changed or failed)
    #[arg(value_name = "NAME", conflicts_with_all = ["all_or_nothing", "until"])]
    name: Option<PluginName>,
    /// Change nothing unless all changed plugins become ready
    #[arg(long)]
    all_or_nothing: bool,
    /// Wait until the new versions serve (swapped), or also until the old ones have finished their requests (drained)
    #[arg(long, value_name = "STEP", default_value = "drained")]
    until: Until,
    /// Print JSON: each reply of the control socket
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ControlAddress,
    /// The files that messages name.
    #[arg(skip)]
    paths: SourcePaths,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    Swapped,
    Drained,
}

impl ReloadArgs {
    /// A reload that ends when the new versions serve.
    pub(crate) fn until_swapped(place: ControlAddress, paths: SourcePaths) -> Self {
        Self { name: None, all_or_nothing: false, until: Until::Swapped, json: false, place, paths }
    }

    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let has_succeeded = match &self.name {
            Some(name) => {
                wait_for(unless_interrupted(self.reload_one(name)))?;
                true
            }
            None => wait_for(unless_interrupted(self.follow()))?,
        };
        self.note_stale_credentials();
        // A daemon that has failed to reload reports this itself.
        let is_current = !has_succeeded || self.sees_present_directories();
        let is_well = has_succeeded && is_current;
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Whether the daemon sees the present directories, as far as this user may know; otherwise it is reported.
    fn sees_present_directories(&self) -> bool {
        let note = self.place.is_system().then(stale_directories::note).flatten();
        note.inspect(|note| complain(note)).is_none()
    }

    /// Says so if the daemon cannot see the present credentials.
    fn note_stale_credentials(&self) {
        let note = self.place.is_system().then(stale_credentials::note).flatten();
        if let Some(note) = note {
            complain(&note);
        }
    }

    async fn reload_one(&self, name: &PluginName) -> Result<(), Problem> {
        let asked = CallMethod::ReloadPlugin(api::Name { name: name.to_string() });
        let reloaded: api::ServingVersion = Client::connect(&self.place)?.call(asked).await?;
        let reported = format!("{name}: reloaded, generation {}", reloaded.generation);
        Ok(print(&if self.json { json(&reloaded) } else { line(&reported) })?)
    }

    /// Follows a reload to its end, and says whether it went well.
    pub(crate) async fn follow(&self) -> Result<bool, Problem> {
        let mut client = Client::connect(&self.place)?;
        client.begin(CallMethod::Reload(self.terms())).await?;
        let mut progress = ReloadProgress::default();
        let mut live = (!self.json).then(ProgressLine::new);
        loop {
            let (now, more) = match client.next::<api::Reload>().await {
                Err(ClientError::Refused(CallRefused::ReloadFailed { unreadable, failed })) => {
                    (api::Reload { unreadable, failed, ..api::Reload::default() }, false)
                }
                came => came?,
            };
            if let Some(live) = &mut live {
                live.clear()?;
                let news = progress.news(&now).into_iter();
                let news = news.filter(|news| news.lasts || !live.is_seen());
                print(&news.map(|news| line(&news.line)).collect::<String>())?;
            } else {
                print(&json(&now))?;
            }
            for ignored in progress.ignored(&now) {
                self.complain(&format!("warning: {ignored}"));
            }
            for pinned in progress.pinned(&now) {
                self.complain(&pinned);
            }
            for failure in progress.failures(&now) {
                self.complain(&failure);
            }
            if more {
                if let (Some(live), Some(doing)) = (&mut live, progress.doing(&now)) {
                    live.show(&doing)?;
                }
                continue;
            }
            let failure = failure(&now);
            if let Some(failure) = &failure {
                self.complain(failure);
            }
            if !self.json && now.unreadable.is_none() && !now.taken_back {
                print(&summary(&now))?;
            }
            return Ok(failure.is_none());
        }
    }

    fn complain(&self, message: &str) {
        complain(&self.paths.in_text(message));
    }

    fn terms(&self) -> api::ReloadTerms {
        api::ReloadTerms {
            all_or_nothing: self.all_or_nothing.then_some(true),
            until_drained: (self.until == Until::Drained).then_some(true),
        }
    }
}

/// Returns the message about a reload that failed or is incomplete.
fn failure(ended: &api::Reload) -> Option<String> {
    if let Some(why) = &ended.unreadable {
        let nothing = ended.changed.is_empty() && ended.removed.is_empty();
        let what = if nothing { "reload failed, nothing changed" } else { "reload incomplete" };
        return Some(format!("{what}: {why}"));
    }
    if ended.taken_back {
        return Some("reload failed, nothing changed".to_owned());
    }
    let keeps_serving =
        "the previous versions of failed plugins keep serving, except those of stopped plugins";
    (!ended.failed.is_empty()).then(|| keeps_serving.to_owned())
}

fn summary(ended: &api::Reload) -> String {
    format!(
        "reloaded: {} changed, {} removed, {} unchanged, {} failed\n",
        ended.changed.len(),
        ended.removed.len(),
        ended.unchanged,
        ended.failed.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn failures_are_reported_with_the_outcome_of_the_other_plugins() {
        let mut ended = api::Reload::default();
        assert_eq!(failure(&ended), None);
        ended.failed = vec![fixtures::failure()];
        let keeps_serving =
            "the previous versions of failed plugins keep serving, except those of stopped plugins";
        assert_eq!(failure(&ended).as_deref(), Some(keeps_serving));
        ended.taken_back = true;
        assert_eq!(failure(&ended).as_deref(), Some("reload failed, nothing changed"));
        ended.unreadable = Some("/etc/plugind/plugins: not a directory".to_owned());
        let reported = "reload failed, nothing changed: /etc/plugind/plugins: not a directory";
        assert_eq!(failure(&ended).as_deref(), Some(reported));
        ended.changed = vec!["before".to_owned()];
        let reported = "reload incomplete: /etc/plugind/plugins: not a directory";
        assert_eq!(failure(&ended).as_deref(), Some(reported));
    }
}
