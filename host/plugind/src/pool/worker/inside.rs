//! The inside of a worker: its instance is made, starts, serves calls or runs as a program, and stops.

use crate::{
    base::text::one_line,
    pool::{
        abandoned_tasks::AbandonedTasks,
        deadline::GuestCall,
        decision::LeaveReason,
        failure::{CallFailure, End, Failure},
        serving::Serving,
        state_transfer::restore,
        worker::Purpose,
        worker_context::WorkerContext,
        worker_event::WorkerEvent,
    },
    world::{
        HostState,
        bindings::exports::plugind::plugin::lifecycle::{StartError, StopReason},
        link::Exports,
        memory::Limit,
        notify::STATUS_MAX,
    },
};
use std::{
    future::poll_fn,
    pin::pin,
    sync::{Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Instant,
};
use wasmtime::{PoolConcurrencyLimitError, Store, component::Accessor};

impl WorkerContext<'_> {
    pub(super) async fn inside(
        &self,
        store: &mut Store<HostState>,
        purpose: &Mutex<Option<Purpose>>,
    ) -> wasmtime::Result<End> {
        let purpose = || purpose.lock().unwrap_or_else(PoisonError::into_inner);
        let is_probe = matches!(*purpose(), Some(Purpose::Probe));
        let own_call = matches!(*purpose(), Some(Purpose::Call(_)));
        if !own_call {
            self.deadline.begin(GuestCall::Start, self.set.config.timeout_start);
        }
        if !own_call && !self.has_place().await {
            let why = format!("there is no room for another instance: {}", self.set.share.cost);
            return Ok(End::Failed(Failure::Resources(why)));
        }
        let exports = match self.set.linked.instantiate(store).await {
            Ok(exports) => exports,
            Err(error) => {
                let no_capacity = error.is::<PoolConcurrencyLimitError>()
                    || store
                        .data()
                        .memory_was_refused()
                        .is_some_and(|refused| refused.limit != Limit::Instance);
                if !no_capacity {
                    return Err(error);
                }
                if let Some(Purpose::Call(call)) = purpose().take() {
                    call.in_flight.note(CallFailure::NoCapacity);
                }
                let why = format!("there is no room for another instance: {}", error.root_cause());
                return Ok(End::Failed(Failure::Resources(why)));
            }
        };
        if is_probe {
            // Reported when its store is gone.
            self.ready.get_or_init(Instant::now);
            return Ok(End::Finished);
        }
        let purpose = purpose().take();
        store
            .run_concurrent(async |accessor| self.lifecycle(accessor, &exports, purpose).await)
            .await?
    }

    /// Takes a place in the instance pool. False if there is none.
    async fn has_place(&self) -> bool {
        let place = self.set.place().await;
        let has_place = place.is_some();
        place.map(|place| self.place.get_or_init(|| place));
        has_place
    }

    /// The life of an instance: start, serve, stop.
    async fn lifecycle(
        &self,
        accessor: &Accessor<HostState>,
        exports: &Exports,
        purpose: Option<Purpose>,
    ) -> wasmtime::Result<End> {
        let own_call = matches!(purpose, Some(Purpose::Call(_)));
        if let Some(failure) = self.start(accessor, exports).await? {
            return Ok(End::Failed(failure));
        }
        if own_call {
            self.ready.get_or_init(Instant::now);
            let worker = self.handle.number;
            self.set.resting.started(|| self.set.report(WorkerEvent::Ready { worker }));
        } else if exports.run.is_none() || exports.lifecycle.is_some() {
            self.report_ready();
        }
        if exports.run.is_some() {
            return self.run_program(accessor, exports).await;
        }
        let (slot, call) = match purpose {
            Some(Purpose::Queue(slot)) => (Some(slot), None),
            Some(Purpose::Call(call)) => (None, Some(call)),
            Some(Purpose::Probe) | None => (None, None),
        };
        let mut serving = Serving::new(self, accessor, exports, slot);
        let why = serving.run(call).await?;
        let (reason, end) = match why {
            LeaveReason::Draining(reason) => (reason, End::Finished),
            LeaveReason::Recycled => (StopReason::Recycle, End::Finished),
            LeaveReason::Idle => (StopReason::Idle, End::Finished),
            LeaveReason::Unhealthy(why) => {
                (StopReason::Restart, End::Failed(Failure::Unhealthy(why)))
            }
            LeaveReason::Refusing => {
                let failure = Failure::refuses_calls(self.set.config.watchdog);
                (StopReason::Restart, End::Failed(failure))
            }
        };
        if let Some(lifecycle) = &exports.lifecycle {
            if !self.deadline.is_running() {
                self.deadline.begin(GuestCall::Stop, self.set.config.timeout_stop);
            }
            lifecycle.call_stop(accessor, reason).await?;
            // The guest may use the remaining time for tasks other than its calls.
            let mut tasks = AbandonedTasks::new(self.handle);
            poll_fn(|cx| {
                self.handle.heartbeat.beat();
                tasks.poll_end(accessor, cx)
            })
            .await;
        }
        Ok(end)
    }

    /// Starts the guest, and gives it the state that it inherits.
    async fn start(
        &self,
        accessor: &Accessor<HostState>,
        exports: &Exports,
    ) -> wasmtime::Result<Option<Failure>> {
        if let Some(lifecycle) = &exports.lifecycle {
            let why = |why: &str| one_line(why, STATUS_MAX);
            match lifecycle.call_start(accessor).await? {
                Ok(()) => (),
                Err(StartError::Configuration(text)) => {
                    return Ok(Some(Failure::Configuration(why(&text))));
                }
                Err(StartError::Unavailable(text)) => {
                    return Ok(Some(Failure::Unavailable(why(&text))));
                }
            }
        }
        if let Some(handover) = &exports.handover
            && let Some(state) = self.set.transfer.initial_state()
        {
            self.deadline.end(GuestCall::Start);
            let timeout = self.set.linked.release.manifest.handover.timeout;
            self.transfer_deadline.begin(GuestCall::Restore, timeout);
            self.restoring.store(true, Relaxed);
            if let Err(failure) = restore(accessor, handover, &state).await? {
                return Ok(Some(failure));
            }
            self.restoring.store(false, Relaxed);
            self.transfer_deadline.end(GuestCall::Restore);
        }
        Ok(None)
    }

    /// Runs a program to its end. Nothing asks it to stop: when it must stop, the worker is ended from outside,
    /// at whatever point the program is.
    async fn run_program(
        &self,
        accessor: &Accessor<HostState>,
        exports: &Exports,
    ) -> wasmtime::Result<End> {
        let Some(run) = &exports.run else { return Ok(End::Returned) };
        // From here on it does its own work, which has no deadline.
        self.deadline.end(GuestCall::Start);
        self.running.store(true, Relaxed);
        let mut run = pin!(run.call_concurrent(accessor, ()));
        let returned = poll_fn(|cx| {
            self.handle.heartbeat.beat();
            run.as_mut().poll(cx)
        });
        Ok(match returned.await?.0 {
            Ok(()) => End::Returned,
            Err(()) => End::Failed(Failure::ExitCode(1)),
        })
    }
}
