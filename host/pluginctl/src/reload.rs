//! `pluginctl reload`: has the directories read anew, and tells what comes of it as it comes.

use crate::{
    client::{Client, ClientError, Method, Place, Refusal},
    live::Live,
    print::{complain, json, line, print},
    problem::{Problem, unless_interrupted, wait_for},
};
use plugind::api;
use std::{collections::BTreeSet, process::ExitCode};

#[derive(clap::Args)]
pub(crate) struct Reload {
    /// Prints JSON, as the control socket has it: a line for each reply
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// What was told already.
#[derive(Default)]
struct Told {
    news: BTreeSet<String>,
    failures: BTreeSet<String>,
}

impl Reload {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let ended = wait_for(unless_interrupted(self.follow()));
        Ok(if ended? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Follows a reload to its end, and says whether it went well.
    async fn follow(&self) -> Result<bool, Problem> {
        let mut client = Client::connect(&self.place)?;
        client.begin(Method::Reload(api::ReloadTerms::default())).await?;
        let mut told = Told::default();
        let mut live = (!self.json).then(Live::new);
        loop {
            let (now, more) = match client.next::<api::Reload>().await {
                Err(ClientError::Refused(Refusal::ReloadFailed { unreadable, failed })) => {
                    (api::Reload { unreadable, failed, ..api::Reload::default() }, false)
                }
                came => came?,
            };
            if let Some(live) = &mut live {
                live.clear()?;
                print(&told.news(&now))?;
            } else {
                print(&json(&now))?;
            }
            for failure in told.failures(&now) {
                complain(&failure);
            }
            if more {
                live.iter_mut().try_for_each(|live| live.show(&names(&now.awaited)))?;
                continue;
            }
            if let Some(remedy) = remedy(&now) {
                complain(&remedy);
            }
            if !self.json && now.unreadable.is_none() {
                print(&summary(&now))?;
            }
            return Ok(now.unreadable.is_none() && now.failed.is_empty());
        }
    }
}

impl Told {
    /// What went well since the last reply.
    fn news(&mut self, now: &api::Reload) -> String {
        let changed = now.changed.iter().map(|name| format!("{name}: changed"));
        let removed = now.removed.iter().map(|name| format!("{name}: removed"));
        let new = changed.chain(removed).filter(|line| self.news.insert(line.clone()));
        new.map(|news| line(&news)).collect()
    }

    /// What failed since the last reply.
    fn failures(&mut self, now: &api::Reload) -> Vec<String> {
        let all = now.failed.iter().map(|failure| {
            format!("{}: failed at {}: {}", failure.plugin, failure.stage, failure.error)
        });
        all.filter(|line| self.failures.insert(line.clone())).collect()
    }
}

fn names(awaited: &[api::Awaited]) -> Vec<String> {
    awaited.iter().map(|awaited| awaited.plugin.clone()).collect()
}

/// What to do about what failed.
fn remedy(over: &api::Reload) -> Option<String> {
    if let Some(why) = &over.unreadable {
        return Some(format!("nothing is reloaded: {why}"));
    }
    if over.failed.is_empty() {
        return None;
    }
    let remedy = match over.failed.iter().any(|failure| failure.configuration) {
        true => "mend it and reload again",
        false => "another reload tries it again",
    };
    Some(format!("what failed goes on in the version before, if there was one; {remedy}"))
}

fn summary(over: &api::Reload) -> String {
    format!(
        "reloaded: {} changed, {} removed, {} unchanged, {} failed\n",
        over.changed.len(),
        over.removed.len(),
        over.unchanged,
        over.failed.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::failure;

    fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
        names.map(str::to_owned).into()
    }

    #[test]
    fn everything_is_told_once_and_when_it_comes() {
        let mut told = Told::default();
        let mut now = api::Reload { scanned: true, unchanged: 3, ..api::Reload::default() };
        now.removed = names(["old"]);
        assert_eq!(told.news(&now), "old: removed\n");
        now.changed = names(["greeter"]);
        now.failed = vec![failure()];
        assert_eq!(told.news(&now), "greeter: changed\n");
        let failed = "bad: failed at verify: /etc/plugind/plugins/bad.toml:1:1: unknown key";
        assert_eq!(told.failures(&now), [failed]);
        now.changed = names(["greeter", "slow"]);
        assert_eq!(told.news(&now), "slow: changed\n");
        assert_eq!(told.failures(&now), [""; 0]);
        assert_eq!(summary(&now), "reloaded: 2 changed, 1 removed, 3 unchanged, 1 failed\n");
    }

    #[test]
    fn what_failed_is_told_with_a_remedy() {
        let mut over = api::Reload::default();
        assert_eq!(remedy(&over), None);
        over.failed = vec![api::Failure { configuration: false, ..failure() }];
        assert!(remedy(&over).is_some_and(|told| told.ends_with("another reload tries it again")));
        over.failed.push(failure());
        assert!(remedy(&over).is_some_and(|told| told.ends_with("mend it and reload again")));
        over.unreadable = Some("/etc/plugind/plugins: not a directory".to_owned());
        let told = remedy(&over).unwrap();
        assert_eq!(told, "nothing is reloaded: /etc/plugind/plugins: not a directory");
    }
}
