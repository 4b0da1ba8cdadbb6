//! Signals that end a command which has something to clear away first.

use std::{
    io,
    process::exit,
    sync::{Arc, OnceLock},
    thread,
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// Whether one of the signals came.
pub(crate) struct Interrupt(Arc<OnceLock<u8>>);

impl Interrupt {
    /// Has the first signal call `end`, which is to bring what is under way to its end. A second one ends the process
    /// at once, whatever is left behind.
    pub(crate) fn watch(end: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let entered = runtime.enter();
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        drop(entered);
        let came = Arc::new(OnceLock::new());
        let sender = came.clone();
        let mut end = Some(end);
        let work = async move {
            loop {
                let kind = tokio::select! {
                    _ = hangup.recv() => SignalKind::hangup(),
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                };
                // Those three have small numbers.
                let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
                let Some(end) = end.take() else { exit(128 + i32::from(number)) };
                // It is the first.
                sender.set(number).ok();
                end();
            }
        };
        // It ends with the process.
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(work))?;
        Ok(Self(came))
    }

    /// The signal, if one came.
    pub(crate) fn came(&self) -> Option<u8> {
        self.0.get().copied()
    }
}
