//! The directives of the daemon's unit that a grant needs.

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
        /// Its name in the plugin.
        key: &'a str,
        /// Its name in the unit.
        file: String,
    },
}
