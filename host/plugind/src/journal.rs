//! Everything that is said, by the host and by plugins, as readable lines on standard error.
//!
//! One thread writes; whoever speaks never waits for it. What finds the queue full is dropped and counted, and one
//! line says how many there were.

use crate::name::PluginName;
use std::{
    fmt::{self, Write as _},
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt, registry::LookupSpan};

/// How many lines may wait to be written.
const QUEUE: usize = 4096;
/// How many bytes of lines may wait to be written.
const QUEUE_BYTES: usize = 16 << 20;
/// How long the last lines may take to be written: whoever reads them may have stopped.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The priorities of syslog(3) that are used, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words of syslog(3)")]
pub enum Priority {
    Critical,
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

impl Priority {
    /// All of them, with their names in syslog(3).
    pub const ALL: [(&str, Self); 6] = [
        ("crit", Self::Critical),
        ("err", Self::Error),
        ("warning", Self::Warning),
        ("notice", Self::Notice),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// Where to speak. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    /// Lines; none is the end.
    queue: SyncSender<Option<String>>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Entries beyond this priority are not kept.
    most: AtomicU8,
    dropped: AtomicU64,
    /// The length of the lines that wait to be written.
    waiting: AtomicUsize,
}

/// The thread that writes.
pub struct Writer {
    queue: SyncSender<Option<String>>,
    /// Closed when the thread ends.
    ended: Receiver<()>,
}

/// Starts the journal, which keeps entries up to `most`.
///
/// # Errors
/// When no thread can be started.
pub fn start(most: Priority) -> std::io::Result<(Journal, Writer)> {
    let (queue, lines) = sync_channel(QUEUE);
    let shared = Arc::new(Shared {
        most: AtomicU8::new(most as u8),
        dropped: AtomicU64::new(0),
        waiting: AtomicUsize::new(0),
    });
    let journal = Journal { queue: queue.clone(), shared: shared.clone() };
    let (ends, ended) = sync_channel(0);
    let run = move || {
        write(&lines, &shared);
        drop(ends);
    };
    thread::Builder::new().name("journal".to_owned()).spawn(run)?;
    Ok((journal, Writer { queue, ended }))
}

impl Writer {
    /// Waits until all that was said so far is written, but not for long, and ends.
    pub fn finish(self) {
        let deadline = Instant::now() + LAST_WORDS;
        while let Err(TrySendError::Full(_)) = self.queue.try_send(None) {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Nothing is ever sent: it ends by being closed, or the time is up.
        self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
    }
}

/// What a plugin has to say.
pub struct Entry<'a> {
    /// Who speaks.
    pub plugin: &'a PluginName,
    /// How important it is.
    pub priority: Priority,
    /// The message; any text.
    pub message: &'a str,
    /// Fields; any text.
    pub fields: &'a [(String, String)],
}

impl Journal {
    /// Whether entries of this priority are kept.
    #[must_use]
    pub fn keeps(&self, priority: Priority) -> bool {
        priority as u8 <= self.shared.most.load(Relaxed)
    }

    /// Writes down what a plugin says.
    pub fn send(&self, entry: &Entry<'_>) {
        if !self.keeps(entry.priority) {
            return;
        }
        let mut line = format!(
            "{:<7} plugind[{}]: {}",
            entry.priority.name(),
            entry.plugin,
            Escaped(entry.message)
        );
        for (name, value) in entry.fields {
            // Writing to a String cannot fail.
            let _: fmt::Result = write!(line, " {}={}", Escaped(name), Value(value));
        }
        self.push(line);
    }

    /// Makes what the host itself says, with tracing's macros, come here too.
    pub fn subscribe(&self) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::registry().with(HostLayer(self.clone()))
    }

    fn push(&self, line: String) {
        let length = line.len();
        let waiting = self.shared.waiting.fetch_add(length, Relaxed);
        let full = waiting > QUEUE_BYTES || self.queue.try_send(Some(line)).is_err();
        if full {
            self.shared.waiting.fetch_sub(length, Relaxed);
            self.shared.dropped.fetch_add(1, Relaxed);
        }
    }
}

fn write(lines: &Receiver<Option<String>>, shared: &Shared) {
    loop {
        let next = lines.recv_timeout(Duration::from_secs(1));
        // Standard error may be gone; then there is nobody to tell.
        let mut stderr = std::io::stderr().lock();
        if let Ok(Some(line)) = &next {
            writeln!(stderr, "{line}").ok();
            shared.waiting.fetch_sub(line.len(), Relaxed);
        }
        match shared.dropped.swap(0, Relaxed) {
            0 => (),
            dropped => drop(writeln!(
                stderr,
                "{:<7} plugind: entries dropped count={dropped}",
                Priority::Warning.name()
            )),
        }
        if let Ok(None) | Err(RecvTimeoutError::Disconnected) = next {
            return;
        }
    }
}

/// Host events as lines.
struct HostLayer(Journal);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for HostLayer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Of the libraries only what is wrong with them: their hot paths are full of spans and events.
        metadata.is_event()
            && self.0.keeps(priority(metadata.level()))
            && (metadata.target().starts_with("plugind") || *metadata.level() <= Level::WARN)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let name = priority(event.metadata().level()).name();
        self.0.push(format!("{name:<7} plugind: {}{}", line.message, line.fields));
    }
}

fn priority(level: &Level) -> Priority {
    match *level {
        Level::ERROR => Priority::Error,
        Level::WARN => Priority::Warning,
        Level::INFO => Priority::Info,
        Level::DEBUG | Level::TRACE => Priority::Debug,
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        let _: fmt::Result = match field.name() {
            "message" => write!(self.message, "{}", Escaped(value)),
            name => write!(self.fields, " {name}={}", Value(value)),
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// A text in which nothing can end the line or steer a terminal.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // U+2028 and U+2029 are not control characters, and yet some readers take them for the end of a line.
        let harmful = |c: char| {
            c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        for part in self.0.split_inclusive(harmful) {
            let plain = part.trim_end_matches(harmful);
            write!(f, "{plain}{}", part[plain.len()..].escape_unicode())?;
        }
        Ok(())
    }
}

/// A value, in quotes where it would not stand out as one word.
struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+@%,".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        let quoted = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{}\"", Escaped(&quoted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_is_one_line_whatever_it_says() {
        let shown = Escaped("a\nb\r\x1b[31mred\u{2028}\u{202e}z\u{9b}").to_string();
        assert_eq!(shown, "a\\u{a}b\\u{d}\\u{1b}[31mred\\u{2028}\\u{202e}z\\u{9b}");
        assert_eq!(Escaped("plain äöü").to_string(), "plain äöü");
    }

    #[test]
    fn a_value_cannot_pretend_to_be_two() {
        assert_eq!(Value("one").to_string(), "one");
        assert_eq!(Value("").to_string(), "\"\"");
        assert_eq!(Value("a b=\"c\"").to_string(), r#""a b=\"c\"""#);
    }
}
