//! The transfer of a plugin's state from one instance to another: who wants it, and the calls that move it.

use crate::{
    base::{quantity::Bytes, text::one_line},
    plugin::manifest::Manifest,
    pool::{
        deadline::{Deadline, GuestCall},
        failure::Failure,
    },
    world::{
        HostState, bindings::exports::plugind::plugin::handover::Guest, notify::STATUS_MAX,
        set_transfer_max,
    },
};
use futures::{FutureExt, future::BoxFuture};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use wasmtime::{AsContextMut, component::Accessor};

/// Time after the supervisor's deadline at which an instance that restores is ended. For one that saves, the deadline is
/// dropped when nobody waits for the state any more, unless its guest computes all the time.
const GRACE: Duration = Duration::from_secs(1);

/// An order to save or restore the state of an instance.
#[derive(Debug)]
pub(crate) enum TransferOrder {
    /// To save it. Saves are numbered within their generation.
    Save(u64),
    /// To take this over.
    Restore(Arc<[u8]>),
}

/// The orders for a generation's one instance.
#[derive(Debug, Default)]
pub(crate) struct StateTransfer {
    /// Work waits; nobody takes it.
    held: AtomicBool,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    order: Option<TransferOrder>,
    /// Number of saves that were ordered.
    saves: u64,
    initial_state: Option<Arc<[u8]>>,
}

impl StateTransfer {
    /// Holds work and orders a save, and returns its number.
    pub(crate) fn save(&self) -> u64 {
        let mut standing = self.standing();
        // First of all, so that no work is taken by an instance that saves already.
        self.held.store(true, SeqCst);
        standing.saves += 1;
        standing.order = Some(TransferOrder::Save(standing.saves));
        standing.saves
    }

    /// Lets work be taken again. A save that was not begun is not wanted any more.
    pub(crate) fn resume(&self) {
        let mut standing = self.standing();
        standing.order.take_if(|order| matches!(order, TransferOrder::Save(_)));
        self.held.store(false, SeqCst);
    }

    /// Orders the instance to restore `state`.
    pub(crate) fn restore(&self, state: Arc<[u8]>) {
        self.standing().order = Some(TransferOrder::Restore(state));
    }

    /// Whether work has to wait.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(SeqCst)
    }

    /// Whether this save is the one whose outcome is waited for.
    fn is_wanted(&self, save: u64) -> bool {
        self.is_held() && self.standing().saves == save
    }

    /// Whether there is an order that nobody follows yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.standing().order.is_some()
    }

    /// Takes back the order to save, if there is one that nobody follows yet; returns its number.
    pub(crate) fn take_save(&self) -> Option<u64> {
        let mut standing = self.standing();
        match standing.order {
            Some(TransferOrder::Save(save)) => {
                standing.order = None;
                Some(save)
            }
            Some(TransferOrder::Restore(_)) | None => None,
        }
    }

    fn take(&self) -> Option<TransferOrder> {
        self.standing().order.take()
    }

    /// Sets the state that instances take over if they start from now on.
    pub(crate) fn set_initial_state(&self, state: Option<Arc<[u8]>>) {
        self.standing().initial_state = state;
    }

    /// Returns the state that an instance takes over if it starts now.
    pub(crate) fn initial_state(&self) -> Option<Arc<[u8]>> {
        self.standing().initial_state.clone()
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limits of size and time for transferring the state of an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransferLimits {
    timeout: Duration,
    state_max: Bytes,
    /// The memory limit of the instance, and hence the largest state that it can hand over.
    memory_max: Bytes,
}

impl TransferLimits {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let (handover, limits) = (&manifest.handover, &manifest.limits);
        Self {
            timeout: handover.timeout,
            state_max: handover.state_max,
            memory_max: limits.instance_memory_max,
        }
    }
}

/// The result of an order.
pub(crate) enum Done {
    Saved(u64, Result<Option<Arc<[u8]>>, Failure>),
    /// The state for the instance that replaces this one.
    SavedForNext(Result<Option<Arc<[u8]>>, Failure>),
    Restored(Result<(), Failure>),
}

/// One instance's side: it follows one order at a time, when it has nothing else to do.
pub(crate) struct InstanceTransfer<'a> {
    guest: Option<&'a Guest>,
    transfer: &'a StateTransfer,
    limits: TransferLimits,
    deadline: &'a Deadline,
    running: Option<(GuestCall, BoxFuture<'a, wasmtime::Result<Done>>)>,
    /// It runs for the instance that replaces this one.
    for_next: bool,
}

impl<'a> InstanceTransfer<'a> {
    /// An instance with a state has `guest`. Its calls are limited by `deadline`.
    pub(crate) fn new(
        guest: Option<&'a Guest>,
        transfer: &'a StateTransfer,
        limits: TransferLimits,
        deadline: &'a Deadline,
    ) -> Self {
        Self { guest, transfer, limits, deadline, running: None, for_next: false }
    }

    /// Whether there is an order that has not been begun, and nothing else is under way, so that it must be begun now.
    pub(crate) fn is_due(&self) -> bool {
        self.guest.is_some() && self.running.is_none() && self.transfer.is_pending()
    }

    /// Begins to carry out the order, if there is one.
    pub(crate) fn begin(&mut self, accessor: &'a Accessor<HostState>) {
        let (Some(guest), Some(order)) = (self.guest, self.transfer.take()) else { return };
        let limits = self.limits;
        let (kind, call) = match order {
            TransferOrder::Save(number) => {
                let call =
                    async move { Ok(Done::Saved(number, save(accessor, guest, limits).await?)) };
                (GuestCall::Save, call.boxed())
            }
            TransferOrder::Restore(state) => {
                let call =
                    async move { Ok(Done::Restored(restore(accessor, guest, &state).await?)) };
                (GuestCall::Restore, call.boxed())
            }
        };
        self.deadline.begin(kind, limits.timeout + GRACE);
        self.running = Some((kind, call));
    }

