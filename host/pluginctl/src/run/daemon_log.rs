//! The log of the daemon, line by line, while it runs.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The lines that are kept.
const LINES_MAX: usize = 10_000;
/// The bytes of a line that are kept.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// The longest time that a line may take to come.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The last lines of a log. Clones are the same log.
#[derive(Clone, Default)]
pub(crate) struct CapturedLog(Arc<SharedLines>);

#[derive(Default)]
struct SharedLines {
    lines: Mutex<LastLines>,
    added: Condvar,
}

#[derive(Default)]
struct LastLines {
    lines: VecDeque<String>,
    ended: bool,
}

impl CapturedLog {
    /// Reads lines until the end of `source`, in a thread of its own.
    pub(crate) fn read(&self, source: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                log.add(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            log.lines().ended = true;
            log.0.added.notify_all();
        });
    }

    fn add(&self, line: String) {
        let mut lines = self.lines();
        if lines.lines.len() == LINES_MAX {
            lines.lines.pop_front();
        }
        lines.lines.push_back(line);
        self.0.added.notify_all();
    }

    /// Waits for a line that contains `text`. False: there is none in time.
    pub(crate) fn has(&self, text: &str) -> bool {
        let missing =
            |log: &mut LastLines| !log.ended && !log.lines.iter().any(|line| line.contains(text));
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
        let log = CapturedLog::default();
        log.read(source);
        std::io::Write::write_all(&mut writer, b"one\ntwo words\n").unwrap();
        assert!(log.has("two wo"));
        drop(writer);
        assert!(!log.has("three"), "the log has ended");
        assert_eq!(log.all(), ["one", "two words"]);
    }
}
