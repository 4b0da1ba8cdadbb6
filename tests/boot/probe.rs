//! Each line of the unit does its work: what it refuses is attempted inside the daemon, with the line and without it.

use crate::HELLO;
use plugind_tests::{Machine, program};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixStream},
    },
};

/// The acts, as tests/probe has them, and the lines of the unit of which each alone refuses them: an act is done only
/// where all of its lines are lifted. `KEY` is the machine's shared memory.
const ACTS: [(&str, &[&str]); 51] = [
    // Acts that see something.
    ("read /etc/passwd", &["RootDirectory"]),
    ("see /usr/bin/true", &["RootDirectory"]),
    ("read /home", &["RootDirectory", "ProtectHome"]),
    ("read /usr/lib/modules", &["RootDirectory", "ProtectKernelModules"]),
    ("read /etc/plugind/secret", &["DynamicUser"]),
    ("tell-user /etc/plugind/somebodys", &["PrivateUsers"]),
    ("see /proc/1/status", &["ProtectProc"]),
    ("read /proc/version", &["ProcSubset"]),
    ("find /proc/kmsg", &["ProcSubset", "ProtectKernelLogs"]),
    ("find /proc/kallsyms", &["ProcSubset", "ProtectKernelTunables"]),
    ("see /dev/probe", &["PrivateDevices"]),
    ("hear-name NAME", &["ProtectHostname"]),
    ("steer-clock", &["SystemCallFilter", "ProtectClock"]),
    // Acts that write, and their readers.
    ("create /outside/probe", &["DynamicUser"]),
    (RUN, &["DynamicUser", "ReadOnlyPaths"]),
    ("create /dev/shm/probe", &["InaccessiblePaths"]),
    ("write CGROUP/init.scope/cgroup.procs", &["ProtectControlGroups"]),
    ("give-to-all /var/lib/plugind/probe-file", &["UMask"]),
    ("pass-rights-on /var/lib/plugind/probe-file", &["DynamicUser"]),
    ("give-away /var/lib/plugind/probe-file", &["SystemCallFilter"]),
    ("leave-core", &["LimitCORE"]),
    (
        "write-code /var/cache/private/plugind",
        &["CapabilityBoundingSet", "DynamicUser", "PrivateUsers", "RootDirectory"],
    ),
    // Acts that run programs.
    ("write-and-run /var/lib/plugind/probe-program", &["NoExecPaths"]),
    ("run /etc/plugind/probe-program", &["NoExecPaths"]),
    ("map-code-of /var/lib/plugind/probe-file", &["NoExecPaths"]),
    ("map-code-of /tmp/probe-file", &["NoExecPaths"]),
    ("map-code-of /dev/shm/probe-file", &["InaccessiblePaths"]),
    ("run-memory", &["SystemCallFilter"]),
    ("map-code-of-memory", &["SystemCallFilter"]),
    ("make-code", &["MemoryDenyWriteExecute"]),
    ("make-more-code", &["MemoryDenyWriteExecute"]),
    ("map-writable-code", &["MemoryDenyWriteExecute"]),
    ("call-as-32-bits", &["SystemCallArchitectures"]),
    ("become-another-kind", &["LockPersonality"]),
    // Acts that open sockets.
    ("open-socket INET", &["RestrictAddressFamilies"]),
    ("open-socket INET6", &["RestrictAddressFamilies"]),
    ("open-socket NETLINK", &["RestrictAddressFamilies"]),
    ("send", &["RestrictAddressFamilies", "IPAddressDeny"]),
    (BIND, &["RestrictAddressFamilies", "SocketBindDeny"]),
    ("reach plugind-probe", &["PrivateNetwork"]),
    ("share-memory KEY", &["PrivateIPC", "SystemCallFilter"]),
    ("share-keys NAME", &["KeyringMode", "PrivateUsers", "SystemCallFilter"]),
    ("be-traced", &["SystemCallFilter"]),
    // Acts that change the process.
    ("have-capability", &["CapabilityBoundingSet"]),
    ("gain-rights", &["DynamicUser"]),
    ("set-user", &["SystemCallFilter"]),
    ("make-namespace", &["RestrictNamespaces"]),
    ("leave-namespace", &["SystemCallFilter"]),
    ("run-first", &["RestrictRealtime", "SystemCallFilter"]),
    ("lock-memory", &["LimitMEMLOCK", "SystemCallFilter"]),
    ("mount /tmp", &["CapabilityBoundingSet", "DynamicUser", "PrivateUsers", "SystemCallFilter"]),
];

