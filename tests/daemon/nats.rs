//! A NATS server of a test, and a small client of it that shows what comes over the wire.

use plugind_tests::{Background, Signal, WAIT_MAX, tool};
use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// A server with JetStream, which can be stopped and started again at its address.
pub(crate) struct NatsServer {
    directory: TempDir,
    pub(crate) address: SocketAddr,
    running: Option<Background>,
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// At all addresses of this machine.
    pub(crate) fn start_everywhere() -> Self {
        let directory = tempfile::tempdir().unwrap();
        configure(&directory, "");
        let start = |address: SocketAddr| {
            command(&directory, SocketAddr::from(([0, 0, 0, 0], address.port())))
        };
        let running = Background::start(start);
        Self { directory, address: running.address, running: Some(running) }
    }

    /// With further lines of its configuration.
    pub(crate) fn start_with(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        configure(&directory, configuration);
        let running = Background::start(|address| command(&directory, address));
        Self { directory, address: running.address, running: Some(running) }
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    pub(crate) fn start_again(&mut self) {
        let start = |address| command(&self.directory, address);
        self.running = Some(Background::start_at(self.address, start));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
    }

    /// The settings of a daemon that uses it.
    pub(crate) fn settings(&self) -> String {
        format!("[messaging]\nurl = \"nats://{}\"\n", self.address)
    }

    pub(crate) fn client(&self) -> NatsClient {
        NatsClient::connect(self.address, "")
    }
}

fn configure(directory: &TempDir, further: &str) {
    let store = directory.path().display();
    let text = format!("jetstream {{ store_dir: \"{store}\" }}\n{further}");
    fs::write(directory.path().join("nats.conf"), text).unwrap();
}

fn command(directory: &TempDir, address: SocketAddr) -> Command {
    let mut command = tool("nats-server");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["--addr", &host, "--port", &port, "--config"]);
    command.arg(directory.path().join("nats.conf")).arg("--log");
    command.arg(directory.path().join("log")).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A message that was received.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    pub(crate) text: String,
}

/// A client.
pub(crate) struct NatsClient {
    reader: BufReader<TcpStream>,
    received: VecDeque<Received>,
    subscriptions: u32,
}

impl NatsClient {
    /// Connects; `login` is a part of the JSON of CONNECT, with a comma at its end.
    pub(crate) fn connect(address: SocketAddr, login: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let reader = BufReader::new(stream);
        let mut client = Self { reader, received: VecDeque::new(), subscriptions: 0 };
        assert!(client.line().starts_with("INFO "));
        client.write(&format!(
            "CONNECT {{{login}\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}}\r\n"
        ));
        client.flush();
        client
    }

    fn write(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the server closed the connection");
        line.trim_end().to_owned()
    }

    /// Reads one line of the protocol, and what belongs to it. True if it is the answer to a ping.
    fn step(&mut self) -> bool {
        let line = self.line();
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["PONG"] => return true,
            ["PING"] => self.write("PONG\r\n"),
            ["MSG", subject, _, reply @ .., size] => self.take(subject, reply, "0", size),
            ["HMSG", subject, _, reply @ .., header, size] => {
                self.take(subject, reply, header, size);
            }
            ["INFO", ..] => (),
            _ => panic!("{line}"),
        }
        false
    }

    fn take(&mut self, subject: &str, reply: &[&str], header: &str, size: &str) {
        let (header, size): (usize, usize) = (header.parse().unwrap(), size.parse().unwrap());
        let mut bytes = vec![0; size + 2];
        self.reader.read_exact(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[header..size]).into_owned();
        let reply = reply.first().map(|it| (*it).to_owned());
        self.received.push_back(Received { subject: subject.to_owned(), reply, text });
    }

    /// Waits until the server has taken all that was sent.
    pub(crate) fn flush(&mut self) {
        self.write("PING\r\n");
        while !self.step() {}
    }

    pub(crate) fn subscribe(&mut self, subject: &str) {
        self.subscriptions += 1;
        let subscription = self.subscriptions;
        self.write(&format!("SUB {subject} {subscription}\r\n"));
        self.flush();
    }

    pub(crate) fn publish(&mut self, subject: &str, text: &str) {
        self.write(&format!("PUB {subject} {}\r\n{text}\r\n", text.len()));
    }

    /// With a header, whose lines end with `\r\n`.
    pub(crate) fn publish_with(&mut self, subject: &str, header: &str, text: &str) {
        let header = format!("NATS/1.0\r\n{header}\r\n");
        let size = header.len() + text.len();
        self.write(&format!("HPUB {subject} {} {size}\r\n{header}{text}\r\n", header.len()));
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Received {
        loop {
            if let Some(message) = self.received.pop_front() {
                return message;
            }
            self.step();
        }
    }

    /// Sends a request, and returns the first message that comes.
    pub(crate) fn request(&mut self, subject: &str, text: &str) -> String {
        let inbox = format!("_INBOX.test{}", self.subscriptions);
        self.subscribe(&inbox);
        let subscription = self.subscriptions;
        self.write(&format!("PUB {subject} {inbox} {}\r\n{text}\r\n", text.len()));
        let reply = loop {
            if let Some(nth) = self.received.iter().position(|it| it.subject == inbox) {
                break self.received.remove(nth).unwrap();
            }
            self.step();
        };
        self.write(&format!("UNSUB {subscription}\r\n"));
        reply.text
    }

    /// Makes a stream for these subjects.
    pub(crate) fn add_stream(&mut self, name: &str, subject: &str) {
        let text =
            format!("{{\"name\":\"{name}\",\"subjects\":[\"{subject}\"],\"storage\":\"file\"}}");
        let reply = self.request(&format!("$JS.API.STREAM.CREATE.{name}"), &text);
        assert!(!reply.contains("\"error\""), "{reply}");
    }

    /// The state of a consumer, as the server reports it in JSON.
    pub(crate) fn consumer(&mut self, stream: &str, name: &str) -> serde_json::Value {
        let reply = self.request(&format!("$JS.API.CONSUMER.INFO.{stream}.{name}"), "");
        serde_json::from_str(&reply).unwrap()
    }

    /// Has a stream store a message, and waits until it has.
    pub(crate) fn store(&mut self, subject: &str, text: &str) {
        let reply = self.request(subject, text);
        assert!(reply.contains("\"seq\""), "{reply}");
    }
}
