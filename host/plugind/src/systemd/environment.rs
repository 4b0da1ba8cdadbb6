//! The environment and descriptors that systemd passes, read once, before there are threads.

use crate::systemd::{
    sockets::{PassedDescriptors, PassedSockets, SocketsError},
    store::Stored,
};
use std::{env, ffi::OsString, os::fd::AsFd, time::Duration};

/// Where log entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Lines on standard error.
    Lines,
    /// Structured entries to journald(8).
    Journald,
}

/// The variables about memory pressure.
#[derive(Clone, Debug, Default)]
pub struct PressureVariables {
    /// `$MEMORY_PRESSURE_WATCH`: the path of the file that reports it.
    pub watch: Option<OsString>,
    /// `$MEMORY_PRESSURE_WRITE`: the data to write there first, in Base64.
    pub write: Option<OsString>,
}

/// Everything that systemd handed over.
pub struct Systemd {
    /// `$NOTIFY_SOCKET`: the socket for notifications about the service.
    pub notify_socket: Option<OsString>,
    /// `$WATCHDOG_USEC`: how long the service may be silent.
    pub watchdog: Option<Duration>,
    /// Where memory pressure is reported.
    pub pressure: PressureVariables,
    /// Sockets, by `$LISTEN_FDNAMES`, if the variables are consistent.
    pub sockets: Result<PassedSockets, SocketsError>,
    /// Files that a daemon before this one left with systemd.
    pub stored: Vec<Stored>,
    /// Where entries of the log belong, by `$JOURNAL_STREAM`.
    pub journal: LogTarget,
}

impl Systemd {
    /// Takes what systemd handed over to this process. To be called once.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment is read here, before there are threads"
    )]
    pub fn take() -> Self {
        let mut passed = PassedDescriptors::take();
        let files = passed.as_mut().map(PassedDescriptors::take_files).unwrap_or_default();
        let stored = files.into_iter().map(|(name, file)| Stored { name, file: file.into() });
        let stream = env::var("JOURNAL_STREAM").ok();
        let path = |name| env::var_os(name).filter(|path| !path.is_empty());
        Self {
            notify_socket: path("NOTIFY_SOCKET"),
            pressure: PressureVariables {
                watch: path("MEMORY_PRESSURE_WATCH"),
                write: path("MEMORY_PRESSURE_WRITE"),
            },
            watchdog: sd_notify::watchdog_enabled().filter(|time| !time.is_zero()),
            stored: stored.collect(),
            sockets: passed.map(PassedDescriptors::take_sockets),
            journal: match stream.is_some_and(|stream| is_stderr(&stream)) {
                true => LogTarget::Journald,
                false => LogTarget::Lines,
            },
        }
    }
}

/// Whether standard error is the stream to journald that is called `DEVICE:INODE`. It may have been redirected since
/// systemd said so.
fn is_stderr(stream: &str) -> bool {
    rustix::fs::fstat(std::io::stderr().as_fd())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_stream_of_standard_error_counts() {
        let stat = rustix::fs::fstat(std::io::stderr().as_fd()).unwrap();
        assert!(is_stderr(&format!("{}:{}", stat.st_dev, stat.st_ino)));
        assert!(!is_stderr(&format!("{}:{}", stat.st_dev, stat.st_ino + 1)));
        assert!(!is_stderr(""));
    }
}
