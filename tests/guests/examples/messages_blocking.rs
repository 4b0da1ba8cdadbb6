//! Sends back the messages of its WebSockets by functions that block, as a language without async functions does.
#![expect(missing_docs, unsafe_code, reason = "wit-bindgen writes it here, in this crate")]
#![expect(clippy::print_stdout, reason = "how a WebSocket ended is for the log")]

use exports::plugind::plugin::blocking_websocket_handler::Guest;
use plugind::plugin::blocking_websockets::{CloseReason, Message, UpgradeRequest, Websocket};

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package plugind:tests;

        world messages {
            export plugind:plugin/blocking-websocket-handler@0.1.0;
        }
    ",
    generate_all,
    sync: true,
});

struct Messages;

/// Returns the request, and whether its origin is "here".
fn seen(request: &UpgradeRequest) -> String {
    let UpgradeRequest { socket, path, host, subprotocols, headers } = request;
    let has_origin = headers.iter().any(|field| field.name == "origin" && field.value == b"here");
    format!("{socket} {path} {host} [{}] {has_origin}", subprotocols.join(" "))
}

impl Guest for Messages {
    fn handle(request: UpgradeRequest, socket: Websocket) -> Result<(), String> {
        if request.path == "/refuse" {
            return socket.refuse(418).map_err(|error| error.to_string());
        }
        println!("not offered: {:?}", socket.accept(Some("not offered")));
        let chosen = request.subprotocols.first().map(String::as_str);
        socket.accept(chosen).map_err(|error| error.to_string())?;
        loop {
            let message = match socket.receive() {
                Ok(message) => message,
                Err(error) => {
                    println!("receive: {error:?}");
                    return Ok(());
                }
            };
            let answer = match message {
                Message::Close(CloseReason { code, reason }) => {
                    println!("close {code} {reason:?}, then {:?}", socket.receive());
                    return Ok(());
                }
                Message::Text(word) => match word.as_str() {
                    "trap" => panic!("asked to trap"),
                    "fail" => return Err("asked to fail".to_owned()),
                    "who" => Message::Text(seen(&request)),
                    "close" => Message::Close(CloseReason { code: 4001, reason: "bye".into() }),
                    _ => Message::Text(word),
                },
                binary => binary,
            };
            if let Err(error) = socket.send(&answer) {
                println!("send: {error:?}");
                return Ok(());
            }
        }
    }
}

export!(Messages);
