//! The program `plugind` with one plugin.

use crate::{
    Log, Response, clock,
    programs::{client, pluginctl, plugind},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tempfile::TempDir;

/// The longest time until the plugin is ready.
const READY_MAX: Duration = Duration::from_secs(300);
/// The longest time until the plugin is in a state that a test waits for.
const STATE_MAX: Duration = Duration::from_secs(60);
/// The directory in which the host finds its settings.
const SETTINGS: &str = "root/etc/plugind";
/// The directory in which the host finds its credentials.
const CREDENTIALS: &str = "root/run/credentials/plugind.service";
/// Interval at which it is checked whether the program has ended, and for the state of the plugin.
const LOOK: Duration = Duration::from_millis(100);

/// The parameters of a [`Host`].
pub struct HostBuilder {
    name: String,
    files: TempDir,
    listen: Vec<String>,
    http: SocketAddr,
    movable_clock: bool,
}

/// A host that runs, with one plugin that is ready. Dropping it ends it.
pub struct Host {
    child: Child,
    name: String,
    files: TempDir,
    http: SocketAddr,
    log: Log,
}

impl Host {
    /// Prepares a host for a plugin with this name and this component.
    ///
    /// # Panics
    /// When the component cannot be read.
    #[track_caller]
    #[must_use]
    pub fn with(name: &str, component: impl AsRef<Path>) -> HostBuilder {
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        for directory in ["plugins", SETTINGS, CREDENTIALS, "root/var/cache"] {
            fs::create_dir_all(files.path().join(directory)).expect("the directory is empty");
        }
        put_component(files.path(), name, component.as_ref());
        let http = free(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), TcpListener::local_addr);
        let (name, listen) = (name.to_owned(), Vec::new());
        HostBuilder { name, files, listen, http, movable_clock: false }
    }

    /// The response to a GET request for a path below the plugin's default route, `/NAME`.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// The response to a request for a path below the plugin's default route, `/NAME`.
    #[track_caller]
    #[must_use]
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        Response::to(self.http, method, &format!("/{}{path}", self.name), headers, body)
    }

    /// The address of HTTP, for other clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.http
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits for a line of the log that contains `text`, for at most a minute, and returns it.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    /// The state of the plugin, as `pluginctl status --json` prints it: for example `["plugin"]["activeState"]`.
    ///
    /// # Panics
    /// When the host does not answer.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> Value {
        let control = self.files.path().join("control");
        let status = Command::new(client())
            .args(["status", "--json", "--socket"])
            .arg(control)
            .arg(&self.name)
            .output()
            .unwrap_or_else(|error| {
                panic!("cannot run pluginctl: {error}; install it, or set PLUGINCTL")
            });
        // The exit status is that of the plugin.
        serde_json::from_slice(&status.stdout).unwrap_or_else(|_| {
            panic!("the host does not answer: {}", String::from_utf8_lossy(&status.stderr))
        })
    }

    /// Advances the clocks that the plugin sees: the monotonic clock and the time of day. Timers that become due by
    /// this fire. Timers that begin later are not affected: wait for a sign of the plugin that its timer has begun.
    /// The time limits of the host, such as `request-timeout`, are those of the real time.
    ///
    /// # Panics
    /// Without [`HostBuilder::movable_clock`], and when the clocks would be advanced by more than 100 years in all.
    #[track_caller]
    pub fn advance_clock(&self, time: Duration) {
        clock::move_clock(&self.files.path().join("control"), time, None);
    }

    /// Sets the time of day that the plugin sees. It continues from there. Timers do not depend on it.
    ///
    /// # Panics
    /// Without [`HostBuilder::movable_clock`], and for times before 1970 or after 9999.
    #[track_caller]
    pub fn set_time(&self, time: SystemTime) {
        clock::move_clock(&self.files.path().join("control"), Duration::ZERO, Some(time));
    }

    /// Waits until the plugin is in this state, and returns its [status](Self::status). The state is a word of
    /// `["plugin"]["activeState"]`, such as `active` or `failed`, or the more exact one of `["plugin"]["subState"]`, such
    /// as `running`, `degraded` or `stopped`; pluginctl(1) has all of them.
    ///
    /// # Panics
    /// When the plugin is not in this state within a minute.
    #[track_caller]
    pub fn wait_for_state(&self, state: &str) -> Value {
        let deadline = Instant::now() + STATE_MAX;
        loop {
            let status = self.status();
            let plugin = &status["plugin"];
            if ["activeState", "subState"].iter().any(|key| plugin[key] == state) {
                return status;
            }
            assert!(Instant::now() < deadline, "the plugin is not {state}: {plugin}");
            thread::sleep(LOOK);
        }
    }

    /// Replaces all instances by new ones of the same version. The state of a plugin with a handover passes to them, and
    /// the function `stop` of the previous ones gets the reason `reload`.
    #[track_caller]
    pub fn restart(&self) {
        self.control(&["restart", &self.name]);
    }

    /// Stops the plugin, while the host continues to run. Its function `stop` gets the reason `stop`.
    #[track_caller]
    pub fn stop_plugin(&self) {
        self.control(&["stop", &self.name]);
    }

    /// Starts the plugin after [`Host::stop_plugin`], and waits until it is ready.
    #[track_caller]
    pub fn start_plugin(&self) {
        self.control(&["start", &self.name]);
    }

    /// Replaces the component, and waits until the new version has taken over and the previous one has finished its
    /// requests. The state of a plugin with a handover passes to it.
    #[track_caller]
    pub fn replace_component(&self, component: impl AsRef<Path>) {
        put_component(self.files.path(), &self.name, component.as_ref());
        self.control(&["reload"]);
    }

    /// Replaces the manifest, and waits until the new version has taken over and the previous one has finished its
    /// requests.
    #[track_caller]
    pub fn replace_manifest(&self, manifest: &str) {
        put_manifest(self.files.path(), &self.name, manifest);
        self.control(&["reload"]);
    }

    /// Ends the host, which stops the plugin, and returns its exit status and the whole log. The function `stop` of the
    /// plugin gets the reason `shutdown`.
    ///
    /// # Panics
    /// When it cannot be waited for.
    #[must_use]
    pub fn stop(mut self) -> (ExitStatus, Log) {
        (end(&mut self.child), self.log.clone())
    }

    #[track_caller]
    fn control(&self, arguments: &[&str]) {
        let control = self.files.path().join("control");
        pluginctl(|command| command.args(arguments).arg("--socket").arg(&control));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            end(&mut self.child);
        }
    }
}

