//! A chat room for browsers: a page over HTTP, and a WebSocket on the same path.

use plugind_sdk::http::{Handler, Request, Response, http::HeaderValue, http::header};
use plugind_sdk::websockets::{CloseReason, Message, UpgradeRequest, Websocket, WebsocketHandler};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};
use wasip3::spawn_local;

const PAGE: &str = include_str!("page.html");
/// The longest name, in characters.
const NAME_MAX: usize = 32;
/// The most lines that may wait for a member who reads slowly.
const LINES_MAX: usize = 100;

struct Chat;

/// Someone in the room.
struct Member {
    name: String,
    socket: Websocket,
    /// Lines that are not sent yet.
    lines: RefCell<VecDeque<String>>,
    /// A task sends them.
    is_sending: Cell<bool>,
}

thread_local! {
    /// An instance has one thread, and this plugin one instance.
    static ROOM: RefCell<Vec<Rc<Member>>> = const { RefCell::new(Vec::new()) };
}

impl Member {
    /// Sends the lines that wait, and those that come meanwhile.
    async fn send(self: Rc<Self>) {
        loop {
            let line = self.lines.borrow_mut().pop_front();
            let Some(line) = line else { break };
            // The member's own task notices that it has left.
            if self.socket.send(Message::Text(line)).await.is_err() {
                self.lines.borrow_mut().clear();
            }
        }
        self.is_sending.set(false);
    }
}

/// Sends a line to everyone in the room, without waiting for anyone.
fn say(line: &str) {
    let members = ROOM.with_borrow(Clone::clone);
    for member in members {
        let mut lines = member.lines.borrow_mut();
        if lines.len() < LINES_MAX {
            lines.push_back(line.to_owned());
        }
        drop(lines);
        if !member.is_sending.replace(true) {
            spawn_local(member.send());
        }
    }
}

/// Whether the page that opens the WebSocket is this plugin's own. Programs have no page.
fn is_own_page(request: &UpgradeRequest) -> bool {
    let Some(origin) = request.header("origin") else { return true };
    let host = origin.split_once("://").map(|(_, host)| host);
    host == request.header("x-forwarded-host").or(Some(&request.host))
}

/// The name in `?name=NAME`, with its bytes decoded.
fn name(request: &UpgradeRequest) -> String {
    let query = request.path.split_once("?name=").map_or("", |(_, query)| query);
    let (mut bytes, mut rest) = (Vec::new(), query.bytes());
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let digits = [rest.next().unwrap_or_default(), rest.next().unwrap_or_default()];
                str::from_utf8(&digits).ok().and_then(|it| u8::from_str_radix(it, 16).ok())
            }
            byte => Some(byte),
        };
        bytes.extend(decoded);
    }
    let name = String::from_utf8_lossy(&bytes);
    let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
    if name.is_empty() { "guest".to_owned() } else { name }
}

impl WebsocketHandler for Chat {
    async fn handle(request: UpgradeRequest, socket: Websocket) -> Result<(), String> {
        if !is_own_page(&request) {
            return socket.refuse(403).map_err(|error| error.to_string());
        }
        socket.accept(None).map_err(|error| error.to_string())?;
        let member = Rc::new(Member {
            name: name(&request),
            socket,
            lines: RefCell::default(),
            is_sending: Cell::default(),
        });
        ROOM.with_borrow_mut(|room| room.push(member.clone()));
        say(&format!("{} has joined", member.name));
        loop {
            match member.socket.receive().await {
                Ok(Message::Text(text)) => say(&format!("{}: {text}", member.name)),
                Ok(Message::Binary(_)) => {
                    let reason = CloseReason { code: 1003, reason: "text only".to_owned() };
                    // Its end comes next.
                    let _sent = member.socket.send(Message::Close(reason)).await;
                }
                // A member who has left is no failure of the plugin.
                Ok(Message::Close(_)) | Err(_) => break,
            }
        }
        ROOM.with_borrow_mut(|room| room.retain(|other| !Rc::ptr_eq(other, &member)));
        say(&format!("{} has left", member.name));
        Ok(())
    }
}

impl Handler for Chat {
    async fn handle(_: Request) -> Response {
        let mut response = Response::new(PAGE.as_bytes().to_vec());
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
        response
    }
}

plugind_sdk::export_http!(Chat);
plugind_sdk::export_websockets!(Chat);