    /// Saves what the instance that replaces this one takes over, without an order.
    pub(crate) fn begin_for_next(&mut self, accessor: &'a Accessor<HostState>) {
        let Some(guest) = self.guest else { return };
        let limits = self.limits;
        let call = async move { Ok(Done::SavedForNext(save(accessor, guest, limits).await?)) };
        self.deadline.begin(GuestCall::Save, limits.timeout);
        self.for_next = true;
        self.running = Some((GuestCall::Save, call.boxed()));
    }

    /// The result of the order, once it is done, if it is still wanted.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> wasmtime::Result<Option<Done>> {
        let Some((kind, call)) = &mut self.running else { return Ok(None) };
        let Poll::Ready(done) = call.poll_unpin(cx) else {
            // A save that is no longer awaited has no deadline: ending the instance would lose its state.
            if *kind == GuestCall::Save && !self.for_next && !self.transfer.is_held() {
                self.deadline.end(GuestCall::Save);
            }
            return Ok(None);
        };
        self.deadline.end(*kind);
        self.running = None;
        self.for_next = false;
        Ok(match done? {
            Done::Saved(save, _) if !self.transfer.is_wanted(save) => None,
            done => Some(done),
        })
    }

    /// Whether work may be taken: a save that is not wanted any more is no reason to wait for it.
    pub(crate) fn allows_calls(&self) -> bool {
        let restores = || matches!(self.running, Some((GuestCall::Restore, _)));
        let held = || self.transfer.is_held() || self.transfer.is_pending();
        self.guest.is_none() || !(held() || restores() || self.for_next)
    }

    /// Whether an order is being followed.
    pub(crate) fn is_under_way(&self) -> bool {
        self.running.is_some()
    }
}

async fn save(
    accessor: &Accessor<HostState>,
    guest: &Guest,
    limits: TransferLimits,
) -> wasmtime::Result<Result<Option<Arc<[u8]>>, Failure>> {
    // A state that is too large must be reported, so the guest may pass it.
    accessor.with(|mut store| set_transfer_max(store.as_context_mut(), limits.memory_max));
    let said = guest.call_save(accessor).await?;
    accessor.with(|mut store| set_transfer_max(store.as_context_mut(), Bytes(0)));
    Ok(match said {
        Err(why) => Err(Failure::Save(one_line(&why, STATUS_MAX))),
        Ok(None) => Ok(None),
        Ok(Some(state)) => match Bytes(state.len() as u64) {
            size if size > limits.state_max => {
                Err(Failure::StateTooLarge { size: size.0, max: limits.state_max })
            }
            _ => Ok(Some(state.into())),
        },
    })
}

/// Has an instance take over `state`.
pub(crate) async fn restore(
    accessor: &Accessor<HostState>,
    guest: &Guest,
    state: &[u8],
) -> wasmtime::Result<Result<(), Failure>> {
    let said = guest.call_restore(accessor, state.to_vec()).await?;
    Ok(said.map_err(|why| Failure::Restore(one_line(&why, STATUS_MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_that_has_not_begun_is_forgotten_when_work_continues() {
        let transfer = StateTransfer::default();
        assert!(!transfer.is_held());
        transfer.save();
        assert!(transfer.is_held() && transfer.is_pending());
        transfer.resume();
        assert!(!transfer.is_held() && !transfer.is_pending());
        transfer.restore(Arc::from(*b"x"));
        transfer.resume();
        assert!(transfer.is_pending(), "taking over is no part of saving");
    }

    #[test]
    fn only_an_order_to_save_is_taken_back() {
        let transfer = StateTransfer::default();
        transfer.restore(Arc::from(*b"x"));
        assert_eq!(transfer.take_save(), None);
        assert!(transfer.is_pending());
        let save = transfer.save();
        assert_eq!((transfer.take_save(), transfer.take_save()), (Some(save), None));
        assert!(transfer.is_held() && !transfer.is_pending());
    }

    #[test]
    fn a_save_that_was_given_up_is_not_taken_for_a_later_one() {
        let transfer = StateTransfer::default();
        let first = transfer.save();
        assert!(transfer.is_wanted(first));
        transfer.resume();
        assert!(!transfer.is_wanted(first));
        let second = transfer.save();
        assert!(!transfer.is_wanted(first) && transfer.is_wanted(second));
    }

    #[test]
    fn each_save_has_a_number_of_its_own_and_the_last_one_counts() {
        let transfer = StateTransfer::default();
        assert_ne!(transfer.save(), transfer.save());
        assert!(matches!(transfer.take(), Some(TransferOrder::Save(2))));
        assert!(transfer.take().is_none() && transfer.is_held());
    }

    #[test]
    fn the_initial_state_stays_until_it_is_replaced() {
        let transfer = StateTransfer::default();
        assert_eq!(transfer.initial_state(), None);
        transfer.set_initial_state(Some(Arc::from(*b"x")));
        assert_eq!(transfer.initial_state().as_deref(), Some(&b"x"[..]));
        assert_eq!(transfer.initial_state().as_deref(), Some(&b"x"[..]));
        transfer.set_initial_state(None);
        assert_eq!(transfer.initial_state(), None);
    }
}
