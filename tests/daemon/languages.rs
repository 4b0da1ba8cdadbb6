//! Plugins in languages other than Rust serve sockets, built by their present toolchains.

use crate::websockets;
use plugind_tests::{Daemon, Tree, WAIT_MAX, tools};
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};
use wit_bindgen_core::{AsyncFilterSet, Files, wit_parser::Resolve};
use wit_component::ComponentEncoder;

/// Where the sources of these guests are.
fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(language)
}

fn run(command: &mut Command) {
    let ran = command.output();
    let ran = ran.unwrap_or_else(|error| panic!("{command:?}: {error}; tests/setup installs it"));
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// The world of these guests, with `wit/`.
fn world(resolve: &mut Resolve) -> wit_bindgen_core::wit_parser::WorldId {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    resolve.push_dir(wit).unwrap();
    let package = resolve.push_path(sources("echo.wit")).unwrap().0;
    resolve.select_world(&[package], Some("echo")).unwrap()
}

/// A component in C, whose functions are not async.
fn in_c() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (mut resolve, mut files) = (Resolve::default(), Files::default());
    let world = world(&mut resolve);
    let mut sync = AsyncFilterSet::default();
    sync.push("all");
    let options = wit_bindgen_c::Opts { async_: sync, ..Default::default() };
    options.build().generate(&mut resolve, world, &mut files).unwrap();
    for (name, contents) in files.iter() {
        fs::write(directory.path().join(name), contents).unwrap();
    }
    let made = |name: &str| directory.path().join(name);
    let core = made("core.wasm");
    let flags = ["-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-Os"];
    run(Command::new(tools("python"))
        .args(flags)
        .arg("-I")
        .arg(directory.path())
        .arg(sources("c/echo.c"))
        .args([made("echo.c"), made("echo_component_type.o")])
        .arg("-o")
        .arg(&core));
    let core = fs::read(core).unwrap();
    ComponentEncoder::default().validate(true).module(&core).unwrap().encode().unwrap()
}

/// A component in Python, whose functions are async.
fn in_python() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    // It reads one directory, with the packages that the world needs below `deps`.
    let (wit, deps) = (directory.path().join("wit"), directory.path().join("wit/deps/plugind"));
    fs::create_dir_all(&deps).unwrap();
    fs::copy(sources("echo.wit"), wit.join("echo.wit")).unwrap();
    for name in ["types.wit", "connections.wit", "datagram-handler.wit", "websockets.wit"] {
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit").join(name);
        let text = fs::read_to_string(text).unwrap();
        fs::write(deps.join(name), format!("package plugind:plugin@0.1.0;\n{text}")).unwrap();
    }
    let made = directory.path().join("echo.wasm");
    run(Command::new(tools("componentize-py"))
        .current_dir(sources("python"))
        .arg("-d")
        .arg(wit)
        .args(["-w", "echo", "componentize", "echo", "-o"])
        .arg(&made));
    fs::read(made).unwrap()
}

fn serves_sockets(component: &[u8], manifest: &str) {
    let tree = Tree::new();
    tree.put("echo.wasm", component);
    let serve = "[[serve]]\nsocket = \"echo\"\n[[serve]]\nroute = \"/echo\"\n";
    tree.put("echo.toml", format!("{serve}{manifest}"));
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (over_tcp, over_udp) = (format!("echo={tcp}"), format!("echo=udp:{udp}"));
    let daemon = Daemon::start_with(&tree, &["--listen", &over_tcp, "--listen", &over_udp]);
    // Side by side, whether they have an instance together or each its own.
    let mut streams: Vec<_> = (0..3).map(|_| TcpStream::connect(tcp).unwrap()).collect();
    for stream in &mut streams {
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }
    for stream in &mut streams {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "bye");
    }
    let mut stream = TcpStream::connect(tcp).unwrap();
    stream.write_all(b"fail\n").unwrap();
    assert!(stream.read(&mut [0]).is_err(), "it is reset");
    daemon.log.wait_for(&["connection failed", "asked to fail"]);
    for word in ["one", "two"] {
        let mut client = websockets::open(&daemon, "/echo");
        assert_eq!(websockets::echo(&mut client, word), word);
        client.close(None).unwrap();
        while client.read().is_ok() {}
    }
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.set_read_timeout(Some(WAIT_MAX)).unwrap();
    client.send_to(b"datagram", udp).unwrap();
    let mut answer = [0; 64];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"datagram");
}

#[test]
fn a_component_in_c_without_async_functions_serves_sockets() {
    serves_sockets(&in_c(), "");
}

#[test]
fn a_component_in_python_serves_sockets() {
    let memory = "[limits]\nmemory-max = \"1G\"\ninstance-memory-max = \"256M\"\n";
    serves_sockets(&in_python(), memory);
}
