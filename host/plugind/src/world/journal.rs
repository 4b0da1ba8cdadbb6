//! `plugind:plugin/journal`: log entries of instances.

use crate::world::{
    bindings::plugind::plugin::journal::{Host, HostWithStore, Priority as GuestPriority},
    memory,
    request_tasks::{RequestTasks, callers},
};
use crate::{
    base::{
        figures::PluginFigures, name::PluginName, priority::Priority, quantity::Rate,
        request_identity::RequestIdentity, text::cut,
    },
    journal::{Journal, LogEntry, messages::LOG_RATE_EXCEEDED},
};
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};
use tokio::{runtime::Handle, time::sleep_until};
use tracing::warn;
use wasmtime::component::{Access, GuestTaskId, HasData};

/// Bytes of an entry that count as one entry, rounded up, so that `log-rate` limits both number and length.
const COUNTED: usize = 1 << 10;
/// The longest message, in bytes: with its fields it fits one datagram to journald.
pub(super) const MESSAGE_MAX: usize = 48 << 10;
/// The most fields of an entry.
const FIELDS_MAX: usize = 32;
/// The longest name of a field: `PLUGIN_` and this are the 64 bytes that the journal allows.
const NAME_MAX: usize = 57;
/// The longest value of a field, in bytes.
const VALUE_MAX: usize = 1 << 10;

/// A generation's way to the journal, with its rate.
pub struct Shared {
    plugin: PluginName,
    generation: u64,
    journal: Journal,
    limits: LogLimits,
    window: Mutex<Window>,
    figures: Arc<PluginFigures>,
    this: Weak<Self>,
}

/// The limits of the entries of a generation.
pub struct LogLimits {
    /// The most entries in a time.
    pub rate: Rate,
    /// What waits to be written counts here. It is not refused, since the rate and the queue bound it.
    pub memory: Arc<memory::Shared>,
}

/// The used part of the rate in a period, and the number of dropped entries.
struct Window {
    since: Instant,
    used: u32,
    dropped: u64,
}

impl Shared {
    /// Passes what instances of this `generation` of `plugin` log on to `journal`, within `limits`.
    #[must_use]
    pub fn new(
        plugin: PluginName,
        generation: u64,
        journal: Journal,
        limits: LogLimits,
        figures: Arc<PluginFigures>,
    ) -> Arc<Self> {
        let window = Mutex::new(Window { since: Instant::now(), used: 0, dropped: 0 });
        Arc::new_cyclic(|this| {
            let this = this.clone();
            Self { plugin, generation, journal, limits, window, figures, this }
        })
    }

    /// Writes an entry of an instance, about its `request` if that is known, unless the rate is used up.
    pub(super) fn send<'a>(
        &self,
        priority: Priority,
        message: &str,
        fields: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        request: Option<RequestIdentity>,
    ) {
        if !self.journal.keeps(priority) {
            return;
        }
        let fields = fields
            .filter(|(name, _)| !name.is_empty())
            .take(FIELDS_MAX)
            .map(|(name, value)| (name, &value[..value.floor_char_boundary(VALUE_MAX)]));
        let of_fields = fields.clone().map(|(name, value)| name.len().min(NAME_MAX) + value.len());
        let length = message.len().min(MESSAGE_MAX) + of_fields.sum::<usize>();
        if !self.admit_length(length, Instant::now()) {
            return;
        }
        self.figures.log_entries.add(1);
        self.journal.send(LogEntry {
            plugin: &self.plugin,
            generation: self.generation,
            request,
            priority,
            message: &cut(message, MESSAGE_MAX),
            fields: fields.map(|(name, value)| (field_name(name), value.to_owned())).collect(),
            charge: self.limits.memory.charge_always(length),
        });
    }

    /// Whether one more entry is within the rate at `now`; if not it is counted.
    pub fn admit(&self, now: Instant) -> bool {
        self.admit_length(0, now)
    }

    /// The same for an entry of so many bytes. It is admitted as a whole, as long as anything is left of the rate.
    fn admit_length(&self, bytes: usize, now: Instant) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.since) >= self.limits.rate.every {
            self.report(window.dropped);
            *window = Window { since: now, used: 0, dropped: 0 };
        }
        let admitted = window.used < self.limits.rate.count;
        if admitted {
            let counts = u32::try_from(bytes.div_ceil(COUNTED)).unwrap_or(u32::MAX);
            window.used = window.used.saturating_add(counts.max(1));
        } else {
            window.dropped += 1;
            self.figures.log_dropped.add(1);
            if window.dropped == 1 {
                self.report_later(window.since + self.limits.rate.every);
            }
        }
        admitted
    }

    /// Reports dropped entries at the end of their period, also if no other entry comes then.
    fn report_later(&self, end: Instant) {
        let this = self.this.clone();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep_until(end.into()).await;
                if let Some(shared) = this.upgrade() {
                    shared.report_dropped();
                }
            });
        }
    }

    /// Reports what was dropped so far, at the latest when the last instance has ended: entries that come after the
    /// journal's own end would be lost.
    pub fn report_dropped(&self) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        self.report(std::mem::take(&mut window.dropped));
    }

    fn report(&self, dropped: u64) {
        if dropped > 0 {
            let (plugin, generation, count) = (&self.plugin, self.generation, dropped);
            warn!(message_id = LOG_RATE_EXCEEDED, %plugin, generation, count, "log rate limit exceeded");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.report_dropped();
    }
}

