//! One component and its worker: fed, waited for, and ended in time.

use crate::{
    error::CompileFailure,
    worker::{REFUSED, UNRESTRICTED},
};
use anyhow::{Context, anyhow, bail};
use plugind_artifact::protocol::CompileRequest;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio},
    process::{Pid, PidfdFlags, Signal, pidfd_open},
};
use std::{
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// The longest explanation that is taken from a worker, in bytes.
const REASON_MAX: usize = 4000;

/// Compiles `component` in a worker, unless the client disconnects meanwhile.
pub(crate) fn compile(
    component: &[u8],
    order: &CompileRequest,
    asking: impl AsFd,
) -> Result<Vec<u8>, CompileFailure> {
    let mut worker = CompileProcess(start(order).context("cannot start a worker")?);
    let (input, output) = (worker.0.stdin.take(), worker.0.stdout.take());
    let (input, output) = input.zip(output).context("a worker has no pipes")?;
    let asking = asking.as_fd();
    let limit = WaitLimit { begun: Instant::now(), order, asking };
    let written = exchange(component, input, output, &limit)?;
    // It has closed its output, but may not have exited yet.
    let ended = pidfd_open(Pid::from_child(&worker.0), PidfdFlags::empty())
        .context("cannot wait for a worker")?;
    while !limit.wait(&mut [PollFd::new(&ended, PollFlags::IN)])?[0] {}
    let status = worker.0.wait().context("cannot wait for a worker")?;
    match status.code() {
        Some(0) => Ok(written),
        Some(code) if code == i32::from(REFUSED) => {
            let reason = &written[..written.len().min(REASON_MAX)];
            Err(CompileFailure::Component(String::from_utf8_lossy(reason).into_owned()))
        }
        _ => Err(CompileFailure::Host(anyhow!(without_result(status, &written)))),
    }
}

/// Returns the reason that a worker ended without a result, and the remedy. The text in `said` counts only where the
/// worker had not read the component yet.
fn without_result(status: ExitStatus, said: &[u8]) -> String {
    let signal = status.signal().and_then(Signal::from_named_raw);
    let meaning = match (status.code(), signal) {
        (Some(code), _) if code == i32::from(UNRESTRICTED) => {
            let said = String::from_utf8_lossy(&said[..said.len().min(REASON_MAX)]).into_owned();
            return format!("its worker could not be restricted, so it did not start: {said}");
        }
        (Some(101), _) => "it panicked; please report this with the component",
        (_, Some(Signal::ABORT)) => {
            "probably for lack of address space; raise compile.memory-max in plugind.toml, and the limit of the daemon, \
             if it has one (ulimit -v)"
        }
        (_, Some(Signal::XCPU)) => {
            "it used up its processor time; raise compile.timeout-sec in plugind.toml"
        }
        (_, Some(Signal::KILL)) => {
            "it was killed, probably because the system or the unit has too little memory; see MemoryMax= of the unit \
             and the log of the kernel"
        }
        (_, Some(Signal::SYS)) => {
            "it made a system call that is not allowed; if SystemCallFilter= of the unit was changed, undo that, and \
             otherwise report this"
        }
        _ => "please report this with the component",
    };
    format!("its worker ended without a result ({status}): {meaning}")
}

/// A worker that is ended, and not left behind, wherever its task ends.
struct CompileProcess(Child);

impl Drop for CompileProcess {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(order: &CompileRequest) -> io::Result<Child> {
    // The kernel counts whole seconds, and all threads together.
    let cpu_max = order.cpu_max.as_secs() + u64::from(order.cpu_max.subsec_nanos() > 0);
    Command::new("/proc/self/exe")
        .arg0("plugind-compile")
        .arg(format!("--worker={}", order.kind))
        .arg(format!("--memory-max={}", order.memory_max))
        .arg(format!("--cpu-max={cpu_max}"))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// The time limit of a worker, and the client that waits for it.
struct WaitLimit<'a> {
    begun: Instant,
    order: &'a CompileRequest,
    asking: BorrowedFd<'a>,
}

impl WaitLimit<'_> {
    /// Waits until any of `ends` is ready, and returns which of them are.
    fn wait<const N: usize>(&self, ends: &mut [PollFd<'_>; N]) -> anyhow::Result<[bool; N]> {
        let wait_max = self.order.wall_clock_max();
        let left = wait_max.saturating_sub(self.begun.elapsed());
        if left.is_zero() {
            let time = reported(wait_max);
            bail!("compiling took longer than {time}; raise compile.timeout-sec in plugind.toml");
        }
        // The client sends nothing meanwhile: this only notices that it disconnects.
        let mut all = vec![PollFd::new(&self.asking, PollFlags::RDHUP)];
        all.extend(ends.iter().cloned());
        match poll(&mut all, Some(&Timespec::try_from(left)?)) {
            Ok(_) => (),
            Err(Errno::INTR) => return Ok([false; N]),
            Err(errno) => return Err(errno).context("cannot wait for a worker"),
        }
        if !all[0].revents().is_empty() {
            bail!("the client has disconnected");
        }
        Ok(std::array::from_fn(|end| !all[end + 1].revents().is_empty()))
    }
}

/// Gives a worker all it is to read, and takes all that it writes.
fn exchange(
    component: &[u8],
    input: ChildStdin,
    mut output: ChildStdout,
    limit: &WaitLimit<'_>,
) -> anyhow::Result<Vec<u8>> {
    // The worker may write before it has read everything. Neither side must wait for the other then.
    ioctl_fionbio(&input, true).context("cannot write to a worker")?;
    let (mut input, mut left) = (Some(input), component);
    let mut written = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let from = PollFd::new(&output, PollFlags::IN);
        let [readable, writable] = match &input {
            Some(input) => limit.wait(&mut [from, PollFd::new(input, PollFlags::OUT)])?,
            None => [limit.wait(&mut [from])?[0], false],
        };
        if writable {
            match input.as_mut().map_or(Ok(0), |input| input.write(left)) {
                Ok(length) => left = &left[length..],
                Err(error) if is_passing(&error) => (),
                // The worker reads no more; its exit status says why.
                Err(_) => left = &[],
            }
            if left.is_empty() {
                input = None;
            }
        }
        if readable {
            match output.read(&mut chunk) {
                Ok(0) => return Ok(written),
                Ok(length) => written.extend_from_slice(&chunk[..length]),
                Err(error) if is_passing(&error) => (),
                Err(error) => return Err(error).context("cannot read from a worker"),
            }
        }
        // It cannot have held more.
        if written.len() as u64 > limit.order.memory_max {
            bail!("the compiled code is larger than {} bytes", limit.order.memory_max);
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

fn reported(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{}s", time.as_secs())
    } else {
        format!("{}ms", time.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugind_artifact::{engine::EngineKind, protocol::Effort};
    use std::os::unix::net::UnixStream;

    /// What a program writes, taken as the code of a worker that may have so much memory.
    fn exchanged(script: &str, memory_max: u64) -> anyhow::Result<Vec<u8>> {
        let mut worker = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (worker.stdin.take().unwrap(), worker.stdout.take().unwrap());
        let _ended_at_the_end = CompileProcess(worker);
        let (asking, _client) = UnixStream::pair()?;
        let order = CompileRequest {
            component: [0; 32],
            kind: EngineKind::Native,
            effort: Effort::Compile,
            cpu_max: Duration::from_secs(60),
            memory_max,
        };
        let limit = WaitLimit { begun: Instant::now(), order: &order, asking: asking.as_fd() };
        exchange(b"component", input, output, &limit)
    }

    #[test]
    fn a_worker_writes_no_more_code_than_it_may_have_memory() {
        let code = exchanged("cat; head -c 100000 /dev/zero", 1 << 20).unwrap();
        assert_eq!((code.len(), &code[..9]), (100_009, &b"component"[..]));
        let error = exchanged("cat; exec cat /dev/zero", 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "the compiled code is larger than 1048576 bytes");
    }

    #[test]
    fn each_end_of_a_worker_without_a_result_has_its_meaning_and_remedy() {
        let signal = |signal: Signal| ExitStatus::from_raw(signal.as_raw());
        let code = |code: i32| ExitStatus::from_raw(code << 8);
        for (status, meaning) in [
            (signal(Signal::ABORT), "compile.memory-max"),
            (signal(Signal::XCPU), "compile.timeout-sec"),
            (signal(Signal::KILL), "MemoryMax="),
            (signal(Signal::SYS), "SystemCallFilter="),
            (signal(Signal::SEGV), "report this with the component"),
            (code(101), "it panicked"),
            (code(1), "report this with the component"),
        ] {
            let said = without_result(status, b"nothing that counts");
            assert!(said.starts_with("its worker ended without a result ("), "{said}");
            assert!(said.contains(meaning) && !said.contains("counts"), "{said}");
        }
        let said = without_result(code(UNRESTRICTED.into()), b"no seccomp");
        assert!(
            said.contains("could not be restricted") && said.ends_with(": no seccomp"),
            "{said}"
        );
    }
}
