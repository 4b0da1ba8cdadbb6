//! The log of the host, line by line, while it runs.

use crate::Entry;
use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The longest time that a line may take to come.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The most bytes of a log that are kept. Then its oldest lines are forgotten.
const KEPT_MAX: usize = 10 << 20;

/// The lines so far, of which the newest 10 MiB are kept. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    added: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    /// The length of all of them.
    length: usize,
    ended: bool,
}

impl Lines {
    fn push(&mut self, line: String) {
        self.length += line.len();
        self.lines.push_back(line);
        while self.length > KEPT_MAX && self.lines.len() > 1 {
            self.length -= self.lines.pop_front().map_or(0, |oldest| oldest.len());
        }
    }
}

impl Log {
    /// Reads lines until the end of `source`, in a thread of its own.
    pub(crate) fn read(source: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while read_line(&mut source, &mut line) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                writer.lock().push(text);
                writer.0.added.notify_all();
            }
            writer.lock().ended = true;
            writer.0.added.notify_all();
        });
        log
    }

    /// All lines that are kept: the priority, `plugind` or `plugind[NAME]` of a plugin, and the message with its fields.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// The entries among the lines that are kept, as values: priority, plugin, message and fields. An entry may
    /// arrive later than a response that the plugin sent after it: [`Log::wait_for_entry`] waits for one.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().lines.iter().filter_map(|line| Entry::parse(line)).collect()
    }

    /// Waits for a line that contains `text`, and returns the first one.
    ///
    /// # Panics
    /// When there is none within a minute, or when the host ends without one.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let contains = |line: &str| line.contains(text).then(|| line.to_owned());
        match self.wait_until(contains) {
            Ok(line) => line,
            Err(all) => panic!("no line of the log contains {text:?}:\n{all}"),
        }
    }

    /// Waits for an entry that `is_wanted`, and returns the first one.
    ///
    /// # Panics
    /// When there is none within a minute, or when the host ends without one.
    #[track_caller]
    pub fn wait_for_entry(&self, is_wanted: impl Fn(&Entry) -> bool) -> Entry {
        let wanted = |line: &str| Entry::parse(line).filter(|entry| is_wanted(entry));
        match self.wait_until(wanted) {
            Ok(entry) => entry,
            Err(all) => panic!("no entry of the log is the one that the test waits for:\n{all}"),
        }
    }

    /// Waits until a line has what is looked for, and returns it.
    ///
    /// # Errors
    /// All lines, where none has it in time.
    fn wait_until<T>(&self, look: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let find = |log: &Lines| log.lines.iter().find_map(|line| look(line));
        let missing = |log: &mut Lines| !log.ended && find(log).is_none();
        let waited = self.0.added.wait_timeout_while(self.lock(), TIMEOUT, missing);
        let (log, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let found = find(&log);
        found.ok_or_else(|| log.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n"))
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a line, or the part of it that may be kept; false: the end.
fn read_line(source: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    let max = KEPT_MAX as u64;
    source.by_ref().take(max).read_until(b'\n', line).is_ok_and(|length| length > 0)
}