impl HasData for Shared {
    type Data<'a> = Guest<'a>;
}

/// One instance's way to the journal.
pub struct Guest<'a> {
    pub(super) shared: &'a Shared,
    pub(super) request: Option<RequestIdentity>,
    pub(super) tasks: &'a RequestTasks,
}

impl Guest<'_> {
    /// Whether the request depends on the task that writes the entry.
    pub(super) fn depends_on_task(&self) -> bool {
        self.request.is_none() && !self.tasks.is_empty()
    }

    /// The request that an entry is about: that of the instance, or else that of the first of these tasks that has one.
    pub(super) fn request_of(&self, tasks: &[GuestTaskId]) -> Option<RequestIdentity> {
        self.request.or_else(|| self.tasks.request_of(tasks))
    }
}

impl<T: 'static> HostWithStore<T> for Shared {
    fn send(
        mut host: Access<'_, T, Self>,
        priority: GuestPriority,
        message: String,
        fields: Vec<(String, String)>,
    ) {
        let tasks = if host.get().depends_on_task() { callers(&mut host) } else { Vec::new() };
        let guest = host.get();
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        guest.shared.send(priority.into(), &message, fields, guest.request_of(&tasks));
    }
}

impl Host for Guest<'_> {
    fn enabled(&mut self, priority: GuestPriority) -> bool {
        self.shared.journal.keeps(priority.into())
    }
}

impl From<GuestPriority> for Priority {
    fn from(priority: GuestPriority) -> Self {
        match priority {
            GuestPriority::Critical => Self::Critical,
            GuestPriority::Error => Self::Error,
            GuestPriority::Warning => Self::Warning,
            GuestPriority::Notice => Self::Notice,
            GuestPriority::Info => Self::Info,
            GuestPriority::Debug => Self::Debug,
        }
    }
}

/// A field's name as it is kept: of `[a-z0-9-]`, whatever the guest called it.
fn field_name(name: &str) -> String {
    let kept = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9') => c,
        _ => '-',
    };
    name.chars().take(NAME_MAX).map(kept).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{base::budget::Budget, journal};
    use std::time::Duration;

    #[test]
    fn a_field_cannot_have_a_name_of_ours() {
        for (name, kept) in [
            ("request-id", "request-id"),
            ("MESSAGE_ID", "message-id"),
            ("_PID", "-pid"),
            ("a=b\n", "a-b-"),
        ] {
            assert_eq!(field_name(name), kept);
        }
        assert_eq!(field_name(&"ä".repeat(100)), "-".repeat(NAME_MAX));
    }

    pub(in crate::world) fn with_rate(count: u32) -> Arc<Shared> {
        let (journal, _) =
            journal::start(Priority::Error, crate::systemd::environment::LogTarget::Lines).unwrap();
        in_journal(journal, count, memory(0))
    }

    fn memory(max: usize) -> Arc<memory::Shared> {
        Arc::new(memory::Shared::new(max, max, max, Arc::new(Budget::new(max))))
    }

    fn in_journal(journal: Journal, count: u32, memory: Arc<memory::Shared>) -> Arc<Shared> {
        let rate = Rate { count, every: Duration::from_secs(10) };
        let figures = Arc::new(PluginFigures::new(1));
        Shared::new("chatty".parse().unwrap(), 1, journal, LogLimits { rate, memory }, figures)
    }

    #[test]
    fn text_that_waits_for_the_journal_counts_as_memory_of_its_plugin() {
        let (journal, waiting) = journal::stalled();
        let memory = memory(4000);
        let shared = in_journal(journal, 1000, memory.clone());
        let send = |message: &str| {
            shared.send(Priority::Info, message, [("field", "value")].into_iter(), None);
        };
        send(&"x".repeat(1000));
        assert_eq!(memory.used(), 1010);
        assert!(memory.charge(3000).is_none(), "its instances can use only the rest");
        send(&"y".repeat(MESSAGE_MAX + 1));
        assert_eq!(memory.used(), 1010 + MESSAGE_MAX + 10, "no entry is refused for its memory");
        drop(waiting);
        assert_eq!(memory.used(), 0);
        send("not written");
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn the_rate_bounds_bytes_as_well_as_entries() {
        let start = Instant::now();
        let admitted = |count, bytes: usize| {
            let shared = with_rate(count);
            (0..10_000).take_while(|_| shared.admit_length(bytes, start)).count()
        };
        for (bytes, entries) in
            [(0, 1000), (1, 1000), (1024, 1000), (1025, 500), (10 << 10, 100), (MESSAGE_MAX, 21)]
        {
            assert_eq!(admitted(1000, bytes), entries, "{bytes}");
        }
        assert_eq!(admitted(1, MESSAGE_MAX), 1, "an entry is never too long for a rate");
        assert_eq!(admitted(0, 1), 0);
        assert_eq!(admitted(u32::MAX, usize::MAX), 1);
    }

    #[test]
    fn a_plugin_beyond_its_log_rate_is_logged_again_in_the_next_period() {
        let shared = with_rate(2);
        let start = Instant::now();
        let admitted = |seconds| shared.admit(start + Duration::from_secs(seconds));
        assert_eq!(
            [admitted(0), admitted(1), admitted(2), admitted(11)],
            [true, true, false, true]
        );
    }
}
