//! A machine for a test: systemd, booted in a container in which plugind is installed.
#![expect(
    clippy::print_stderr,
    reason = "the journal belongs to the output of the test that failed"
)]

use crate::{Connection, Entry, Log, built, client::Response, eventually, pause_after, wait_max};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    env, fs,
    net::{SocketAddr, TcpStream},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// The directory whose system is booted, instead of the host's own.
const ROOT: &str = "PLUGIND_TEST_ROOT";
/// Where `plugind-http.socket` listens.
const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
/// Where plugins are put.
const PLUGINS: &str = "etc/plugind/plugins";
/// Interval at which a machine that is being booted is looked at, which may have ended.
const INTERVAL: Duration = Duration::from_millis(50);

/// A booted machine. Dropping it throws it away, with everything that was written to it.
pub struct Machine {
    name: String,
    /// It lives as long as this one's standard input is open.
    script: Child,
    console: Log,
    /// Its first process, as it is known here.
    leader: String,
    network: fs::File,
}

/// The result of a program that was run.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

impl Machine {
    /// Boots a machine, with plugind installed and nothing of it started.
    ///
    /// # Panics
    /// When it does not come up, or cannot do so here; then it says why.
    #[must_use]
    pub fn boot() -> Self {
        Self::boot_where(&[("INSTALLED", built::installed())])
    }

    /// Boots a machine without plugind.
    ///
    /// # Panics
    /// As [`boot`](Self::boot).
    #[must_use]
    pub fn boot_without() -> Self {
        Self::boot_where(&[])
    }

    /// Runs a command in a container without systemd and with a read-only root. The plugins in the directory are part of
    /// its image, and so are their compiled files if it `is_compiled`.
    ///
    /// # Panics
    /// As [`boot`](Self::boot).
    #[must_use]
    pub fn run_container(command: &str, plugins: &Path, is_compiled: bool) -> Self {
        let plugins = plugins.to_str().expect("the directory of a test has an ordinary name");
        Self::boot_where(&[
            ("INSTALLED", built::installed()),
            ("COMMAND", command),
            ("PLUGINS", plugins),
            ("COMPILE", if is_compiled { "yes" } else { "no" }),
        ])
    }

    /// Boots a machine; these variables say how.
    fn boot_where(variables: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        // In the abstract namespace, since the mounts are others there.
        let notify = format!("plugind-test-{name}");
        let address = UnixAddr::from_abstract_name(&notify).expect("the name is short");
        let notified = UnixDatagram::bind_addr(&address).expect("the name is not taken");
        notified.set_read_timeout(Some(INTERVAL)).expect("the time is not zero");

        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("boot-systemd");
        let root = env::var_os(ROOT).unwrap_or_else(|| "/".into());
        let mut script = Command::new("bash")
            .args(["-c", "exec \"$0\" \"$@\" 2>&1"])
            .arg(script)
            .args(["boot", &name])
            .arg(root)
            .env("NOTIFY_SOCKET", format!("@{notify}"))
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash is there");
        let console = Log::read(script.stdout.take().expect("it is piped"));

        let deadline = Instant::now() + wait_max();
        let mut heard = [0; 4096];
        loop {
            if let Ok(length) = notified.recv(&mut heard)
                && heard[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
            {
                break;
            }
            let ended = script.try_wait().expect("it is a child of this process").is_some();
            assert!(
                !ended && Instant::now() < deadline,
                "no machine could be booted:\n{}",
                console.all().join("\n")
            );
        }
        let leader = leader(&name);
        let network = fs::File::open(format!("/proc/{leader}/ns/net")).expect("it was booted");
        Self { name, script, console, leader, network }
    }

    /// Boots a machine with these guests among its plugins, under their own names, in which `_` becomes `-`.
    #[must_use]
    pub fn boot_with(guests: &[&str]) -> Self {
        let machine = Self::boot();
        for guest in guests {
            machine.put_guest(&guest.replace('_', "-"), guest);
        }
        machine
    }

    /// Its name, which its cgroup has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process that keeps it.
    #[must_use]
    pub fn supervisor(&self) -> u32 {
        self.script.id()
    }

    /// Runs a program in it, as root.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn run(&self, command: &[&str]) -> Ran {
        self.run_by(Command::new("nsenter"), command)
    }

