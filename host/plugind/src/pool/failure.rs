//! The ways in which an instance ends, and their names.

use crate::{
    base::quantity::Bytes,
    world::{Hung, memory::Refused},
};
use rustix::io::Errno;
use std::{any::Any, fmt, time::Duration};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// The way in which an instance ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Normally: its generation drained, it was recycled, or it had no work.
    Finished,
    /// A call in it was not answered in time; it took no more calls, and its other calls have ended.
    Retired,
    /// The caller of a call that occupies it has been gone for long.
    Abandoned,
    /// The program returned ok.
    Returned,
    /// By a failure.
    Failed(Failure),
}

/// Why a call that an instance had has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The guest says so, or failed.
    #[error("{0}")]
    Guest(String),
    /// There was no room for an instance of its own.
    #[error("there is no room for another instance")]
    NoCapacity,
    /// The component serves no calls of this kind.
    #[error("the component serves no calls of this kind")]
    NotExported,
    /// The instance ended without a reply.
    #[error("its instance ended")]
    NoReply,
}

impl CallFailure {
    /// Interprets an error of the runtime's adapter.
    pub(crate) fn guest(error: &wasmtime::Error) -> Self {
        Self::Guest(error.root_cause().to_string())
    }
}

/// The failure of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The guest trapped.
    Trap(String),
    /// It hung, did not answer a health check in time, or refused all calls for too long.
    Watchdog(String),
    /// It took too long to start, to stop, to hand over, or to end its remaining work.
    Timeout(&'static str),
    /// It wanted more memory than it may have, or than the system has.
    OutOfMemory(String),
    /// The host failed, by the guest's doing.
    Panic(String),
    /// It says that it cannot serve.
    Unhealthy(String),
    /// It says that its configuration is wrong.
    Configuration(String),
    /// It says that something it needs is not there.
    Unavailable(String),
    /// It called `exit` with this code.
    ExitCode(i32),
    /// There was no room for another instance.
    Resources(String),
    /// It says that it cannot save its state.
    Save(String),
    /// It says that it cannot take over the state.
    Restore(String),
    /// Its state is larger than it may be.
    StateTooLarge {
        /// So many bytes.
        size: u64,
        /// The limit.
        max: Bytes,
    },
}

impl Failure {
    /// It accepted no call for so long, although some waited.
    pub(crate) fn refuses_calls(time: Duration) -> Self {
        let time = humantime::format_duration(time);
        Self::Watchdog(format!(
            "it refused all calls by back-pressure for {time} while calls waited, and service.watchdog-sec allows no \
             more"
        ))
    }

    /// The failure in one word, systemd's where it has one.
    #[must_use]
    pub fn result(&self) -> &'static str {
        match self {
            Self::Trap(_) => "trap",
            Self::Watchdog(_) => "watchdog",
            Self::Timeout(_) => "timeout",
            Self::OutOfMemory(_) => "oom",
            Self::Panic(_) => "panic",
            Self::Unhealthy(_) => "unhealthy",
            Self::Configuration(_) => "configuration",
            Self::Unavailable(_) => "unavailable",
            Self::ExitCode(_) => "exit-code",
            Self::Resources(_) => "resources",
            Self::Save(_) | Self::Restore(_) | Self::StateTooLarge { .. } => "handover",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap(why)
            | Self::Watchdog(why)
            | Self::OutOfMemory(why)
            | Self::Panic(why)
            | Self::Resources(why) => f.write_str(why),
            Self::Timeout(why) => f.write_str(why),
            Self::Unhealthy(why) => write!(f, "it reported that it is unhealthy: {why}"),
            Self::Configuration(why) => {
                write!(f, "it reported that its configuration is wrong: {why}")
            }
            Self::Unavailable(why) => {
                write!(f, "it reported that something it needs is unavailable: {why}")
            }
            Self::ExitCode(code) => write!(f, "it exited with code {code}"),
            Self::Save(why) => write!(f, "it reported that it cannot save its state: {why}"),
            Self::Restore(why) => write!(f, "it reported that it cannot restore the state: {why}"),
            Self::StateTooLarge { size, max } => write!(
                f,
                "its state has {size} bytes, and handover.state-max is {max}; raise that, or make the state smaller"
            ),
        }
    }
}

impl End {
    /// Interprets an engine error that ended an instance. Only a program whose `run` was called ends by its exit;
    /// for any other instance even exit code 0 is a failure.
    pub(crate) fn of_error(
        error: &wasmtime::Error,
        memory_was_refused: Option<Refused>,
        is_running_program: bool,
    ) -> Self {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return match code {
                0 if is_running_program => End::Returned,
                code => End::Failed(Failure::ExitCode(*code)),
            };
        }
        if let Some(hung) = error.downcast_ref::<Hung>() {
            return End::Failed(Failure::Watchdog(hung.to_string()));
        }
        if let Some(Refused { limit, by_host: true }) = memory_was_refused {
            return End::Failed(Failure::OutOfMemory(format!(
                "the headers, bodies and other resources that the host holds for it exceed {limit}"
            )));
        }
        if is_out_of_memory(error) {
            return End::Failed(Failure::OutOfMemory(format!(
                "the system refused memory or address space for it: {}; raise MemoryMax= of the unit, or the limit of \
                 address space (ulimit -v)",
                error.root_cause()
            )));
        }
        let place = error
            .downcast_ref::<WasmBacktrace>()
            .and_then(|trace| trace.frames().first()?.func_name().map(str::to_owned));
        let mut why = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        if let Some(place) = place {
            why = format!("{why} in {place}");
        }
        End::Failed(match memory_was_refused {
            Some(Refused { limit, .. }) => Failure::OutOfMemory(format!(
                "it was refused memory beyond {limit}, and then failed: {why}"
            )),
            None => Failure::Trap(why),
        })
    }

    /// Interprets a panic of the host that ended an instance.
    pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        Self::Failed(Failure::Panic(format!("the host panicked: {}", panic_text(panic))))
    }
}

/// Whether the system has no memory or address space.
fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        let of_io = || Errno::from_io_error(cause.downcast_ref()?);
        cause.downcast_ref().copied().or_else(of_io) == Some(Errno::NOMEM)
    })
}

/// Returns the text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason is given").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_the_system_refuses_is_no_trap() {
        let refused = std::io::Error::from_raw_os_error(Errno::NOMEM.raw_os_error());
        for error in [wasmtime::Error::from(Errno::NOMEM), wasmtime::Error::from(refused)] {
            let End::Failed(failure) = End::of_error(&error.context("cannot map"), None, false)
            else {
                panic!("it failed")
            };
            assert_eq!(failure.result(), "oom");
            assert!(failure.to_string().contains("(ulimit -v)"), "{failure}");
        }
        let other = End::of_error(&wasmtime::Error::from(Errno::BADF), None, false);
        assert!(matches!(other, End::Failed(Failure::Trap(_))));
    }

    #[test]
    fn only_a_running_program_ends_well_by_exit_code_0() {
        let end = |code, is_running_program| {
            End::of_error(&wasmtime::Error::from(I32Exit(code)), None, is_running_program)
        };
        assert!(matches!(end(0, true), End::Returned));
        assert!(matches!(end(0, false), End::Failed(Failure::ExitCode(0))));
        for is_running_program in [true, false] {
            assert!(matches!(end(3, is_running_program), End::Failed(Failure::ExitCode(3))));
        }
    }
}
