//! One call in flight, as seen by those who have a part in it: the caller, a worker, and the sweeper of deadlines.
//!
//! The possible changes are a table, [`State::after`]; the code here notifies those concerned. A call *is in flight in
//! its worker* from when it is taken until its reply has been delivered, its caller has left, or its time is up,
//! whichever comes first. That is what a worker waits for before it ends.

use crate::{
    base::{
        atomic::{
            AtomicBool, AtomicU8,
            Ordering::{AcqRel, Acquire},
        },
        request_identity::RequestIdentity,
    },
    pool::{
        call::Call,
        call_state::{CallEvent, State},
        failure::CallFailure,
        registry::Registry,
        worker_handle::WorkerHandle,
    },
    world::{calls::RequestScope, passing::Passage},
};
use futures::task::AtomicWaker;
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    task::Waker,
    time::{Duration, Instant},
};

/// A call in flight.
pub(crate) struct InFlight {
    state: AtomicU8,
    begun: Instant,
    deadline: Instant,
    /// Where the sweeper has it.
    key: usize,
    registry: Arc<Registry<Self>>,
    /// Time that its worker may outlive it, if that was made for it alone.
    grace: Option<Duration>,
    worker: OnceLock<Arc<WorkerHandle>>,
    caller: AtomicWaker,
    /// The call itself, when it was given back.
    returned: Mutex<Option<Call>>,
    /// Why it failed, where its worker knows.
    failure: OnceLock<CallFailure>,
    /// The request on which the calls of its guest to other plugins depend, if the guest may call any.
    scope: OnceLock<Weak<RequestScope>>,
    /// The request that the guest may pass on, if it is middleware.
    passage: OnceLock<Arc<Passage>>,
    /// If its worker was made for it alone: the time since which that worker has nothing to answer.
    left_since: OnceLock<Instant>,
    is_swept: AtomicBool,
    /// Time at which the caller left without the whole reply.
    gone_since: OnceLock<Instant>,
    /// Which request it is, if it is one.
    identity: OnceLock<RequestIdentity>,
    /// The state of its guest: [`AT_WORK`], [`LINGERS`] or [`ENDED`].
    guest: AtomicU8,
}

/// The work of a guest on a call, until it has ended, as it should or with its instance.
pub(crate) struct GuestWork(Arc<InFlight>);

impl Drop for GuestWork {
    fn drop(&mut self) {
        let call = &self.0;
        if let Some(passage) = call.passage.get() {
            passage.end_work();
        }
        if call.guest.swap(ENDED, AcqRel) == LINGERS
            && let Some(worker) = call.worker()
        {
            worker.remove_lingering();
        }
        if call.grace.is_none() {
            call.sweep();
        }
    }
}

/// Time that a guest may work on a call whose caller has gone, until the call no longer occupies a place, and that an
/// instance that ends waits for it.
pub(super) const GONE_GRACE: Duration = Duration::from_secs(5);
/// The guest may have the call, or will.
const AT_WORK: u8 = 0;
/// The guest has it although the caller has been gone for so long that it keeps no place.
const LINGERS: u8 = 1;
/// The guest is done with it.
const ENDED: u8 = 2;