    /// The same for a command that the machine may stop or forget, as in a soft-reboot: it is ended after `seconds`.
    ///
    /// nsenter stops itself when its command is stopped, so the limit applies to nsenter.
    ///
    /// # Panics
    /// When the command cannot be started.
    #[must_use]
    pub fn run_within(&self, seconds: u32, command: &[&str]) -> Ran {
        let mut limit = Command::new("timeout");
        limit.args(["--kill-after=5", &seconds.to_string(), "nsenter"]);
        self.run_by(limit, command)
    }

    fn run_by(&self, mut nsenter: Command, command: &[&str]) -> Ran {
        let ran = nsenter
            .args(["--target", &self.leader, "--all", "--wdns=/", "--", "env", "-i"])
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "TERM=dumb"])
            .args(["SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0"])
            .args(command)
            .stdin(Stdio::null())
            .output()
            .expect("nsenter is there");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran {
            status: ran.status.code().unwrap_or(-1),
            output: text(ran.stdout),
            errors: text(ran.stderr),
        }
    }

    /// Runs a program in it that must succeed, and returns its output.
    ///
    /// # Panics
    /// When it fails.
    pub fn succeed(&self, command: &[&str]) -> String {
        let ran = self.run(command);
        assert_eq!(ran.status, 0, "{command:?}: {ran:?}");
        ran.output
    }

    /// Runs `systemctl`, which may fail.
    #[must_use]
    pub fn systemctl(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["systemctl"], arguments].concat())
    }

    /// Starts the sockets of HTTP and of control, and the daemon.
    ///
    /// # Panics
    /// When one of them does not start.
    pub fn start(&self) {
        self.succeed(&["systemctl", "start", "plugind.service"]);
    }

    /// Sends a signal to the main process of a unit.
    ///
    /// # Panics
    /// When there is none.
    pub fn signal(&self, unit: &str, signal: &str) {
        self.succeed(&["systemctl", "kill", "--kill-whom=main", "--signal", signal, unit]);
    }

    /// A property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.succeed(&["systemctl", "show", "--property", name, "--value", unit])
            .trim_end()
            .to_owned()
    }

    /// A property of the daemon's unit.
    #[must_use]
    pub fn daemon(&self, name: &str) -> String {
        self.property("plugind.service", name)
    }

    /// Waits until a property of the daemon's unit is as `wanted`, and returns it.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn wait_for(&self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + wait_max();
        loop {
            let begin = Instant::now();
            let now = self.daemon(name);
            if wanted(&now) {
                return now;
            }
            assert!(Instant::now() < deadline, "{name} stays {now:?}");
            pause_after(begin.elapsed());
        }
    }

    /// The entries of the journal that these arguments of `journalctl` select.
    #[must_use]
    pub fn journal(&self, arguments: &[&str]) -> Vec<Entry> {
        // Entries that were sent have to have arrived.
        self.succeed(&["journalctl", "--sync"]);
        let command = ["journalctl", "--output=json", "--all", "--quiet", "--no-pager"];
        let reported = self.succeed(&[&command, arguments].concat());
        reported.lines().map(Entry::parse).collect()
    }

    /// Waits for an entry that these arguments of `journalctl` select, and returns the first.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for_entry(&self, arguments: &[&str]) -> Entry {
        eventually(&format!("an entry of the journal: {arguments:?}"), || {
            self.journal(arguments).into_iter().next()
        })
    }

    /// A path of the machine, as it is seen from here.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(&self.leader).join("root").join(path.trim_start_matches('/'))
    }

    /// Puts a file somewhere at once, as a deployment should: written beside and renamed.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(path);
        let directory = path.parent().expect("a file lies in a directory");
        fs::create_dir_all(directory).expect("root may write there");
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let draft = directory.join(format!(".{name}.new"));
        fs::write(&draft, contents).expect("root may write there");
        fs::rename(draft, path).expect("root may write there");
    }

    /// Puts a guest in the place of the component `name`.
    ///
    /// # Panics
    /// When it was not built.
    pub fn put_guest(&self, name: &str, guest: &str) {
        self.put_component(
            name,
            fs::read(built::guest(guest)).expect("what was built is readable"),
        );
    }

    /// Puts something in the place of the component `name`.
    pub fn put_component(&self, name: &str, component: impl AsRef<[u8]>) {
        self.put(&format!("{PLUGINS}/{name}.wasm"), component);
    }

    /// Puts a manifest beside the component `name`.
    pub fn put_manifest(&self, name: &str, manifest: &str) {
        self.put(&format!("{PLUGINS}/{name}.toml"), manifest);
    }

    /// Puts a drop-in beside a unit, and has systemd read it.
    pub fn put_drop_in(&self, unit: &str, contents: &str) {
        self.put(&format!("etc/systemd/system/{unit}.d/test.conf"), contents);
        self.reload_units();
    }

    /// Has systemd read its units again.
    pub fn reload_units(&self) {
        self.succeed(&["systemctl", "daemon-reload"]);
    }

    /// Does something in a thread that is in the machine's network; what is opened there stays there.
    ///
    /// # Panics
    /// When that panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worked = scope.spawn(|| {
                self.enter();
                work()
            });
            worked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A program of this system, with its files, among the processes and in the network of the machine. It ends with the
    /// machine.
    #[must_use]
    pub fn beside(&self, program: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader, "--net", "--pid", "--"]).arg(program.get_program());
        for (name, value) in program.get_envs() {
            value.map(|value| command.env(name, value));
        }
        command.args(program.get_args()).stdin(Stdio::null());
        command
    }

    /// Moves this thread into the machine's network.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter");
    }

    /// A connection to the socket of HTTP.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn connect(&self) -> Connection {
        self.within(|| Connection::to(HTTP))
    }

    /// Its answer to a GET request, on a connection of its own.
    #[must_use]
    pub fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }
}

