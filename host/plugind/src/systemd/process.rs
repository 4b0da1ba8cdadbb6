//! State that a process inherits and must not depend on: blocked and ignored signals, and backtraces for each error.

use std::{env, mem::MaybeUninit, ptr};

/// Whether a library creates a backtrace with each of its errors. An error is no panic: guests cause them as often as
/// they like.
const BACKTRACES: &str = "RUST_LIB_BACKTRACE";

/// Resets what another program may have left: blocked signals, a SIGCHLD that is ignored, and backtraces with each
/// error. SIGPIPE is ignored by the standard library, and reset for each child.
///
/// To be called first of all, while there is only this thread.
#[expect(clippy::disallowed_methods, reason = "this runs before there are threads")]
pub fn reset_inherited() {
    let own_choice = env::var_os(BACKTRACES).is_some();
    #[expect(
        unsafe_code,
        reason = "no safe interface to the signal mask, and none to the environment"
    )]
    // SAFETY: there is only this thread, so that nothing reads the environment or depends on the mask meanwhile. The
    // set is initialised by sigemptyset(3), and SIG_DFL is a disposition that is valid for SIGCHLD.
    unsafe {
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        if libc::sigemptyset(none.as_mut_ptr()) == 0 {
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        }
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        if !own_choice {
            env::set_var(BACKTRACES, "0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{backtrace::Backtrace, process::Command};

    /// Runs an ignored test in a process of its own, with backtraces.
    fn run_alone(test: &str) {
        let program = env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.args(["--exact", "--ignored", "--test-threads=1", test]);
        let ran = command.env("RUST_BACKTRACE", "full").env_remove(BACKTRACES).output().unwrap();
        let printed = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && printed.contains("1 passed"), "{test}: {printed}");
    }

    #[test]
    fn no_error_costs_a_backtrace_even_if_the_environment_asks_for_it() {
        run_alone("systemd::process::tests::as_inherited");
        run_alone("systemd::process::tests::after_the_reset");
    }

    #[test]
    #[ignore = "no_error_costs_a_backtrace_even_if_the_environment_asks_for_it runs it"]
    fn as_inherited() {
        assert!(shows_backtrace(), "otherwise this shows nothing");
    }

    #[test]
    #[ignore = "no_error_costs_a_backtrace_even_if_the_environment_asks_for_it runs it"]
    fn after_the_reset() {
        reset_inherited();
        assert!(!shows_backtrace());
    }

    /// Whether an error of the runtime has a backtrace, and any other error would.
    fn shows_backtrace() -> bool {
        let error = format!("{:?}", wasmtime::Error::msg("failed"));
        let captured = Backtrace::capture().status() == std::backtrace::BacktraceStatus::Captured;
        assert_eq!(captured, error.contains("backtrace"), "{error}");
        captured
    }
}
