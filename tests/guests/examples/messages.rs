//! Sends back the messages of its WebSockets, and does what a path or a first word asks of it.
#![expect(clippy::print_stdout, reason = "how a WebSocket ended is for the log")]

use plugind_sdk::websockets::{CloseReason, Message, UpgradeRequest, Websocket, WebsocketHandler};
use plugind_test_guests::{forever, pause, words};

struct Messages;

/// Returns the client and the request.
fn seen(request: &UpgradeRequest) -> String {
    let UpgradeRequest { socket, path, host, subprotocols, .. } = request;
    let field = |name| request.header(name).unwrap_or("-");
    let (origin, client) = (field("origin"), field("x-forwarded-for"));
    format!("{socket} {path} {host} [{}] {origin} {client}", subprotocols.join(" "))
}

impl WebsocketHandler for Messages {
    async fn handle(request: UpgradeRequest, socket: Websocket) -> Result<(), String> {
        match words(&request.path).as_slice() {
            ["refuse"] => return socket.refuse(418).map_err(|error| error.to_string()),
            ["undecided"] => return Ok(()),
            ["fail"] => return Err("asked to fail".to_owned()),
            ["trap"] => panic!("asked to trap"),
            ["forever"] => forever().await,
            ["late"] => {
                println!("not decided yet");
                pause(500).await;
            }
            _ => (),
        }
        let chosen = request.subprotocols.first().map(String::as_str);
        socket.accept(chosen).map_err(|error| error.to_string())?;
        if words(&request.path) == ["deaf"] {
            pause(1500).await;
        }
        loop {
            let message = match socket.receive().await {
                Ok(message) => message,
                Err(error) => {
                    println!("receive: {error:?}");
                    return Ok(());
                }
            };
            let answer = match message {
                Message::Close(CloseReason { code, reason }) => {
                    println!("close {code} {reason:?}, then {:?}", socket.receive().await);
                    return Ok(());
                }
                Message::Text(word) => match word.as_str() {
                    "trap" => panic!("asked to trap"),
                    "fail" => return Err("asked to fail".to_owned()),
                    "end" => return Ok(()),
                    "who" => Message::Text(seen(&request)),
                    "close" => Message::Close(CloseReason { code: 4001, reason: "bye".into() }),
                    "large" => Message::Binary(vec![7; 1 << 20]),
                    _ => Message::Text(word),
                },
                binary => binary,
            };
            if let Err(error) = socket.send(answer).await {
                println!("send: {error:?}");
                return Ok(());
            }
        }
    }
}

plugind_sdk::export_websockets!(Messages);