/// Connects to the socket of HTTP of the machine whose network this thread is in.
pub(crate) fn connect_here() -> std::io::Result<TcpStream> {
    TcpStream::connect(HTTP)
}

/// The first process of a machine, as it is known here.
fn leader(name: &str) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("Linux says what is mounted");
    let unified = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == "cgroup2").then_some(place)
    });
    let unified = Path::new(unified.expect("the machine would not have been booted without"));
    // The scope that systemd makes for itself, in which others are for a moment. Without systemd there is none.
    let payload = unified.join(format!("plugind-test-{name}/payload"));
    let processes = fs::read_to_string(payload.join("init.scope/cgroup.procs"))
        .or_else(|_| fs::read_to_string(payload.join("cgroup.procs")));
    let processes = processes.expect("systemd-nspawn made it");
    let is_first = |process: &&str| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let mut numbers = status.lines().filter(|line| line.starts_with("NSpid:"));
        numbers.next().is_some_and(|numbers| numbers.ends_with("\t1"))
    };
    processes.lines().find(is_first).expect("it was booted").to_owned()
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the end of the machine's journal:");
            let reported =
                self.run(&["journalctl", "--no-pager", "--output=short-precise", "--lines=150"]);
            eprintln!("{}", reported.output);
            let reported =
                self.systemctl(&["status", "--no-pager", "--full", "--lines=0", "plugind*"]);
            eprintln!("{}", reported.output);
            for line in self.console.all() {
                eprintln!("console: {line}");
            }
        }
        drop(self.script.stdin.take());
        self.script.wait().ok();
    }
}
