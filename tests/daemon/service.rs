//! The compiler as a service behind a socket: the daemon asks for compiled files, or reads them, and has no others.

use plugind_tests::{Daemon, Tree, another, eventually, program};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use std::{
    fs::{self, File, FileTimes, Permissions},
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// The part of systemd for `Accept=yes`: a program for each connection.
struct Service {
    directory: TempDir,
    children: Arc<Mutex<Vec<Child>>>,
}

impl Service {
    fn start(program: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let socket = socket.unwrap();
        bind(&socket, &SocketAddrUnix::new(directory.path().join("socket")).unwrap()).unwrap();
        listen(&socket, 8).unwrap();
        let service = Self { directory, children: Arc::default() };
        let (children, cache) = (service.children.clone(), service.cache());
        // The thread ends with the test.
        thread::spawn(move || {
            while let Ok(connection) = accept_with(&socket, SocketFlags::CLOEXEC) {
                let mut command = Command::new(&program);
                command.arg("--cache").arg(&cache).stdin(connection).stderr(Stdio::null());
                children.lock().unwrap().push(command.spawn().unwrap());
            }
        });
        service
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn option(&self) -> String {
        format!("--compiler=unix:{}/socket", self.directory.path().display())
    }

    /// The option by which the daemon reads the cache.
    fn cache_option(&self) -> String {
        format!("--compiler-cache={}", self.cache().display())
    }

    /// Returns the number of connections so far.
    fn connections(&self) -> usize {
        self.children.lock().unwrap().len()
    }

    /// Ends every program, as one ends that has waited for long.
    fn end(&self) {
        for child in &mut *self.children.lock().unwrap() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    all.collect()
}

fn start(tree: &Tree, service: &Service) -> Daemon {
    Daemon::start_with(tree, &[&service.option()])
}

#[test]
fn the_compiler_service_gets_few_connections_and_the_daemon_stores_no_compiled_file() {
    let tree = Tree::with_own_cache();
    let service = Service::start(program("plugind-compile"));
    let names: Vec<_> = (0..12).map(|number| format!("hello-{number}")).collect();
    for name in &names {
        tree.put(&format!("{name}.wasm"), another("hello"));
    }
    for _ in 0..2 {
        let daemon = start(&tree, &service);
        for name in &names {
            assert_eq!(daemon.get(&format!("/{name}")).status(), 200);
        }
    }
    let cores = thread::available_parallelism().unwrap().get();
    // Those that look up the cache have connections beside those that wait for the compiler; and there are two daemons.
    assert!(service.connections() <= 2 * 2 * cores, "{} connections", service.connections());
    assert_eq!(entries(&service.cache()).len(), names.len());
    assert_eq!(entries(&tree.cache()).len(), 0);
}

#[test]
fn a_service_that_has_ended_is_started_again_by_the_next_request() {
    let tree = Tree::with_own_cache().with("hello");
    let service = Service::start(program("plugind-compile"));
    let daemon = start(&tree, &service);
    for name in ["one", "two"] {
        service.end();
        tree.put(&format!("{name}.wasm"), another("hello"));
        assert!(daemon.reload().contains("changed=1 failed=0"), "{name}");
        assert_eq!(daemon.get(&format!("/{name}")).status(), 200);
    }
}

#[test]
fn a_service_that_cannot_keep_compiled_code_hands_it_over_until_it_can() {
    let tree = Tree::with_own_cache().with("hello");
    let service = Service::start(program("plugind-compile"));
    fs::write(service.cache(), "a file in its place").unwrap();
    let daemon = start(&tree, &service);
    assert_eq!(daemon.get("/hello").status(), 200);
    daemon.log.wait_for(&["warning plugind: compiled code not kept", "File exists"]);
    fs::remove_file(service.cache()).unwrap();
    tree.put("second.wasm", another("hello"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(daemon.get("/second").status(), 200);
    daemon.log.wait_for(&["info    plugind: compiled code kept again"]);
    assert_eq!(entries(&service.cache()).len(), 1);
}

#[test]
fn an_untrusted_compiled_file_is_compiled_again_by_the_service() {
    let tree = Tree::with_own_cache().with("hello");
    let service = Service::start(program("plugind-compile"));
    drop(start(&tree, &service));
    let [entry] = &entries(&service.cache())[..] else { panic!("there is not one entry") };
    let good = fs::read(entry).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let (asked, read) = (vec![service.option()], vec![service.option(), service.cache_option()]);
    for options in [asked, read] {
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        for (contents, mode) in
            [(&flipped[..], 0o444), (b"", 0o444), (&good[..100], 0o444), (&good, 0o644)]
        {
            fs::remove_file(entry).unwrap();
            fs::write(entry, contents).unwrap();
            fs::set_permissions(entry, Permissions::from_mode(mode)).unwrap();
            let daemon = Daemon::start_with(&tree, &options);
            daemon.log.wait_for(&["warning plugind: compiled file rejected, compiling again"]);
            assert_eq!(daemon.get("/hello").status(), 200);
            assert!(fs::read(entry).unwrap() == good);
        }
    }
}

#[test]
fn a_warm_start_and_a_reload_ask_nothing_of_a_service_whose_cache_can_be_read() {
    let tree = Tree::with_own_cache().with("hello").with("greeter_02");
    let service = Service::start(program("plugind-compile"));
    let start = || {
        let daemon = Daemon::start_with(&tree, &[&service.option(), &service.cache_option()]);
        assert_eq!(daemon.get("/hello").status(), 200);
        assert_eq!(daemon.get("/greeter-02").status(), 200);
        daemon
    };
    drop(start());
    let asked = service.connections();
    assert!(asked > 0);
    for _ in 0..2 {
        let daemon = start();
        assert!(daemon.reload().contains("changed=0 failed=0 removed=0 unchanged=2"));
    }
    assert_eq!(service.connections(), asked);
    // What is not there is compiled as before.
    tree.put("hello.wasm", another("hello"));
    drop(start());
    assert!(service.connections() > asked);
}

#[test]
fn the_service_is_asked_for_old_files_and_those_that_others_could_have_made() {
    let tree = Tree::with_own_cache().with("hello");
    let service = Service::start(program("plugind-compile"));
    let start = || {
        let daemon = Daemon::start_with(&tree, &[&service.option(), &service.cache_option()]);
        assert_eq!(daemon.get("/hello").status(), 200);
        assert_eq!(daemon.log.count(&["compiled file rejected"]), 0);
    };
    start();
    let [entry] = &entries(&service.cache())[..] else { panic!("there is not one entry") };
    let asks = |expected: bool, what: &str| {
        let asked = service.connections();
        start();
        assert_eq!(service.connections() > asked, expected, "{what}");
    };
    asks(false, "the file is as it was made");
    let set_mode = |mode| fs::set_permissions(service.cache(), Permissions::from_mode(mode));
    set_mode(0o777).unwrap();
    asks(true, "everybody may write to the directory");
    set_mode(0o755).unwrap();
    chown(entry, Some(65534), None).unwrap();
    asks(true, "the file is of another user");
    chown(entry, Some(rustix::process::geteuid().as_raw()), None).unwrap();
    asks(false, "all is as it was");

    let then = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
    let times = FileTimes::new().set_modified(then).set_accessed(then);
    File::open(entry).unwrap().set_times(times).unwrap();
    asks(true, "the file was not used for long");
    asks(false, "the service has used the file");
}

#[test]
fn a_compilation_that_takes_too_long_is_ended_with_its_worker() {
    let tree = Tree::with_own_cache().with_manifest("hello", "required = false\n");
    tree.put("hello.wasm", laborious());
    // By its limit the worker is known among those of others.
    for (number, service) in [(1, None), (2, Some(Service::start(program("plugind-compile"))))] {
        let limit = format!("{}", (4_u64 << 30) + u64::from(std::process::id()) * 4 + number);
        let option = service.as_ref().map(Service::option);
        let mut arguments = vec!["--compile-timeout=1", "--compile-memory-max", &limit];
        arguments.extend(option.as_deref());
        let daemon = Daemon::start_with(&tree, &arguments);
        // Its processor time is used up, or on a busy machine five times as much on the clock.
        let why = "raise compile.timeout-sec in plugind.toml";
        daemon.log.wait_for(&["plugin failed", "plugin=hello", "stage=compile", why]);
        eventually("the worker's end", || (!works(&limit)).then_some(()));
    }
}

#[test]
fn a_compilation_ends_with_the_daemon_that_requested_it() {
    let tree = Tree::with_own_cache();
    tree.put("hello.wasm", laborious());
    for (number, service) in [(1, None), (2, Some(Service::start(program("plugind-compile"))))] {
        let limit = format!("{}", (8_u64 << 30) + u64::from(std::process::id()) * 4 + number);
        let option = service.as_ref().map(Service::option);
        let mut arguments = vec!["--compile-memory-max", &limit];
        arguments.extend(option.as_deref());
        let daemon = Daemon::begin(&tree, &arguments);
        eventually("the worker", || works(&limit).then_some(()));
        drop(daemon); // It is killed.
        eventually("the worker's end", || (!works(&limit)).then_some(()));
    }
}

#[test]
fn a_daemon_that_stops_does_not_wait_for_the_compiler_service() {
    let tree = Tree::with_own_cache();
    tree.put("hello.wasm", laborious());
    let service = Service::start(program("plugind-compile"));
    let mut daemon = Daemon::begin(&tree, &[&service.option()]);
    eventually("a connection", || (service.connections() > 0).then_some(()));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_service_that_is_not_there_is_named_with_a_remedy() {
    let tree = Tree::with_own_cache().with_manifest("hello", "required = false\n");
    let daemon = Daemon::start_with(&tree, &["--compiler=unix:/nowhere/socket"]);
    let failed = daemon.log.wait_for(&["plugin failed", "plugin=hello", "stage=compile"]);
    for part in ["/nowhere/socket", "plugind-compile.socket", "No such file"] {
        assert!(failed.contains(part), "{failed}");
    }
}

#[test]
fn a_socket_that_nobody_answers_costs_the_time_that_compiling_may_take() {
    let tree = Tree::with_own_cache().with_manifest("hello", "required = false\n");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket: OwnedFd =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&socket, 0).unwrap();
    let option = format!("--compiler=unix:{}", path.display());
    let daemon = Daemon::start_with(&tree, &[&option, "--compile-timeout=1"]);
    let why = "the compiler gave no answer within 1s";
    daemon.log.wait_for(&["plugin failed", "plugin=hello", "stage=compile", why]);
}

/// Whether a worker with this limit of memory is there.
fn works(limit: &str) -> bool {
    let argument = format!("--memory-max={limit}");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
}

/// The component of `hello` with one more core module, which nothing uses and which takes minutes to compile.
fn laborious() -> Vec<u8> {
    // Few and long: at most these are compiled side by side, and a long one takes more than its share of the time.
    const FUNCTIONS: usize = 4;
    let section = |id: u8, contents: &[u8]| [&[id][..], &leb(contents.len()), contents].concat();
    // local 0 = local 0 * 7 + local 1, again and again.
    let step = b"\x20\x00\x41\x07\x6c\x20\x01\x6a\x21\x00";
    let body = [&b"\x01\x02\x7f"[..], &step.repeat(500_000), b"\x0b"].concat();
    let body = [leb(body.len()), body].concat();
    let types = section(1, b"\x01\x60\x00\x00");
    let functions = section(3, &[leb(FUNCTIONS), vec![0; FUNCTIONS]].concat());
    let code = section(10, &[leb(FUNCTIONS), body.repeat(FUNCTIONS)].concat());
    let module = [&b"\0asm\x01\0\0\0"[..], &types, &functions, &code].concat();
    [another("hello"), section(1, &module)].concat()
}

/// A number as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
