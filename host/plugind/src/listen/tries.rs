//! How often listeners offer a request, a connection, a datagram or a message to a plugin.

/// Limit of attempts while each generation that gets it is draining. Two are rare, three would be a fault of ours.
pub(super) const TRIES: usize = 3;
