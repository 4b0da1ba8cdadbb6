//! Greets everyone whose name comes as a datagram.

mod greeting;
mod lifecycle;

use greeting::greet;
use lifecycle::{Plugin, greeting};
use plugind_sdk::DatagramHandler;
use plugind_sdk::datagrams::Peer;

impl DatagramHandler for Plugin {
    // The sender of a UDP datagram can be forged, so an answer must not be much longer than its question.
    async fn handle(_socket: String, _peer: Peer, datagram: Vec<u8>) -> Option<Vec<u8>> {
        Some(greet(greeting(), &String::from_utf8_lossy(&datagram)).into_bytes())
    }
}

plugind_sdk::export!(Plugin);
plugind_sdk::export_datagrams!(Plugin);
