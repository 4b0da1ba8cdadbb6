//! Messages that a NATS server refuses. It reports each as an error that names the subject, and confirms no message.

use async_nats::Client;
use futures::StreamExt as _;
use std::{
    collections::HashSet,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::sleep,
};

/// The most errors of the server that are kept for a slow receiver.
const ERRORS_MAX: usize = 1024;
/// Subjects to which the server is known to allow messages, at most.
const ALLOWED_MAX: usize = 1024;
/// Time for the task of the client to pass on an error that it has received.
const REPORTED_WITHIN: Duration = Duration::from_millis(10);

/// The errors that a server reports, and the subjects to which it has allowed messages on this connection.
#[derive(Debug)]
pub(super) struct Refusals {
    errors: broadcast::Sender<Arc<str>>,
    allowed: Mutex<HashSet<Box<str>>>,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self { errors: broadcast::Sender::new(ERRORS_MAX), allowed: Mutex::default() }
    }

    /// The errors that the server reports from now on.
    pub(super) fn errors(&self) -> broadcast::Receiver<Arc<str>> {
        self.errors.subscribe()
    }

    /// Passes an error of the server on, and forgets that its subject was allowed, if it names one.
    pub(super) fn report(&self, error: &str) {
        // Its permissions may have changed.
        self.allowed().retain(|subject| !is_about(error, subject));
        // There may be no receiver.
        self.errors.send(error.into()).ok();
    }

    /// Forgets the allowed subjects: a new connection may have other permissions.
    pub(super) fn reset(&self) {
        self.allowed().clear();
    }

    /// Waits until the server has had the opportunity to refuse a message to this subject that was sent before.
    pub(super) async fn await_refusal_window(
        &self,
        client: &Client,
        subject: &str,
    ) -> Result<(), async_nats::Error> {
        if self.allowed().contains(subject) {
            return Ok(client.flush().await?);
        }
        self.round_trip(client).await?;
        sleep(REPORTED_WITHIN).await;
        let mut allowed = self.allowed();
        if allowed.len() >= ALLOWED_MAX {
            allowed.clear();
        }
        allowed.insert(subject.into());
        Ok(())
    }

    /// Waits until the server has processed everything that was sent before. It handles messages in order, so the echo
    /// of this one follows any refusal of an earlier one.
    pub(super) async fn round_trip(&self, client: &Client) -> Result<(), async_nats::Error> {
        let (inbox, mut errors) = (client.new_inbox(), self.errors());
        let mut echo = client.subscribe(inbox.clone()).await?;
        client.publish(inbox.clone(), Vec::new().into()).await?;
        tokio::select! {
            _ = echo.next() => (),
            _ = refusal(&mut errors, &inbox) => (),
        }
        Ok(())
    }

    fn allowed(&self) -> MutexGuard<'_, HashSet<Box<str>>> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the server refuses a message or a subscription to this subject, and returns the error.
pub async fn refusal(errors: &mut broadcast::Receiver<Arc<str>>, subject: &str) -> Arc<str> {
    loop {
        match errors.recv().await {
            Ok(error) if is_about(&error, subject) => return error,
            Ok(_) | Err(RecvError::Lagged(_)) => (),
            Err(RecvError::Closed) => return pending().await,
        }
    }
}

/// Waits until the server refuses a subscription to this subject, and returns the error. One that was missed may be about
/// it, so that the subscription has to be made again.
pub async fn subscription_refusal(
    errors: &mut broadcast::Receiver<Arc<str>>,
    subject: &str,
) -> Arc<str> {
    let subject = format!("\"{subject}\"");
    loop {
        match errors.recv().await {
            Ok(error) if error.contains("Subscription") && error.contains(&subject) => {
                return error;
            }
            Ok(_) => (),
            Err(RecvError::Lagged(missed)) => {
                return format!("the server may refuse it: {missed} of its errors were missed")
                    .into();
            }
            Err(RecvError::Closed) => return pending().await,
        }
    }
}

/// Whether an error says that the permissions do not allow a message or a subscription to this subject.
fn is_about(error: &str, subject: &str) -> bool {
    error.contains("Permissions Violation") && error.contains(&format!("{subject:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_refusal_is_about_the_subject_that_it_names_and_no_other() {
        let error = "nats: Permissions Violation for Publish to \"orders.new\"";
        assert!(is_about(error, "orders.new"));
        for subject in ["orders", "new", "orders.new.eu", "orders.*"] {
            assert!(!is_about(error, subject), "{subject}");
        }
        assert!(!is_about("nats: Stale Connection \"orders.new\"", "orders.new"));
    }

    #[test]
    fn a_subscription_counts_as_refused_if_its_refusal_may_have_been_missed() {
        let refusals = Refusals::new();
        let mut errors = refusals.errors();
        let report = |subject: &str| {
            refusals
                .report(&format!("nats: Permissions Violation for Subscription to \"{subject}\""));
        };
        let mut refusal = || subscription_refusal(&mut errors, "orders.*").now_or_never();
        report("orders.new");
        assert_eq!(refusal(), None);
        report("orders.*");
        assert!(refusal().unwrap().contains("Permissions Violation"));
        report("orders.*");
        for nth in 0..ERRORS_MAX {
            report(&format!("others.{nth}"));
        }
        assert!(refusal().unwrap().contains("may refuse it: 1 of its errors"));
        assert_eq!(refusal(), None);
    }

    #[test]
    fn a_subject_that_is_refused_no_longer_counts_as_allowed() {
        let refusals = Refusals::new();
        refusals.allowed().extend(["orders.new", "orders.old"].map(Box::<str>::from));
        refusals.report("nats: Permissions Violation for Publish to \"orders.new\"");
        assert_eq!(*refusals.allowed(), HashSet::from([Box::<str>::from("orders.old")]));
        refusals.reset();
        assert!(refusals.allowed().is_empty());
    }
}
