//! `plugind:plugin/identity`: who an instance is.

use super::{State, bindings::plugind::plugin::identity::Host};

impl Host for State {
    fn name(&mut self) -> String {
        self.shared.plugin.to_string()
    }

    fn generation(&mut self) -> u64 {
        self.shared.generation
    }

    fn worker(&mut self) -> u32 {
        self.worker
    }
}