impl InFlight {
    pub(crate) fn new(
        registry: Arc<Registry<Self>>,
        key: usize,
        begun: Instant,
        deadline: Instant,
        grace: Option<Duration>,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(State::Queued as u8),
            begun,
            deadline,
            key,
            registry,
            grace,
            worker: OnceLock::new(),
            caller: AtomicWaker::new(),
            returned: Mutex::default(),
            failure: OnceLock::new(),
            scope: OnceLock::new(),
            passage: OnceLock::new(),
            left_since: OnceLock::new(),
            is_swept: AtomicBool::new(false),
            gone_since: OnceLock::new(),
            identity: OnceLock::new(),
            guest: AtomicU8::new(AT_WORK),
        })
    }

    /// Where the call is.
    pub(crate) fn state(&self) -> State {
        State::of(self.state.load(Acquire))
    }

    /// Returns the waker that wakes the caller when its time is up.
    pub(crate) fn caller(&self) -> &AtomicWaker {
        &self.caller
    }

    /// Which request it is, if it is one.
    pub(crate) fn identity(&self) -> Option<RequestIdentity> {
        self.identity.get().copied()
    }

    /// It is this request.
    pub(crate) fn identify(&self, identity: RequestIdentity) {
        // A call has one identity.
        self.identity.set(identity).ok();
    }

    /// The time at which the call began.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// The worker that has it, or had it.
    pub(crate) fn worker(&self) -> Option<&Arc<WorkerHandle>> {
        self.worker.get()
    }

    /// Gives it to a worker. False if its time is up already, or its caller gone.
    pub(crate) fn take(&self, worker: &Arc<WorkerHandle>) -> bool {
        worker.enter();
        // Before the state, so that a reader that sees the state sees the worker.
        let first = self.worker.set(worker.clone()).is_ok();
        debug_assert!(first, "a call is offered once");
        let taken = self.apply(CallEvent::Take).is_some();
        if !taken {
            worker.leave();
        }
        taken
    }

    /// The caller has the reply or the beginning of it, or the worker is done with the call. From now on it has no
    /// deadline.
    pub(crate) fn answer(&self) {
        self.apply(CallEvent::Answer);
        self.release();
    }

    /// The worker that was made for it alone has ended.
    pub(crate) fn worker_ended(&self) {
        self.sweep();
    }

    /// The caller found that there will be no reply.
    pub(crate) fn fail(&self) {
        if self.apply(CallEvent::Fail).is_some_and(State::is_in_worker) {
            self.leave_worker();
        }
        self.release();
    }

    /// The caller has the whole reply.
    pub(crate) fn deliver(&self) {
        if self.apply(CallEvent::Deliver).is_some() {
            self.leave_worker();
        }
    }

    /// The caller is gone, unless it has the whole reply already. The guest, which cannot be cancelled, has a moment to
    /// notice that; then the call keeps no place in its worker.
    pub(crate) fn leave(&self) {
        match self.apply(CallEvent::Leave) {
            Some(State::Taken | State::Answered) => {
                self.end_scope();
                // Set once: a caller leaves once.
                self.gone_since.set(Instant::now()).ok();
                if let Some(worker) = self.worker() {
                    worker.note_abandoned_call();
                }
                self.leave_worker();
            }
            Some(_) => self.sweep(),
            None => (),
        }
    }

    /// A guest begins to work on it.
    pub(crate) fn begin_work(self: &Arc<Self>) -> GuestWork {
        GuestWork(self.clone())
    }

    /// The calls of its guest to other plugins depend on this scope.
    pub(crate) fn set_scope(&self, scope: &Arc<RequestScope>) {
        // Set once: a guest begins with it once.
        self.scope.set(Arc::downgrade(scope)).ok();
        if !self.state().is_in_worker() {
            self.end_scope();
        }
    }

    /// Lets the guest pass the request on.
    pub(crate) fn begin_passage(&self, worker: &Arc<WorkerHandle>) -> Arc<Passage> {
        let new = || Passage::new(worker.passed.clone(), Waker::from(worker.clone()));
        let passage = self.passage.get_or_init(new).clone();
        if !self.state().is_in_worker() {
            passage.leave();
        }
        passage
    }

    fn end_scope(&self) {
        if let Some(scope) = self.scope.get().and_then(Weak::upgrade) {
            scope.end();
        }
    }

    /// Notes if its guest still works on it although the caller has been gone for so long that it keeps no place.
    fn check_guest(&self, now: Instant) {
        let (Some(since), None) = (self.gone_since.get(), self.grace) else { return };
        if now.saturating_duration_since(*since) >= GONE_GRACE
            && let Some(worker) = self.worker()
            && self.guest.compare_exchange(AT_WORK, LINGERS, AcqRel, Acquire).is_ok()
        {
            worker.add_lingering();
            // It occupies no place any more. If it counted as passed on, another place would be given away for it.
            if let Some(passage) = self.passage.get() {
                passage.end_work();
            }
        }
    }

    /// Gives it back to the caller.
    pub(crate) fn give_back(&self, call: Call) {
        *self.returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
        self.apply(CallEvent::Return);
        self.sweep();
        self.caller.wake();
    }

    /// Notes why it failed, for the caller, who sees that when the reply's sender is dropped.
    pub(crate) fn note(&self, failure: CallFailure) {
        // The first one counts.
        self.failure.set(failure).ok();
    }

    /// Why it failed, where its worker knows.
    pub(crate) fn failure(&self) -> Option<CallFailure> {
        self.failure.get().cloned()
    }

    /// The call, if it was given back.
    pub(crate) fn take_returned(&self) -> Option<Call> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Does what is due at `now`: nothing, its end, or the end of a worker that has outlived it.
    pub(crate) fn check_deadline(&self, now: Instant) {
        self.check_guest(now);
        if self.state().has_deadline() && now >= self.deadline {
            self.expire();
        }
        if let (Some(grace), Some(since)) = (self.grace, self.left_since.get())
            && now.saturating_duration_since(*since) >= grace
            && let Some(worker) = self.worker()
        {
            worker.kill();
        }
    }

    fn expire(&self) {
        match self.apply(CallEvent::Expire) {
            Some(State::Taken) => {
                self.end_scope();
                if let Some(worker) = self.worker() {
                    worker.retire(self.identity());
                }
                self.leave_worker();
                self.release();
            }
            Some(_) => self.sweep(),
            None => return,
        }
        self.caller.wake();
    }

    fn leave_worker(&self) {
        if self.grace.is_some() {
            // Set once; a later value would be less exact.
            self.left_since.set(Instant::now()).ok();
        }
        // Before the worker counts one less, so that it never takes one too many.
        if let Some(passage) = self.passage.get() {
            passage.leave();
        }
        if let Some(worker) = self.worker() {
            worker.leave();
        }
    }

    /// Its deadline no longer matters. A call that a worker has is watched until the guest, or a worker of its own, has
    /// ended.
    fn release(&self) {
        let is_at_work = self.grace.is_some() || self.guest.load(Acquire) != ENDED;
        if self.worker().is_none() || !is_at_work {
            self.sweep();
        }
    }

    fn sweep(&self) {
        if !self.is_swept.swap(true, AcqRel) {
            self.registry.remove(self.key);
        }
    }

    /// The state before, if `event` changed it.
    fn apply(&self, event: CallEvent) -> Option<State> {
        let next = |state| State::of(state).after(event).map(|next| next as u8);
        self.state.fetch_update(AcqRel, Acquire, next).ok().map(State::of)
    }
}
