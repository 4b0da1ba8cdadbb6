//! The log of the daemon, line by line, while it runs.

use crate::run::source_paths::SourcePaths;
use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The lines that are kept.
const LINES_MAX: usize = 10_000;
/// The longest line, in bytes: a longer one is kept as several.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// The longest time that a line may take to come.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The use of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogUse {
    /// They are written to standard error.
    #[default]
    Shown,
    /// The last ones are kept.
    Kept,
}

/// The log of a daemon. Clones are the same log.
#[derive(Clone, Default)]
pub(crate) struct DaemonLog(Arc<SharedLines>);

#[derive(Default)]
struct SharedLines {
    lines: Mutex<LastLines>,
    added: Condvar,
    usage: LogUse,
    paths: SourcePaths,
}

#[derive(Default)]
struct LastLines {
    lines: VecDeque<String>,
    /// The end of the source has not been reached.
    reading: bool,
}

impl DaemonLog {
    /// A log whose lines name the files of the author.
    pub(crate) fn new(usage: LogUse, paths: SourcePaths) -> Self {
        Self(Arc::new(SharedLines { usage, paths, ..SharedLines::default() }))
    }

    /// Reads lines until the end of `source`, in a thread of its own.
    pub(crate) fn read(&self, source: impl Read + Send + 'static) {
        let log = self.clone();
        log.lines().reading = true;
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                log.add(String::from_utf8_lossy(&line).trim_end());
                line.clear();
            }
            log.lines().reading = false;
            log.0.added.notify_all();
        });
    }

    fn add(&self, line: &str) {
        let line = self.0.paths.in_text(line).into_owned();
        if self.0.usage == LogUse::Shown {
            // The daemon has escaped it. If standard error is closed, nobody reads it.
            writeln!(io::stderr(), "{line}").ok();
            return;
        }
        let mut lines = self.lines();
        if lines.lines.len() == LINES_MAX {
            lines.lines.pop_front();
        }
        lines.lines.push_back(line);
        self.0.added.notify_all();
    }

    /// Waits until everything that an exited daemon wrote is read. The time is limited, because a process that the
    /// daemon started could still have the other end.
    pub(crate) fn wait_for_end(&self) {
        let reading = |log: &mut LastLines| log.reading;
        drop(self.0.added.wait_timeout_while(self.lines(), TIMEOUT, reading));
    }

    /// Waits for a line that contains `text`. False: there is none in time.
    pub(crate) fn has(&self, text: &str) -> bool {
        let missing =
            |log: &mut LastLines| log.reading && !log.lines.iter().any(|line| line.contains(text));
        let waited = self.0.added.wait_timeout_while(self.lines(), TIMEOUT, missing);
        let (log, _) = waited.unwrap_or_else(PoisonError::into_inner);
        log.lines.iter().any(|line| line.contains(text))
    }

    /// All lines that are kept.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lines().lines.iter().cloned().collect()
    }

    fn lines(&self) -> MutexGuard<'_, LastLines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_a_line_as_soon_as_it_is_read() {
        let (source, mut writer) = std::io::pipe().unwrap();
        let log = DaemonLog::new(LogUse::Kept, SourcePaths::default());
        log.read(source);
        std::io::Write::write_all(&mut writer, b"one\ntwo words\n").unwrap();
        assert!(log.has("two wo"));
        drop(writer);
        assert!(!log.has("three"), "the log has ended");
        assert_eq!(log.all(), ["one", "two words"]);
    }

    #[test]
    fn all_lines_are_there_when_the_end_is_reached() {
        let (source, mut writer) = std::io::pipe().unwrap();
        let paths = SourcePaths::new([("/tmp/x/a.toml".into(), "./a.toml".into())]);
        let log = DaemonLog::new(LogUse::Kept, paths);
        log.read(source);
        let writes = thread::spawn(move || {
            for number in 0..1000 {
                writeln!(writer, "{number} /tmp/x/a.toml:1").unwrap();
            }
        });
        writes.join().unwrap();
        log.wait_for_end();
        let lines = log.all();
        assert_eq!((lines.len(), lines[999].as_str()), (1000, "999 a.toml:1"));
    }
}
