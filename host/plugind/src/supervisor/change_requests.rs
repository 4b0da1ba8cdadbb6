//! Clients that wait for a change of one plugin: a restart, a start, a reload of it alone, or a rollback. No clock and no
//! I/O.
//!
//! What a client asks for is known only when the files are read, or the version is linked. An outcome before that is the
//! outcome of another change.

use crate::{base::name::PluginName, supervisor::problem::RestartError};
use tokio::sync::oneshot;

/// Where the outcome goes: the number of the generation that serves then.
pub(crate) type ChangeReply = oneshot::Sender<Result<u64, RestartError>>;

/// The outcome of a change of one plugin.
type ChangeOutcome = Result<u64, RestartError>;

/// The requests without an answer, in the order in which they came.
#[derive(Default)]
pub(super) struct ChangeRequests {
    waiting: Vec<ChangeRequest>,
    /// The number of the last request.
    last: u64,
}

struct ChangeRequest {
    nth: u64,
    plugin: PluginName,
    /// What it asks for has begun, so that the next outcome of the plugin is its own.
    has_begun: bool,
    reply: ChangeReply,
}

impl ChangeRequests {
    /// Adds a request that has not begun yet, and returns its number.
    pub(super) fn add(&mut self, plugin: &PluginName, reply: ChangeReply) -> u64 {
        self.last += 1;
        let (nth, plugin, has_begun) = (self.last, plugin.clone(), false);
        self.waiting.push(ChangeRequest { nth, plugin, has_begun, reply });
        nth
    }

    /// Adds a request that gets the outcome of the change in progress.
    pub(super) fn join(&mut self, plugin: &PluginName, reply: ChangeReply) {
        let nth = self.add(plugin, reply);
        self.begin(nth);
    }

    /// Whether this request has no answer yet. What was answered must not happen any more.
    pub(super) fn is_waiting(&self, nth: u64) -> bool {
        self.waiting.iter().any(|request| request.nth == nth)
    }

    /// What this request asks for begins, or is in progress.
    pub(super) fn begin(&mut self, nth: u64) {
        let waiting = self.waiting.iter_mut();
        waiting.filter(|request| request.nth == nth).for_each(|request| request.has_begun = true);
    }

    /// Answers this request and no other.
    pub(super) fn answer(&mut self, nth: u64, outcome: &ChangeOutcome) {
        self.answer_those(|request| request.nth == nth, outcome);
    }

    /// A change of this plugin has this outcome, which answers those that began it or joined it.
    pub(super) fn conclude(&mut self, plugin: &PluginName, outcome: &ChangeOutcome) {
        self.answer_those(|request| request.has_begun && request.plugin == *plugin, outcome);
    }

    /// Nothing happens any more of what was asked for this plugin.
    pub(super) fn cancel(&mut self, plugin: &PluginName, why: RestartError) {
        self.answer_those(|request| request.plugin == *plugin, &Err(why));
    }

    /// Nothing happens any more of what was asked for any plugin: the daemon ends.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    fn answer_those(&mut self, is_one: impl Fn(&ChangeRequest) -> bool, outcome: &ChangeOutcome) {
        for ChangeRequest { reply, .. } in self.waiting.extract_if(.., |request| is_one(request)) {
            // The client may have disconnected.
            reply.send(outcome.clone()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oneshot::{Receiver, error::TryRecvError};

    struct Client(Receiver<ChangeOutcome>);

    impl Client {
        fn add(requests: &mut ChangeRequests, plugin: &str) -> (u64, Self) {
            let (reply, answer) = oneshot::channel();
            (requests.add(&plugin.parse().unwrap(), reply), Self(answer))
        }

        fn answer(&mut self) -> Option<ChangeOutcome> {
            match self.0.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Closed) => panic!("it was dropped, or answered before"),
            }
        }
    }

    #[test]
    fn an_outcome_answers_those_that_have_begun_and_no_others() {
        let (mut requests, a, b) =
            (ChangeRequests::default(), "a".parse().unwrap(), "b".parse().unwrap());
        let (first, mut begun) = Client::add(&mut requests, "a");
        let (second, mut later) = Client::add(&mut requests, "a");
        let (other, mut of_another) = Client::add(&mut requests, "b");
        [first, other].into_iter().for_each(|nth| requests.begin(nth));
        requests.conclude(&a, &Ok(7));
        assert_eq!(begun.answer(), Some(Ok(7)));
        assert_eq!((later.answer(), of_another.answer()), (None, None));
        assert_eq!([first, second, other].map(|nth| requests.is_waiting(nth)), [false, true, true]);
        requests.begin(second);
        requests.conclude(&a, &Err(RestartError::TakenBack));
        assert_eq!(later.answer(), Some(Err(RestartError::TakenBack)));
        requests.conclude(&b, &Ok(8));
        assert_eq!(of_another.answer(), Some(Ok(8)));
    }

    #[test]
    fn a_plugin_that_is_stopped_leaves_no_request_for_it_without_an_answer() {
        let (mut requests, a) = (ChangeRequests::default(), "a".parse().unwrap());
        let (first, mut begun) = Client::add(&mut requests, "a");
        let (second, mut later) = Client::add(&mut requests, "a");
        let (other, mut of_another) = Client::add(&mut requests, "b");
        requests.begin(first);
        requests.cancel(&a, RestartError::Stopped);
        for client in [&mut begun, &mut later] {
            assert_eq!(client.answer(), Some(Err(RestartError::Stopped)));
        }
        assert_eq!([second, other].map(|nth| requests.is_waiting(nth)), [false, true]);
        requests.answer(other, &Err(RestartError::Pinned));
        assert_eq!(of_another.answer(), Some(Err(RestartError::Pinned)));
    }
}
