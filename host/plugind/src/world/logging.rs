//! `wasi:logging`: the journal, for plugins that are not made for plugind.

use crate::base::{priority::Priority, request_identity::RequestIdentity};
use crate::world::{
    bindings::logging::wasi::logging::logging::{Host, Level},
    journal,
};
use wasmtime::component::HasData;

/// The field with the context of an entry: `PLUGIN_CONTEXT=` in the journal.
const CONTEXT: &str = "context";

/// What links it.
pub(super) struct Logging;

impl HasData for Logging {
    type Data<'a> = Guest<'a>;
}

/// One instance's way to the journal, with the rate of the others.
pub(super) struct Guest<'a> {
    pub(super) journal: &'a journal::Shared,
    pub(super) request: Option<RequestIdentity>,
}

impl Host for Guest<'_> {
    fn log(&mut self, level: Level, context: String, message: String) {
        let context = Some(context.as_str()).filter(|context| !context.is_empty());
        let fields = context.into_iter().map(|context| (CONTEXT, context));
        self.journal.send(level.into(), &message, fields, self.request);
    }
}

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
