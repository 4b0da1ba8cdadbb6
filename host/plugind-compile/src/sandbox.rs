//! The rights that the worker drops before it reads anything: files, network, processes and more than its share.

use crate::filter;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setpriority_process,
    setrlimit,
};

/// The niceness of a compiler, which shares the processors with plugins: it gets a third of the time of one plugin.
const NICENESS: i32 = 5;

/// Restricts this process, irrevocably. It must have only this thread.
pub(crate) fn enter(memory_max: u64, cpu_max: u64) -> anyhow::Result<()> {
    // The code is useless once the server has ended.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::thread::set_no_new_privs(true)?;
    // It may fail: a unit with `Nice=` may also deny setting it.
    setpriority_process(None, NICENESS).ok();
    deny_files()?;
    filter::apply()?;
    // Starts the threads of the compiler now. It adds none, and later none could be started.
    rayon::ThreadPoolBuilder::new().build_global()?;
    for (resource, max) in [
        (Resource::Nproc, 0),
        // Open descriptors stay open. No other can be opened, not even under the number of one that was closed.
        (Resource::Nofile, 0),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Cpu, cpu_max),
        (Resource::As, memory_max),
    ] {
        // At the soft limit of processor time, the process gets SIGXCPU, which says why it ends.
        let above = if resource == Resource::Cpu { 1 } else { 0 };
        // A lower limit of this process stays as it is: it could not be raised.
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let (current, maximum) = (Some(max.min(most)), Some(max.saturating_add(above).min(most)));
        setrlimit(resource, Rlimit { current, maximum })?;
    }
    Ok(())
}

/// Whether Landlock is there, and this process may use it.
pub(crate) fn has_landlock() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let ruleset = ruleset.handle_access(AccessFs::from_all(ABI::V1));
    ruleset.and_then(Ruleset::create).is_ok()
}

/// Denies every file and TCP port, abstract sockets of other processes and signals to them, as far as this kernel's
/// Landlock knows them. Without Landlock, the limit of open descriptors still prevents every open, and the filter of
/// system calls prevents changes by a path.
fn deny_files() -> anyhow::Result<RulesetStatus> {
    const NEWEST: ABI = ABI::V6;
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker;
    use plugind_artifact::engine::EngineKind;
    use std::{
        env,
        fs::{self, File, Permissions},
        io,
        net::{TcpListener, TcpStream},
        os::unix::{fs::PermissionsExt, net::UnixStream},
        process::{Command, Stdio},
        thread,
    };

    /// Acts that Landlock, or an older version of it, cannot refuse.
    const OTHERS: [&str; 6] = [
        "listen",
        "connect",
        "make a socket",
        "change a file's mode",
        "rename a file",
        "signal a process",
    ];

    /// The smallest component that there is.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn attempts() -> Vec<(&'static str, io::Result<()>)> {
        vec![
            ("read a file", File::open("/etc/passwd").map(drop)),
            ("read a device", File::open("/dev/null").map(drop)),
            ("read its own memory", File::open("/proc/self/mem").map(drop)),
            ("list a directory", fs::read_dir("/").map(drop)),
            ("write a file", File::create(env::temp_dir().join("plugind-was-here")).map(drop)),
            ("make a directory", fs::create_dir(env::temp_dir().join("plugind-was-here"))),
            (
                "change a file's mode",
                fs::set_permissions(
                    env::temp_dir().join("plugind-is-here"),
                    Permissions::from_mode(0o600),
                ),
            ),
            (
                "rename a file",
                fs::rename(
                    env::temp_dir().join("plugind-is-here"),
                    env::temp_dir().join("plugind-is-here"),
                ),
            ),
            (
                "signal a process",
                rustix::process::test_kill_process(rustix::process::getppid().unwrap())
                    .map_err(io::Error::from),
            ),
            ("run a program", Command::new("/bin/true").status().map(drop)),
            ("listen", TcpListener::bind("127.0.0.1:0").map(drop)),
            ("connect", TcpStream::connect("127.0.0.1:9").map(drop)),
            ("make a socket", UnixStream::pair().map(drop)),
        ]
    }

    /// The rest of a test, for a process of its own: there is no way back out of a sandbox.
    fn run_alone(test: &str) {
        let program = env::current_exe().unwrap();
        let arguments = ["--exact", test, "--ignored", "--nocapture", "--test-threads=1"];
        // The worker cannot remove the files that it leaves behind.
        let directory = tempfile::tempdir().unwrap();
        let mut alone = Command::new(program);
        alone.args(arguments).env("TMPDIR", directory.path()).stdin(Stdio::null());
        let ran = alone.output().unwrap();
        let reported = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && reported.contains("1 passed"), "{ran:?}");
    }

    #[test]
    fn a_worker_can_compile_and_cannot_open_anything() {
        run_alone("sandbox::tests::in_the_sandbox");
    }

    #[test]
    #[ignore = "a_worker_can_compile_and_cannot_open_anything runs it"]
    fn in_the_sandbox() {
        fs::write(env::temp_dir().join("plugind-is-here"), "").unwrap();
        let before: Vec<_> = attempts().into_iter().filter(|(_, done)| done.is_err()).collect();
        let directory = env::temp_dir().join("plugind-was-here");
        fs::remove_file(&directory).ok();
        // The new file blocks the directory, and nothing listens on that port.
        let failed: Vec<_> = before.iter().map(|(what, _)| *what).collect();
        assert_eq!(failed, ["make a directory", "connect"], "{before:?}");

        enter(4 << 30, 60).unwrap();
        for (what, done) in attempts() {
            assert!(done.is_err(), "it can {what}");
        }
        // A process that may exceed every limit can always start threads.
        if !rustix::process::geteuid().is_root() {
            assert!(thread::Builder::new().spawn(|| ()).is_err(), "it can start a thread");
        }
        for (name, kind) in EngineKind::ALL {
            assert!(worker::compile(kind, COMPONENT).is_ok(), "it cannot compile for {name}");
        }
        assert!(worker::compile(EngineKind::Native, b"nonsense").is_err());
    }

    #[test]
    fn landlock_alone_keeps_files_and_ports_from_a_worker() {
        run_alone("sandbox::tests::behind_landlock");
    }

    #[test]
    #[ignore = "landlock_alone_keeps_files_and_ports_from_a_worker runs it"]
    fn behind_landlock() {
        assert!(has_landlock(), "this kernel has no Landlock, so this cannot be tested here");
        assert_ne!(deny_files().unwrap(), RulesetStatus::NotEnforced);
        for (what, done) in attempts() {
            let denied = done.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            let is_known = !OTHERS.contains(&what);
            assert!(denied || !is_known, "it can {what}");
        }
    }
}
