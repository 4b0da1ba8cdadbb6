//! HTTP/2 without TLS, on the port of HTTP/1.1.

use plugind_tests::{Daemon, Signal, Tree, WAIT_MAX, run, tool};
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END: u8 = 0b101; // of the header, and of the stream

/// A connection whose frames are written here.
pub(crate) struct Frames(TcpStream);

impl Frames {
    pub(crate) fn open(daemon: &Daemon) -> Self {
        let mut stream = TcpStream::connect(daemon.address()).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.set_write_timeout(Some(WAIT_MAX)).unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.0.write_all(frame).unwrap();
    }

    /// The next frame of a stream that has contents: its kind and these.
    pub(crate) fn of(&mut self, stream: u32) -> (u8, Vec<u8>) {
        loop {
            let (kind, of, contents) = self.next().expect("the connection is open");
            if of == stream && matches!(kind, DATA | HEADERS) {
                return (kind, contents);
            }
        }
    }

    /// The next frame: its kind, its stream and its contents.
    pub(crate) fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut contents = vec![0; length as usize];
        self.0.read_exact(&mut contents).ok()?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), contents))
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), contents].concat()
}

/// A request as HPACK has it without a dynamic table.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // :method GET, :scheme http, :path, :authority
    let header = [&[0x82, 0x86, 0x04][..], &text(path), &[0x01], &text("a")].concat();
    frame(HEADERS, END, stream, &header)
}

fn curl(arguments: &[&str]) -> String {
    run(tool("curl").args(["-sS", "--max-time", "30", "--http2-prior-knowledge"]).args(arguments))
}

#[test]
fn both_versions_of_http_are_served_on_one_port() {
    let daemon = Daemon::start(&Tree::new().with("headers").with("streams").with("statuses"));
    let url = |path: &str| format!("http://{}{path}", daemon.address());
    let version = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
    let status = |path: &str| curl(&[&version[..], &[&url(path)]].concat());
    assert_eq!(status("/headers"), "2 200");
    assert_eq!(status("/nobody"), "2 404");
    assert_eq!(daemon.get("/headers").status(), 200);
    let headers = curl(&[&url("/headers")]);
    let authority = format!("authority: Some(\"{}\")", daemon.address());
    for line in [&*authority, "scheme: Some(Scheme::Http)", "header x-forwarded-for: 127.0.0.1"] {
        assert!(headers.lines().any(|seen| seen == line), "{line}: {headers}");
    }
    let body = "x".repeat(3_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &body).unwrap();
    let data = format!("@{}", file.path().display());
    assert_eq!(curl(&["--data-binary", &data, &url("/streams/up")]), "3000000");
    assert_eq!(curl(&["--data-binary", &data, &url("/streams/echo")]).len(), body.len());
    for (path, length) in [
        ("/statuses/204/length", None),
        ("/statuses/304/length", None),
        ("/statuses/200/length", Some("6")),
    ] {
        let head = curl(&["-I", &url(path)]);
        let field = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(field.map(str::trim), length, "{path}: {head}");
    }
    // The daemon's own responses have no body either, which would be an error of the protocol.
    let head = curl(&["-I", &url("/nobody")]);
    assert!(head.starts_with("HTTP/2 404 "), "{head}");
    assert!(head.contains("\r\ncontent-length: 27\r\n"), "{head}");
    assert_eq!(status("/statuses/204"), "2 204");
    assert_eq!(status("/statuses/103"), "2 502");
}

#[test]
fn a_plugin_gets_the_cookies_of_a_browser_as_one_field() {
    let daemon = Daemon::start(&Tree::new().with("headers"));
    let url = format!("http://{}/headers", daemon.address());
    // As a browser sends them: each in a field of its own.
    let cookies = ["-H", "cookie: theme=dark", "-H", "cookie: session=1"];
    let got = run(tool("nghttp").args(cookies).arg(&url));
    assert!(got.contains("header cookie: theme=dark; session=1\n"), "{got}");
}

#[test]
fn many_requests_at_a_time_are_answered_on_one_connection() {
    let daemon = Daemon::start(&Tree::new().with("greeter_02").with("sleeps"));
    let url = format!("http://{}/greeter-02", daemon.address());
    let load = run(tool("h2load").args(["-n", "3000", "-c", "3", "-m", "50", &url]));
    assert!(load.contains("3000 succeeded, 0 failed"), "{load}");
    // They wait at the same time: one after the other would take 40 seconds.
    let url = format!("http://{}/sleeps/sleep/1000", daemon.address());
    let load = run(tool("h2load").args(["-n", "40", "-c", "1", "-m", "40", &url]));
    assert!(load.contains("40 succeeded, 0 failed"), "{load}");
    let url = format!("http://{}/greeter-02", daemon.address());
    let got = run(tool("nghttp").args(["-nv", &url, &format!("{url}?again")]));
    assert_eq!(got.matches(":status: 200").count(), 2, "{got}");
}

