//! `plugind:plugin/identity`: the name and the numbers of an instance.

use crate::base::name::PluginName;
use crate::world::bindings::plugind::plugin::identity::Host;
use wasmtime::component::HasData;

/// The identity that all instances of a generation share.
#[derive(Debug)]
pub struct Shared {
    /// The plugin to which they belong.
    pub plugin: PluginName,
    /// The generation to which they belong.
    pub generation: u64,
}

impl HasData for Shared {
    type Data<'a> = Guest<'a>;
}

/// The identity of one instance.
pub struct Guest<'a> {
    pub(super) shared: &'a Shared,
    pub(super) worker: u32,
}

impl Host for Guest<'_> {
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