impl HostBuilder {
    /// Gives the plugin this manifest, the text of `NAME.toml`, with its `[config]` and `[grants]`.
    #[must_use]
    pub fn manifest(self, manifest: &str) -> Self {
        put_manifest(self.files.path(), &self.name, manifest);
        self
    }

    /// Gives the host these settings, the text of `plugind.toml`, for example with the server of `[messaging]` or
    /// `[keyvalue]`.
    ///
    /// # Panics
    /// When they cannot be written.
    #[track_caller]
    #[must_use]
    pub fn settings(self, settings: &str) -> Self {
        let path = self.files.path().join(SETTINGS).join("plugind.toml");
        fs::write(path, settings).expect("the directory is there");
        self
    }

    /// Passes a credential. For the plugin, `name` is that of `credentials` below `[grants]` in its manifest. For the
    /// host, it is the name in its [settings](Self::settings).
    ///
    /// # Panics
    /// When the name is not that of a file.
    #[track_caller]
    #[must_use]
    pub fn credential(self, name: &str, value: &str) -> Self {
        for file in [format!("plugind.{}.{name}", self.name), name.to_owned()] {
            let path = self.files.path().join(CREDENTIALS).join(file);
            fs::write(path, value).expect("the name is that of a file");
        }
        self
    }

    /// Gives the plugin clocks that the test can move: [`Host::advance_clock`], [`Host::set_time`].
    #[must_use]
    pub fn movable_clock(mut self) -> Self {
        self.movable_clock = true;
        self
    }