const BIND: &str = "bind 127.0.0.1:4711";
const RUN: &str = "create /run/probe";

/// The value of a directive that is lifted; `no` if it is not here.
const LIFTED: [(&str, &str); 15] = [
    ("CapabilityBoundingSet", "~"),
    ("IPAddressDeny", ""),
    ("InaccessiblePaths", ""),
    ("KeyringMode", "shared"),
    ("LimitCORE", "infinity"),
    ("LimitMEMLOCK", "8M"),
    ("NoExecPaths", ""),
    ("ProcSubset", "all"),
    ("ProtectProc", "default"),
    ("ReadOnlyPaths", ""),
    ("RestrictAddressFamilies", ""),
    ("RootDirectory", ""),
    ("SocketBindDeny", ""),
    ("SystemCallArchitectures", ""),
    ("SystemCallFilter", ""),
];

/// Lines behind DynamicUser= that no act can test, since they grant or declare something instead of denying it.
const GIVE: [&str; 9] = [
    "BindReadOnlyPaths",
    "ExecPaths",
    "FileDescriptorStoreMax",
    "ImportCredential",
    "ReadWritePaths",
    "StateDirectory",
    "StateDirectoryMode",
    "SystemCallErrorNumber",
    "TemporaryFileSystem",
];
/// Directives that `RootDirectory=` implies; `systemd-analyze security` asks for them all the same.
const IMPLIED: [&str; 1] = ["PrivateMounts"];

/// A machine whose daemon, as it is installed, has the probe loaded into it.
struct Probed {
    machine: Machine,
    /// The key of the shared memory that others have.
    key: String,
    /// Where its cgroups are.
    cgroups: String,
    /// Lines that do nothing against an act under this systemd.
    idle: Vec<(&'static str, &'static str)>,
    /// Number of starts of the daemon.
    starts: usize,
    _others: UnixDatagram,
}

impl Probed {
    fn boot() -> Self {
        let machine = Machine::boot_with(&["hello"]);
        machine.put("usr/lib/plugind/probe.so", std::fs::read(program("libprobe.so")).unwrap());
        let mounts = machine.succeed(&["cat", "/proc/self/mounts"]);
        let mut mounts = mounts.lines().map(|line| line.split(' ').skip(1));
        let cgroups = mounts.find_map(|mut words| {
            let place = words.next()?;
            (words.next()? == "cgroup2").then_some(place)
        });
        let cgroups = cgroups.unwrap().to_owned();
        // Objects that only lines of the unit keep from the daemon.
        for command in [
            "mkdir -m 0777 /usr/lib/plugind/root/outside",
            "mkdir -p /usr/lib/modules /home",
            "install -m 0600 /dev/null /etc/plugind/secret",
            "install -m 0755 /usr/bin/pluginctl /etc/plugind/probe-program",
            "install -m 0644 -o 1234 /dev/null /etc/plugind/somebodys",
            &format!("chmod 0666 {cgroups}/init.scope/cgroup.procs"),
            "touch /dev/probe",
            "ipcmk --shmem 4096 --mode 0666",
        ] {
            machine.succeed(&command.split(' ').collect::<Vec<_>>());
        }
        let built = machine.succeed(&["systemctl", "--version"]);
        let bpf = machine.run(&["sh", "-c", "ls /usr/lib/*/libbpf.so.1"]).status == 0;
        let mut idle = Vec::new();
        if !bpf || !built.contains("+BPF_FRAMEWORK") {
            // Debian 12 builds it without.
            idle.push((BIND, "SocketBindDeny"));
        }
        if crate::installed::version(&machine) < 257 {
            // In a root directory it makes a /run in which everybody may write.
            idle.push((RUN, "DynamicUser"));
        }
        let shared = machine.succeed(&["cat", "/proc/sysvipc/shm"]);
        let shared = shared.lines().last().unwrap().split_whitespace().next().unwrap();
        let key = shared.parse::<i32>().unwrap().cast_unsigned().to_string();
        let address = SocketAddr::from_abstract_name("plugind-probe").unwrap();
        let others = machine.within(|| UnixDatagram::bind_addr(&address).unwrap());
        Self { machine, key, cgroups, idle, starts: 0, _others: others }
    }

