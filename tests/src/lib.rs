//! The means of plugind's tests: the programs that were built, a tree of plugins, the daemon as it is
//! shipped, and a client that shows what comes over the wire.

mod built;
pub mod client;
mod daemon;
mod figures;
pub mod golden;
mod tool;
mod journal_entry;
mod load;
mod log;
mod machine;
mod random;
mod terminal;
mod tree;

pub use built::{
    copy_program, debian_package, debian_packages, guest, messages, program, programs, tools,
};
pub use client::{Connection, Response};
pub use daemon::{Daemon, Ended, end_of};
pub use figures::Figures;
pub use journal_entry::Entry;
pub use load::{Client, Load, Right, Tally, Versions, Way};
pub use log::Log;
pub use machine::{Machine, Ran};
pub use random::{Random, number};
pub use rustix::process::Signal;
pub use terminal::Terminal;
pub use tool::{Background, run, tool};
pub use tree::{Tree, another};

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Time to wait for anything that should take a moment: long enough for a busy machine.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// The same for a run that takes minutes, in which one moment of a machine that is overloaded must not end it.
const LONG_WAIT_MAX: Duration = Duration::from_secs(600);

/// Whether this process waits as long as that.
static WAITS_LONG: AtomicBool = AtomicBool::new(false);

/// Lets everything of this library in this process wait for ten minutes before it is given up, instead of one.
pub fn wait_long() {
    WAITS_LONG.store(true, Relaxed);
}

/// Time that this library waits for anything that should take a moment.
fn wait_max() -> Duration {
    if WAITS_LONG.load(Relaxed) { LONG_WAIT_MAX } else { WAIT_MAX }
}

/// Waits until `look` sees something.
///
/// # Panics
/// When it has not seen anything for too long; `what` says what was missing.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + wait_max();
    loop {
        let begin = Instant::now();
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        pause_after(begin.elapsed());
    }
}

/// Waits between two looks, the longer the more a look costs: it may take several programs, and the other tests need the
/// processors.
fn pause_after(look: Duration) {
    std::thread::sleep((look * 4).clamp(Duration::from_millis(5), Duration::from_millis(200)));
}