    /// Opens a TCP socket with this name, which the plugin serves, and returns its address.
    #[must_use]
    pub fn tcp(mut self, socket: &str) -> (Self, SocketAddr) {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let address = free(bound, TcpListener::local_addr);
        self.listen.push(format!("{socket}={address}"));
        (self, address)
    }

    /// Opens a UDP socket with this name, which the plugin serves, and returns its address.
    #[must_use]
    pub fn udp(mut self, socket: &str) -> (Self, SocketAddr) {
        let address = free(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)), UdpSocket::local_addr);
        self.listen.push(format!("{socket}=udp:{address}"));
        (self, address)
    }

    /// Starts the host, and waits until the plugin is ready. If its manifest has `required = false`, the host does not
    /// wait for it: call [`Host::wait_for_state`] with `active` then.
    ///
    /// # Panics
    /// When it does not become ready within 5 minutes; the message has the log.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Host {
        let Self { name, files, listen, http, movable_clock } = self;
        let notify = files.path().join("notify");
        let notified = UnixDatagram::bind(&notify).expect("the directory is empty");
        notified.set_read_timeout(Some(LOOK)).expect("the time is not zero");
        let mut command = Command::new(plugind());
        command
            .args([Path::new("--root"), &files.path().join("root")])
            .args([Path::new("--plugins"), &files.path().join("plugins")])
            .args(["--log", "debug", "--listen", &format!("http={http}")])
            .arg("--listen")
            .arg(format!("control={}", files.path().join("control").display()))
            .args(listen.iter().flat_map(|socket| ["--listen", socket]))
            .args(movable_clock.then_some("--movable-clock"))
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for of_a_service in
            ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "JOURNAL_STREAM", "WATCHDOG_USEC"]
        {
            command.env_remove(of_a_service);
        }
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run plugind: {error}; install it, or set PLUGIND")
        });
        let log = Log::read(child.stderr.take().expect("it is piped"));
        let mut host = Host { child, name, files, http, log };
        host.wait_until_ready(&notified);
        host
    }
}

impl Host {
    #[track_caller]
    fn wait_until_ready(&mut self, notified: &UnixDatagram) {
        let deadline = Instant::now() + READY_MAX;
        let mut notice = [0; 4096];
        loop {
            let length = notified.recv(&mut notice).unwrap_or_default();
            if notice[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return;
            }
            let ended = self.child.try_wait().expect("it is a child of this process").is_some();
            assert!(
                !ended && Instant::now() < deadline,
                "the plugin {} did not become ready:\n{}",
                self.name,
                self.log.lines().join("\n")
            );
        }
    }
}

/// The address of a socket, whose port stays free after this: Linux does not reuse it at once.
fn free<T>(
    bound: std::io::Result<T>,
    address: impl Fn(&T) -> std::io::Result<SocketAddr>,
) -> SocketAddr {
    bound.and_then(|socket| address(&socket)).expect("the system has a free port")
}

/// Replaces a component atomically, as a deployment must.
#[track_caller]
fn put_component(files: &Path, name: &str, component: &Path) {
    let draft = files.join("draft.wasm");
    fs::copy(component, &draft)
        .unwrap_or_else(|error| panic!("cannot copy {}: {error}", component.display()));
    fs::rename(draft, plugin_file(files, name, "wasm")).expect("the directory is there");
}

fn put_manifest(files: &Path, name: &str, manifest: &str) {
    let draft = files.join("draft.toml");
    fs::write(&draft, manifest).expect("the directory is there");
    fs::rename(draft, plugin_file(files, name, "toml")).expect("the directory is there");
}

fn plugin_file(files: &Path, name: &str, extension: &str) -> PathBuf {
    files.join("plugins").join(format!("{name}.{extension}"))
}

/// Sends SIGTERM to a process, and waits until it has finished its work.
fn end(child: &mut Child) -> ExitStatus {
    // If this fails, it has ended by itself.
    kill_process(Pid::from_child(child), Signal::TERM).ok();
    child.wait().expect("it is a child of this process")
}