#[test]
fn a_daemon_that_stops_says_so_and_answers_what_it_began() {
    let mut daemon = Daemon::start(&Tree::new().with("sleeps"));
    let mut frames = Frames::open(&daemon);
    frames.0.write_all(&get(1, "/sleeps/sleep/1500")).unwrap();
    let mut idle = Frames::open(&daemon);
    // Its settings show that the daemon has the connection.
    assert_eq!(idle.next().unwrap().0, SETTINGS);
    assert_eq!(frames.next().unwrap().0, SETTINGS);
    daemon.signal(Signal::TERM);
    let (mut goes, mut answered) = (false, false);
    while let Some((kind, stream, contents)) = frames.next() {
        goes |= kind == GOAWAY;
        // 0x88: :status 200
        answered |= (kind, stream) == (HEADERS, 1) && contents[0] == 0x88;
    }
    assert!(goes && answered, "goes: {goes}, answered: {answered}");
    let idle: Vec<_> = std::iter::from_fn(|| idle.next()).map(|(kind, ..)| kind).collect();
    assert!(idle.contains(&GOAWAY), "{idle:?}");
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_response_whose_client_makes_room_for_it_late_is_not_cut_off_by_a_stop() {
    let mut daemon = Daemon::start(&Tree::new().with("statuses"));
    let mut frames = Frames::open(&daemon);
    // Room for one byte: SETTINGS_INITIAL_WINDOW_SIZE.
    frames.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]));
    frames.send(&get(1, "/statuses/200"));
    assert_eq!(frames.of(1).0, HEADERS);
    assert_eq!(frames.of(1), (DATA, b"a".to_vec()));
    let mut idle = Frames::open(&daemon);
    // Its settings show that the daemon has the connection.
    assert_eq!(idle.next().unwrap().0, SETTINGS);
    daemon.signal(Signal::TERM);
    // A connection without a request is closed first.
    while idle.next().is_some() {}
    frames.send(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]));
    assert_eq!(frames.of(1), (DATA, b" body".to_vec()));
    drop(frames);
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_client_that_resets_without_end_is_cut_off() {
    let daemon = Daemon::start(&Tree::new().with("sleeps"));
    let mut frames = Frames::open(&daemon);
    let mut writer = frames.0.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        let cancel = 8_u32.to_be_bytes();
        for stream in (1..200_000).step_by(2) {
            let both = [get(stream, "/sleeps/sleep/100"), frame(RST_STREAM, 0, stream, &cancel)];
            if writer.write_all(&both.concat()).is_err() {
                return true;
            }
        }
        false
    });
    let reason = std::iter::from_fn(|| frames.next())
        .find_map(|(kind, _, contents)| (kind == GOAWAY).then(|| contents[7]));
    // ENHANCE_YOUR_CALM, unless the flood itself is in the way of it.
    assert!(matches!(reason, None | Some(11)), "{reason:?}");
    drop(frames);
    assert!(flood.join().unwrap(), "all of it was taken");
    assert_eq!(daemon.get("/sleeps").status_and_text(), (200, "fine"));
}

#[test]
fn more_requests_at_a_time_than_allowed_are_refused() {
    let daemon = Daemon::start(&Tree::new().with("sleeps"));
    let mut frames = Frames::open(&daemon);
    let all: Vec<u8> = (0..110).flat_map(|nth| get(2 * nth + 1, "/sleeps/sleep/2000")).collect();
    frames.0.write_all(&all).unwrap();
    let refused = std::iter::from_fn(|| frames.next()).find(|(kind, ..)| *kind == RST_STREAM);
    let (_, stream, reason) = refused.unwrap();
    // REFUSED_STREAM: the client may send it again.
    assert_eq!((stream, reason[3]), (201, 7));
}

#[test]
fn a_header_without_end_is_refused() {
    let daemon = Daemon::start(&Tree::new().with("greeter_02"));
    let long = format!("x-long: {}", "x".repeat(100_000));
    let url = format!("http://{}/greeter-02", daemon.address());
    let answer = curl(&["-o", "/dev/null", "-w", "%{http_code}", "-H", &long, &url]);
    assert!(!answer.contains("200"), "{answer}");
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}

#[test]
fn grpc_calls_a_plugin() {
    let tree = Tree::new().with_manifest("grpc", "[[serve]]\nroute = \"/plugind.Echo\"\n");
    let daemon = Daemon::start(&tree);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/daemon/grpc_client.py");
    // Debian's own, which has Debian's library.
    let mut python = tool("/usr/bin/python3");
    let output = run(python.arg(script).arg(daemon.address().to_string()).stdin(Stdio::null()));
    assert_eq!(output, "all calls answered\n");
}
