//! A datagram, as a guest gets it.

use crate::{base::name::SocketName, world::client_address::ClientAddress};

/// A datagram that was received.
#[derive(Clone, Debug)]
pub struct ReceivedDatagram {
    /// The socket on which it came.
    pub socket: SocketName,
    /// The sender.
    pub client: ClientAddress,
    /// The contents.
    pub bytes: Vec<u8>,
}
