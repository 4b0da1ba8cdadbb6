//! The limits of WebSockets: their number, the size of a message, and sides that do not read or send.

use crate::websockets::{ask, close_code, echo, open, start};
use plugind_tests::eventually;
use std::{
    io::{ErrorKind, Write},
    time::Duration,
};
use tungstenite::{
    Message, WebSocket,
    error::Error,
    protocol::{Role, frame::coding::CloseCode},
};

#[test]
fn a_message_that_is_too_large_or_no_text_closes_with_the_code_for_it() {
    let daemon = start("[limits]\nmessage-max = \"1K\"\n");
    let mut client = open(&daemon, "/messages");
    client.send(Message::binary(vec![7; 1024])).unwrap();
    assert_eq!(client.read().unwrap().len(), 1024);
    client.send(Message::binary(vec![7; 1025])).unwrap();
    assert_eq!(close_code(&mut client), Some(CloseCode::Size));
    daemon.log.wait_for(&["receive: WebsocketError { code: 4"]);
    // A frame that says to be large is refused before it has come.
    let mut client = open(&daemon, "/messages");
    let head = [0x82, 0xff, 0, 0, 0, 0x7f, 0, 0, 0, 0, 1, 2, 3, 4];
    std::io::Write::write_all(client.get_mut(), &head).unwrap();
    assert_eq!(close_code(&mut client), Some(CloseCode::Size));
    let mut client = open(&daemon, "/messages");
    std::io::Write::write_all(client.get_mut(), &[0x81, 0x81, 0, 0, 0, 0, 0xff]).unwrap();
    assert_eq!(close_code(&mut client), Some(CloseCode::Invalid));
    let mut client = open(&daemon, "/messages");
    std::io::Write::write_all(client.get_mut(), &[0x81, 0x01, b'x']).unwrap();
    assert_eq!(close_code(&mut client), Some(CloseCode::Protocol), "it is not masked");
}

#[test]
fn a_client_that_does_not_read_keeps_the_plugin_from_sending_and_receiving() {
    let daemon = start("");
    let mut client = open(&daemon, "/messages");
    client.get_mut().set_nonblocking(true).unwrap();
    let (piece, mut sent) = (vec![7; 32 << 10], 0_u64);
    // Until the buffers of the kernel are full in both directions, and everything stands still.
    let mut full = 0;
    while full < 20 {
        match client.send(Message::binary(piece.clone())) {
            Ok(()) => (sent, full) = (sent + 1, 0),
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // The client has kept this message, and has no room for another.
                (sent, full) = (sent + 1, full + 1);
                while full < 20 && client.flush().is_err() {
                    full += 1;
                    assert_eq!(echo(&mut open(&daemon, "/messages"), "other"), "other");
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 2048, "{sent} messages were taken");
    }
    client.get_mut().set_nonblocking(false).unwrap();
    // Messages that arrive during the flush would have no reader, so both are done at the same time.
    let mut reader =
        WebSocket::from_raw_socket(client.get_ref().try_clone().unwrap(), Role::Client, None);
    let reads = std::thread::spawn(move || {
        let mut read = 0;
        while read < sent {
            assert_eq!(reader.read().unwrap().len(), 32 << 10);
            read += 1;
        }
    });
    client.flush().unwrap();
    reads.join().unwrap();
}

#[test]
fn a_websocket_without_a_message_for_too_long_is_closed_and_the_plugin_learns_why() {
    let daemon = start("[limits]\nidle-timeout = \"200ms\"\n");
    let mut client = open(&daemon, "/messages");
    assert_eq!(echo(&mut client, "hello"), "hello");
    assert_eq!(close_code(&mut client), Some(CloseCode::Away));
    daemon.log.wait_for(&["receive: WebsocketError { code: 1"]);
}

#[test]
fn more_websockets_than_may_be_are_answered_503_until_one_ends() {
    let daemon = start("[limits]\nconnections-max = 2\n");
    let kept: Vec<_> = (0..2).map(|_| open(&daemon, "/messages")).collect();
    let Err(response) = ask(&daemon, "/messages", &[]) else { panic!("there are two already") };
    assert_eq!(response.status(), 503);
    daemon.log.wait_for(&["warning plugind: connection limit reached", "plugin=messages"]);
    drop(kept);
    eventually("a place is free again", || ask(&daemon, "/messages", &[]).ok());
}

#[test]
fn a_client_that_pings_and_never_reads_has_to_wait() {
    const PING: [u8; 131] = {
        let mut frame = [0; 131];
        // Masked by zeros, with the longest payload of a control frame.
        (frame[0], frame[1]) = (0x89, 0x80 | 125);
        frame
    };
    // More than the kernel keeps for both sides.
    const SENT_MAX: usize = 64 << 20;
    let daemon = start("");
    let mut stream = open(&daemon, "/messages").get_ref().try_clone().unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let pings = PING.repeat(500);
    let mut sent = 0;
    while sent < SENT_MAX {
        match stream.write(&pings) {
            Ok(written) => sent += written,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(sent < SENT_MAX, "the daemon read {} MiB", sent >> 20);
}
