//! Signals that end a program which must clean up first.

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

/// Catches the signals that end a program, and knows whether one was received.
pub struct Interrupt(Arc<OnceLock<u8>>);

impl Interrupt {
    /// Calls `end` at the first signal, to end the work in progress. A second signal ends the process at once, without
    /// cleaning up.
    ///
    /// # Errors
    /// When signals cannot be caught.
    pub fn watch(end: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let entered = runtime.enter();
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        drop(entered);
        let received = Arc::new(OnceLock::new());
        let sender = received.clone();
        let mut end = Some(end);
        let work = async move {
            loop {
                let kind = tokio::select! {
                    _ = hangup.recv() => SignalKind::hangup(),
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                };
                // These three have small numbers.
                let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
                let Some(end) = end.take() else { exit(128 + i32::from(number)) };
                // This is the first signal.
                sender.set(number).ok();
                end();
            }
        };
        // It ends with the process.
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(work))?;
        Ok(Self(received))
    }

    /// The number of the signal, if one was received.
    #[must_use]
    pub fn received(&self) -> Option<u8> {
        self.0.get().copied()
    }
}
