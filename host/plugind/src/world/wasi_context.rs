//! The part of one guest's store that only some interfaces of WASI need: made when the guest first uses one of them.
//!
//! A guest that answers a request by `wasi:http` and `wasi:io` needs none of it, and a fresh instance for each request
//! would make all of it each time: two outputs, arguments, variables, clocks, and three random generators.

use crate::{
    base::{name::PluginName, request_identity::RequestIdentity},
    world::{
        granted::Granted,
        journal,
        movable_clock::MovableClock,
        network,
        open_sockets::{InstanceSockets, PluginSockets},
        output::{GuestOutputs, StandardStream},
        socket_denials::SocketDenials,
    },
};
use std::sync::Arc;
use wasmtime_wasi::WasiCtx;

/// The most random bytes that a guest may ask for at once.
const RANDOM_MAX: u64 = 1 << 20;

/// The data of a generation from which the contexts of its instances are made.
pub(super) struct WasiSource<'a> {
    pub(super) plugin: &'a PluginName,
    pub(super) arguments: &'a [String],
    pub(super) granted: &'a Granted,
    pub(super) journal: &'a Arc<journal::Shared>,
    pub(super) sockets: &'a PluginSockets,
    pub(super) socket_denials: &'a Arc<SocketDenials>,
    pub(super) clock: Option<&'a MovableClock>,
}

/// The context, which is made when it is first needed.
#[derive(Default)]
pub(super) struct WasiContext {
    made: Option<Box<MadeContext>>,
    request: Option<RequestIdentity>,
}

/// The context of a guest that uses it.
pub(super) struct MadeContext {
    /// The library's part.
    pub(super) wasi: WasiCtx,
    pub(super) network: network::Guest,
    pub(super) sockets: InstanceSockets,
    outputs: Arc<GuestOutputs>,
}

impl WasiContext {
    /// Returns the context, and makes it if this is the first use.
    pub(super) fn get(&mut self, source: &WasiSource<'_>) -> &mut MadeContext {
        let request = self.request;
        self.made.get_or_insert_with(|| Box::new(MadeContext::new(source, request)))
    }

    /// Bytes of output of the guest that the host keeps until their line ends.
    pub(super) fn unfinished_output(&self) -> usize {
        self.made.as_ref().map_or(0, |made| made.outputs.unfinished())
    }

    /// Attributes further output of the guest to this request.
    pub(super) fn set_request(&mut self, request: Option<RequestIdentity>) {
        self.request = request;
        if let Some(made) = &self.made {
            made.outputs.set_request(request);
        }
    }
}

impl MadeContext {
    fn new(source: &WasiSource<'_>, request: Option<RequestIdentity>) -> Self {
        let network = network::Guest::new(&source.granted.network);
        let outputs = GuestOutputs::new(source.journal);
        outputs.set_request(request);
        let mut wasi = WasiCtx::builder();
        network.allow(&mut wasi, source.socket_denials);
        if let Some(clock) = source.clock {
            clock.give_to(&mut wasi);
        }
        let mut wasi = wasi
            .stdout(outputs.output(StandardStream::Stdout))
            .stderr(outputs.output(StandardStream::Stderr))
            // By convention, the first argument is the name of the program.
            .arg(source.plugin.as_str())
            .args(source.arguments)
            .envs(&source.granted.environment)
            .max_random_size(RANDOM_MAX)
            .build();
        source.granted.files.give_to(&mut wasi);
        let sockets = InstanceSockets::new(source.sockets);
        Self { wasi, network, sockets, outputs }
    }
}