    /// Starts the daemon with some lines of its unit lifted.
    fn start(&mut self, lifted: &BTreeSet<&str>) {
        let lifted = lifted.iter().map(|line| {
            let now = LIFTED.iter().find(|(name, _)| name == line).map_or("no", |(_, now)| now);
            format!("{line}={now}\n")
        });
        let drop_in = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nEnvironment=LD_PRELOAD=/usr/lib/plugind/probe.so\n\
             ExecPaths=+/usr/lib/plugind/probe.so\n{}",
            lifted.collect::<String>()
        );
        self.machine.put_drop_in("plugind.service", &drop_in);
        self.machine.succeed(&["systemctl", "restart", "plugind.service"]);
        self.starts += 1;
        // Only a process in the UTS namespace of the machine sees its new hostname.
        self.machine.succeed(&["hostname", &self.name()]);
    }

    fn name(&self) -> String {
        format!("machine-{}", self.starts)
    }

    /// Has the daemon attempt acts, and returns the outcome of each.
    fn attempt(&self, acts: &[&str]) -> Vec<String> {
        let probe = UnixStream::connect(self.machine.path("/var/lib/plugind/probe")).unwrap();
        probe.set_read_timeout(Some(plugind_tests::WAIT_MAX)).unwrap();
        let mut probe = BufReader::new(probe);
        let mut attempt = |act: &&str| {
            let act = act.replace("KEY", &self.key).replace("NAME", &self.name());
            let act = act.replace("CGROUP", &self.cgroups);
            probe.get_mut().write_all(format!("{act}\n").as_bytes()).unwrap();
            let mut answer = String::new();
            probe.read_line(&mut answer).unwrap();
            assert_ne!(answer, "", "{act} ended the daemon");
            answer.trim_end().to_owned()
        };
        acts.iter().map(&mut attempt).collect()
    }
}

#[test]
fn there_is_an_act_for_each_line_that_shuts_the_daemon_in() {
    let unit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../units/plugind.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let unit = &unit[unit.find("\nDynamicUser=").unwrap()..unit.find("[Install]").unwrap()];
    let lines = unit.lines().filter(|line| !line.starts_with('#'));
    let lines: BTreeSet<_> = lines.filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let tried = ACTS.iter().flat_map(|(_, lines)| lines.iter().copied());
    let reported: BTreeSet<_> = tried.chain(GIVE).chain(IMPLIED).collect();
    assert_eq!(lines, reported);
}

#[test]
fn nothing_that_the_unit_refuses_is_done_while_plugins_answer() {
    let mut probed = Probed::boot();
    probed.start(&BTreeSet::new());
    let done = ACTS.into_iter().map(|(act, _)| act).filter(|act| {
        // Native code answers before each of them, and after the last.
        assert_eq!(probed.machine.get("/hello").status_and_text(), (200, HELLO));
        probed.attempt(&[act]) == ["done"]
    });
    assert_eq!(done.collect::<Vec<_>>(), [""; 0]);
    assert_eq!(probed.machine.get("/hello").status_and_text(), (200, HELLO));
}

#[test]
fn each_line_of_the_unit_refuses_something_by_itself() {
    let mut probed = Probed::boot();
    // The lifted lines, and the acts that must then succeed or be refused.
    let mut attempts: BTreeMap<BTreeSet<&str>, Vec<(&str, bool)>> = BTreeMap::new();
    for (act, lines) in ACTS {
        let all: BTreeSet<_> = lines.iter().copied().collect();
        for line in lines.iter().filter(|line| !probed.idle.contains(&(act, line))) {
            let others = all.iter().copied().filter(|other| other != line).collect();
            attempts.entry(others).or_default().push((act, false));
        }
        attempts.entry(all).or_default().push((act, true));
    }
    let mut wrong = Vec::new();
    for (lifted, attempts) in attempts {
        probed.start(&lifted);
        let acts: Vec<_> = attempts.iter().map(|(act, _)| *act).collect();
        for ((act, done), came) in attempts.into_iter().zip(probed.attempt(&acts)) {
            if (came == "done") != done {
                wrong.push(format!("without {lifted:?}: {act}: {came}"));
            }
        }
        assert_eq!(probed.machine.get("/hello").status_and_text(), (200, HELLO));
    }
    assert_eq!(wrong, [""; 0]);
}

/// A connection that `PrivateNetwork=` does not prevent; SECURITY.md says so.
#[test]
fn a_passed_socket_belongs_to_the_network_in_which_it_was_opened() {
    let mut probed = Probed::boot();
    probed.start(&BTreeSet::new());
    let listener = probed.machine.within(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    assert_eq!(probed.attempt(&[&format!("turn-listener {port}")]), ["done"]);
    listener.accept().unwrap();
}
