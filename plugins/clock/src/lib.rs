//! Answers each datagram with the time, in seconds since 1970.

use plugind_sdk::DatagramHandler;
use plugind_sdk::datagrams::Peer;

/// The longest question that is answered: an answer must not be longer than its question by much, since senders of UDP
/// datagrams can be forged.
const QUESTION_MAX: usize = 64;

struct Clock;

impl DatagramHandler for Clock {
    async fn handle(_socket: String, _peer: Peer, question: Vec<u8>) -> Option<Vec<u8>> {
        if question.len() > QUESTION_MAX {
            return None;
        }
        let now = wasip3::clocks::system_clock::now();
        Some(format!("{}.{:09}\n", now.seconds, now.nanoseconds).into_bytes())
    }
}

plugind_sdk::export_datagrams!(Clock);
