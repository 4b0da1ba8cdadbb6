//! The output of the daemon to its standard error, line by line, while it runs.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Instant,
};

use crate::wait_max;

/// The lines so far. Clones are the same log.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    said: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads lines from `source` until its end, in a thread of its own.
    pub fn read(source: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let said = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                line.clear();
                writer.lines().said.push(said);
                writer.0.changed.notify_all();
            }
            writer.lines().ended = true;
            writer.0.changed.notify_all();
        });
        log
    }

    /// All lines so far.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.lines().said.clone()
    }

    /// Returns the number of lines so far: a place in the log.
    #[must_use]
    pub fn place(&self) -> usize {
        self.lines().said.len()
    }

    /// Returns the number of lines so far that have all of these parts.
    #[must_use]
    pub fn count(&self, parts: &[&str]) -> usize {
        self.lines().said.iter().filter(|line| has_all(line, parts)).count()
    }

    /// The lines so far in which the host says that it panicked. Those of guests do not count.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        let is_of_host =
            |line: &str| line.starts_with("thread '") || line.contains("the host panicked");
        let mut lines = self.all();
        lines.retain(|line| is_of_host(line));
        lines
    }

    /// Waits for a line that has all of these parts, and returns the first one.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for(&self, parts: &[&str]) -> String {
        self.wait_for_after(0, parts)
    }

    /// Waits for a line that has all of these parts, from a [`Log::place`] on.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for_after(&self, place: usize, parts: &[&str]) -> String {
        self.wait_for_in_order(place, &[parts])
    }

    /// Waits for a line that has one of these texts, and returns the first one.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for_any(&self, texts: &[&str]) -> String {
        let has_any = |line: &&String| texts.iter().any(|text| line.contains(text));
        self.wait_until(&format!("one of {texts:?}"), |said| said.iter().find(has_any).cloned())
    }

    /// Waits for several lines, each with its parts and behind the one before, from a [`Log::place`] on. Returns the
    /// last one.
    ///
    /// # Panics
    /// When they do not come, or not in this order.
    pub fn wait_for_in_order(&self, place: usize, lines: &[&[&str]]) -> String {
        let found = |said: &[String]| {
            let mut rest = said[place..].iter();
            lines.iter().map(|parts| rest.find(|line| has_all(line, parts))).last()?.cloned()
        };
        self.wait_until(&format!("{lines:?}"), found)
    }

    /// Waits until this many lines have all of these parts.
    ///
    /// # Panics
    /// When they do not come.
    pub fn wait_for_times(&self, times: usize, parts: &[&str]) {
        let enough = |said: &[String]| {
            (said.iter().filter(|line| has_all(line, parts)).count() >= times).then_some(())
        };
        self.wait_until(&format!("{times} lines with {parts:?}"), enough);
    }

    /// Waits for the end of the log.
    pub(crate) fn wait_for_end(&self) {
        let lines = self.lines();
        let ended = self.0.changed.wait_timeout_while(lines, wait_max(), |lines| !lines.ended);
        let (lines, _) = ended.expect("no reader of a log panics while it has it");
        assert!(lines.ended, "the log did not end");
    }

    fn wait_until<T>(&self, what: &str, found: impl Fn(&[String]) -> Option<T>) -> T {
        let deadline = Instant::now() + wait_max();
        let mut lines = self.lines();
        loop {
            if let Some(found) = found(&lines.said) {
                return found;
            }
            // The lock is released before the panic, because the daemon prints the log when it is dropped by it.
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.ended || left.is_zero() {
                let why = if lines.ended { "the daemon ended" } else { "waited too long" };
                drop(lines);
                panic!("{why} without {what}");
            }
            let waited = self.0.changed.wait_timeout(lines, left);
            (lines, _) = waited.expect("no reader of a log panics while it has it");
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().expect("no reader of a log panics while it has it")
    }
}

fn has_all(line: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| line.contains(part))
}
