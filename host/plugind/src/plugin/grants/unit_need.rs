//! What a grant needs of the daemon's unit.

use crate::base::endpoint::Endpoint;
use std::path::Path;

/// Something that the daemon's unit must allow for a grant to have an effect.
#[derive(Clone, Debug, PartialEq)]
pub enum UnitNeed<'a> {
    /// A connection over the network.
    Connection(&'a Endpoint),
    /// A directory of the machine.
    Directory(&'a Path),
    /// A directory of the daemon's own to write to.
    StateDirectory,
    /// A credential.
    Credential {
        /// What the plugin calls it.
        key: &'a str,
        /// What the unit calls it.
        file: String,
    },
}
