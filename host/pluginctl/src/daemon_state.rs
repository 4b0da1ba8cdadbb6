//! The state of the daemon's unit, as systemd reports it.

use crate::{systemctl, unit::UNIT};
use std::{fmt, fs, path::Path};

/// The unit of the control socket: a connection to its socket starts the daemon.
const CONTROL_SOCKET: &str = "plugind-control.socket";

/// The instance of systemd that a unit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    System,
    User,
}

impl Manager {
    /// The options with which `systemctl` asks it.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::System => &[],
            Self::User => &["--user"],
        }
    }

    /// Whether it runs; `runtime` is the directory of a user's session.
    pub(crate) fn is_there(self, runtime: Option<&Path>) -> bool {
        match self {
            Self::System => systemctl::is_booted(),
            Self::User => runtime.is_some_and(|runtime| runtime.join("systemd").is_dir()),
        }
    }

    fn ask(self, arguments: &[&str]) -> Result<String, String> {
        systemctl::ask(&[arguments, self.options()].concat())
    }
}

impl fmt::Display for Manager {
    /// The command that a person uses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "systemctl",
            Self::User => "systemctl --user",
        })
    }
}

/// The state of a unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnitState {
    pub(crate) active: String,
    sub: String,
    result: String,
    status: String,
    /// systemd is to start or stop it.
    pub(crate) has_job: bool,
    /// Its main process, if it has one.
    main_pid: Option<u32>,
}

impl UnitState {
    /// Parses the output of `systemctl show` for one unit.
    fn parse(shown: &str) -> Self {
        let mut state = Self::default();
        for (key, value) in shown.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "ActiveState" => value.clone_into(&mut state.active),
                "SubState" => value.clone_into(&mut state.sub),
                "Result" => value.clone_into(&mut state.result),
                "StatusText" => value.clone_into(&mut state.status),
                "MainPID" => state.main_pid = value.parse().ok().filter(|pid| *pid != 0),
                "Job" => state.has_job = !["", "0"].contains(&value),
                _ => (),
            }
        }
        state
    }

    /// Whether its main process has ended, although systemd has not noticed yet.
    pub(crate) fn has_ended(&self) -> bool {
        let stat = self.main_pid.and_then(|pid| fs::read(format!("/proc/{pid}/stat")).ok());
        stat.is_some_and(|stat| is_zombie(&String::from_utf8_lossy(&stat)))
    }
}

/// Whether this is the `stat` of a process that has ended (proc_pid_stat(5)).
fn is_zombie(stat: &str) -> bool {
    // The name of the program may contain anything, so the last parenthesis counts.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Why the daemon does not answer without being started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonDown {
    #[error("{UNIT} does not run; `{0} start {UNIT}` starts it, and so does the option --start")]
    Inactive(Manager),
    #[error("{UNIT} is being stopped")]
    Stopping,
    #[error("{UNIT} has failed with result {result}{status}; see `{manager} status {UNIT}`")]
    Failed { manager: Manager, result: String, status: String },
    #[error(
        "{UNIT} has failed with result {result}, and systemd will start it again{status}; see `{manager} status {UNIT}`"
    )]
    WillRestart { manager: Manager, result: String, status: String },
}

/// Returns the state of the daemon.
///
/// # Errors
/// When systemd does not answer: the reason, as text.
pub(crate) fn daemon(manager: Manager) -> Result<UnitState, String> {
    let [daemon] = units(manager, [UNIT])?;
    Ok(daemon)
}

/// Returns the kind of the job that systemd has for the daemon, such as `restart`.
///
/// # Errors
/// When systemd does not answer: the reason, as text.
pub(crate) fn job(manager: Manager) -> Result<Option<String>, String> {
    let jobs = manager.ask(&["list-jobs", "--no-legend", "--plain", UNIT])?;
    Ok(jobs.lines().find_map(job_kind).map(str::to_owned))
}

/// Why a connection to the control socket would start the daemon, instead of being answered by the one that runs. `None`
/// if the socket does not start it, or if systemd does not answer.
pub(crate) fn down(manager: Manager) -> Option<DaemonDown> {
    let [daemon, socket] = units(manager, [UNIT, CONTROL_SOCKET]).ok()?;
    if socket.active != "active" {
        return None;
    }
    let down = reason(manager, &daemon)?;
    let is_to_start = || {
        let job = job(manager).ok().flatten();
        job.is_some_and(|kind| ["start", "restart"].contains(&&*kind))
    };
    (!(daemon.has_job && is_to_start())).then_some(down)
}

