//! `wasi:logging`: the journal, for plugins that are not made for plugind.

use crate::base::priority::Priority;
use crate::world::{
    bindings::logging::wasi::logging::logging::{Host, HostWithStore, Level},
    journal,
    request_tasks::callers,
};
use wasmtime::component::{Access, HasData};

/// The field with the context of an entry: `PLUGIN_CONTEXT=` in the journal.
const CONTEXT: &str = "context";

/// Links the interface.
pub(super) struct Logging;

impl HasData for Logging {
    type Data<'a> = Guest<'a>;
}

impl<T: 'static> HostWithStore<T> for Logging {
    fn log(mut host: Access<'_, T, Self>, level: Level, context: String, message: String) {
        let tasks = if host.get().0.depends_on_task() { callers(&mut host) } else { Vec::new() };
        let Guest(guest) = host.get();
        let context = Some(context.as_str()).filter(|context| !context.is_empty());
        let fields = context.into_iter().map(|context| (CONTEXT, context));
        guest.shared.send(level.into(), &message, fields, guest.request_of(&tasks));
    }
}

/// One instance's way to the journal. Its entries count for the same rate as those of `plugind:plugin/journal`.
pub(super) struct Guest<'a>(pub(super) journal::Guest<'a>);

impl Host for Guest<'_> {}

impl From<Level> for Priority {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace | Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warning,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
        }
    }
}
