//! Functions of the host in the place of those that the library linked.

use crate::world::host_state::HostState;
use wasmtime::{Result, component::Linker};

/// Links functions, each in the place of one that the library linked. Afterwards, a second function of the same name is an
/// error again.
pub(super) fn replace(
    to: &mut Linker<HostState>,
    link: impl FnOnce(&mut Linker<HostState>) -> Result<()>,
) -> Result<()> {
    to.allow_shadowing(true);
    let linked = link(to);
    to.allow_shadowing(false);
    linked
}