/// The states of some units.
fn units<const N: usize>(manager: Manager, names: [&str; N]) -> Result<[UnitState; N], String> {
    let properties = "--property=ActiveState,SubState,Result,StatusText,Job,MainPID";
    let shown = manager.ask(&[&["show", properties][..], &names].concat())?;
    // There is an empty line between two units.
    let states: Vec<_> = shown.split("\n\n").map(UnitState::parse).collect();
    let is_known = |state: &UnitState| !state.active.is_empty();
    let states = states.try_into().ok().filter(|states: &[_; N]| states.iter().all(is_known));
    states.ok_or_else(|| "systemctl show printed no state".to_owned())
}

fn reason(manager: Manager, daemon: &UnitState) -> Option<DaemonDown> {
    let UnitState { active, sub, result, status, .. } = daemon;
    let result = result.clone();
    let status = if status.is_empty() { String::new() } else { format!(" ({status})") };
    match &**active {
        "inactive" => Some(DaemonDown::Inactive(manager)),
        "deactivating" => Some(DaemonDown::Stopping),
        "failed" => Some(DaemonDown::Failed { manager, result, status }),
        // It waits for the time of its next start.
        "activating" if sub.starts_with("auto-restart") => {
            Some(DaemonDown::WillRestart { manager, result, status })
        }
        _ => None,
    }
}

/// The kind of the job in this line of `systemctl list-jobs`, if it is one of the daemon's.
fn job_kind(line: &str) -> Option<&str> {
    line.split_whitespace().skip_while(|word| *word != UNIT).nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_job_is_that_of_the_daemon() {
        assert_eq!(job_kind(" 12 plugind.service stop    waiting"), Some("stop"));
        assert_eq!(job_kind("12 plugind.service restart running"), Some("restart"));
        assert_eq!(job_kind("12 plugind-http.socket stop waiting"), None);
        assert_eq!(job_kind("No jobs running."), None);
    }

    #[test]
    fn a_process_that_has_ended_and_is_not_waited_for_is_a_zombie() {
        assert!(is_zombie("12 (plugind) Z 1 12 12 0"));
        assert!(is_zombie("12 (odd) S ) X 1 12 12 0"));
        assert!(!is_zombie("12 (plugind) S 1 12 12 0"));
        assert!(!is_zombie("12 (Z) R 1 12 12 0"));
        let itself = format!("ActiveState=active\nMainPID={}\n", std::process::id());
        assert!(!UnitState::parse(&itself).has_ended());
        assert!(!UnitState::parse("ActiveState=inactive\nMainPID=0\n").has_ended());
    }

    #[test]
    fn a_daemon_is_down_while_a_connection_would_start_it() {
        let reason = |shown: &str| {
            let state = UnitState::parse(shown);
            reason(Manager::System, &state).map(|down| down.to_string())
        };
        for state in ["active", "reloading", "activating\nSubState=start", "refreshing"] {
            assert_eq!(reason(&format!("ActiveState={state}\nResult=success\n")), None, "{state}");
        }
        assert_eq!(
            reason("ActiveState=inactive\nSubState=dead\nResult=success\n").unwrap(),
            "plugind.service does not run; `systemctl start plugind.service` starts it, and so does the option --start"
        );
        assert_eq!(
            reason("ActiveState=deactivating\nSubState=stop-sigterm\n").unwrap(),
            "plugind.service is being stopped"
        );
        assert_eq!(
            reason("ActiveState=failed\nResult=exit-code\nStatusText=failed: hi\n").unwrap(),
            "plugind.service has failed with result exit-code (failed: hi); see `systemctl status plugind.service`"
        );
        for sub in ["auto-restart", "auto-restart-queued"] {
            let reported =
                reason(&format!("ActiveState=activating\nSubState={sub}\nResult=signal\n"));
            assert_eq!(
                reported.unwrap(),
                "plugind.service has failed with result signal, and systemd will start it again; see `systemctl status plugind.service`"
            );
        }
    }
}
