//! Whether a server can be reached. An outage is logged when it begins, and when it has ended.

use crate::remote::certificate;
use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout_at};
use tracing::{info, warn};

/// Time since the beginning of an outage, or since the start, within which a caller waits for the server.
const REACHABLE_WITHIN: Duration = Duration::from_secs(1);
/// The pauses between two attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The longest error that is kept, in bytes: a server may send one.
const ERROR_MAX: usize = 300;

/// The pause before an attempt to connect; `attempt` counts from 1. Each is twice the one before.
#[must_use]
pub fn pause(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    (PAUSE_MIN * 2_u32.pow(doublings)).min(PAUSE_MAX)
}

/// Whether a server can be reached, as its connection reports it. Clones share one state.
#[derive(Clone, Debug)]
pub struct Availability {
    server: Arc<str>,
    state: watch::Sender<Reachability>,
}

#[derive(Clone, Debug)]
enum Reachability {
    Reachable { since: Instant },
    Unreachable { error: Arc<str>, since: Instant, is_reported: bool },
}

/// The server cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{server} cannot be reached: {error}")]
pub struct Unreachable {
    server: Arc<str>,
    error: Arc<str>,
}

impl Availability {
    /// The availability of a server with this URL, to which no connection exists yet.
    #[must_use]
    pub fn new(url: &impl ToString) -> Self {
        let error = "there is no connection yet".into();
        let state = Reachability::Unreachable { error, since: Instant::now(), is_reported: false };
        Self { server: url.to_string().into(), state: watch::Sender::new(state) }
    }

    /// The URL of the server.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Reports that the server answers. Logs the end of an outage that was logged.
    pub fn report_reachable(&self) {
        let before = self.state.send_replace(Reachability::Reachable { since: Instant::now() });
        if let Reachability::Unreachable { is_reported: true, since, .. } = before {
            let seconds = since.elapsed().as_secs();
            info!(server = %self.server, seconds, "server reachable again");
        }
    }

    /// Reports that the server does not answer, because of `error`. The beginning of an outage is logged, and so
    /// is each other error during it.
    pub fn report_unreachable(&self, error: &str) {
        self.note(error, true);
    }

    /// The cause of an outage is `error`. If the outage has ended meanwhile, nothing changes.
    pub fn still_unreachable(&self, error: &str) {
        self.note(error, false);
    }

    /// Notes that the server cannot be reached. If it counts as reachable, `may_begin` decides whether an outage begins
    /// or nothing changes.
    fn note(&self, error: &str, may_begin: bool) {
        let end = |error: &str| error.floor_char_boundary(ERROR_MAX);
        let error = &*match certificate::explain(error) {
            Some((why, remedy)) => Cow::Owned(format!("{}; {remedy}", &why[..end(&why)])),
            None => Cow::Borrowed(&error[..end(error)]),
        };
        let (mut is_news, mut is_other) = (false, false);
        self.state.send_if_modified(|state| {
            let (since, was_reported) = match state {
                Reachability::Reachable { .. } if !may_begin => return false,
                Reachability::Reachable { .. } => (Instant::now(), false),
                Reachability::Unreachable { since, is_reported, error: last } => {
                    is_other = *is_reported && **last != *error;
                    (*since, *is_reported)
                }
            };
            is_news = !was_reported;
            *state = Reachability::Unreachable { error: error.into(), since, is_reported: true };
            true
        });
        if is_news {
            warn!(server = %self.server, error, "cannot reach server");
        } else if is_other {
            info!(server = %self.server, error, "server still unreachable");
        }
    }

    /// Why the server cannot be reached, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<Unreachable> {
        self.unreachable_since().map(|(unreachable, _)| unreachable)
    }

    /// The time of the last connection, if the server can be reached.
    #[must_use]
    pub fn reachable_since(&self) -> Option<Instant> {
        match &*self.state.borrow() {
            Reachability::Reachable { since } => Some(*since),
            Reachability::Unreachable { .. } => None,
        }
    }

    /// Waits a moment for a server whose outage has just begun.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn wait(&self) -> Result<(), Unreachable> {
        let Some((_, since)) = self.unreachable_since() else { return Ok(()) };
        let mut state = self.state.subscribe();
        let reachable = state.wait_for(|state| matches!(state, Reachability::Reachable { .. }));
        if let Ok(Ok(_)) = timeout_at((since + REACHABLE_WITHIN).into(), reachable).await {
            return Ok(());
        }
        self.failure().map_or(Ok(()), Err)
    }

    /// Waits until the server can no longer be reached, can be again, or is unreachable for another reason. A change
    /// between the call and the first poll counts.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        let (sender, mut state) = (self.state.clone(), self.state.subscribe());
        async move {
            // It fails only without a sender, and there is one.
            state.changed().await.ok();
            drop(sender);
        }
    }

    /// Waits until the server can be reached.
    pub async fn until_reachable(&self) {
        let mut state = self.state.subscribe();
        // It fails only without a sender, and `self` has one.
        state.wait_for(|state| matches!(state, Reachability::Reachable { .. })).await.ok();
    }

    /// Waits until the server cannot be reached, and returns why.
    pub async fn until_unreachable(&self) -> Unreachable {
        let mut state = self.state.subscribe();
        // It fails only without a sender, and `self` has one.
        state.wait_for(|state| matches!(state, Reachability::Unreachable { .. })).await.ok();
        self.failure().unwrap_or_else(|| self.into())
    }

    fn unreachable_since(&self) -> Option<(Unreachable, Instant)> {
        match &*self.state.borrow() {
            Reachability::Reachable { .. } => None,
            Reachability::Unreachable { error, since, .. } => {
                let unreachable = Unreachable { server: self.server.clone(), error: error.clone() };
                Some((unreachable, *since))
            }
        }
    }
}

impl From<&Availability> for Unreachable {
    fn from(availability: &Availability) -> Self {
        let error = "there is no connection yet".into();
        Self { server: availability.server.clone(), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<_> = (0..9).map(pause).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [100, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause(usize::MAX), PAUSE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_waits_for_a_short_outage_and_not_for_a_long_one() {
        let server = Availability::new(&"nats://a:1");
        let (waited, ()) = tokio::join!(server.wait(), async { server.report_reachable() });
        assert_eq!(waited, Ok(()));
        server.report_unreachable("refused");
        let unreachable = server.wait().await.unwrap_err();
        assert_eq!(unreachable.to_string(), "nats://a:1 cannot be reached: refused");
        assert_eq!(server.failure(), Some(unreachable));
        server.still_unreachable("no route");
        assert!(server.failure().is_some_and(|failure| failure.to_string().ends_with("no route")));
        server.report_reachable();
        assert_eq!(server.failure(), None);
        server.still_unreachable("too late");
        assert_eq!(server.failure(), None);
        server.report_unreachable("invalid peer certificate: UnknownIssuer");
        let failure = server.failure().unwrap().to_string();
        assert!(failure.contains("UnknownIssuer; ca in plugind.toml must have"), "{failure}");
    }
}
