//! Attempts, from inside the process that loads it, what the unit of the daemon should refuse; for tests alone.
//!
//! `LD_PRELOAD=` brings it into plugind. A thread then waits at the socket `probe` in the state directory for the names
//! of acts, one a line, each with an argument that may be empty, and answers each with `done` or with what refused it.
//! Every act is attempted by a thread of its own, so that what an act changes of a thread goes with it.

mod acts;
mod system;

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    thread,
};

/// A function that the loader calls before the program begins.
#[used]
#[allow(unsafe_code, reason = "a section of the library says what the loader should call")]
// SAFETY: The loader calls what stands in this section, with arguments that a function of C need not take.
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    let daemon = env::current_exe().is_ok_and(|program| program.ends_with("plugind"));
    let state = env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    if let Some(state) = state.filter(|_| daemon) {
        let place = state.join("probe");
        // That of a daemon before this one.
        std::fs::remove_file(&place).ok();
        if let Ok(listener) = UnixListener::bind(place) {
            thread::spawn(move || {
                for connection in listener.incoming().flatten() {
                    answer(connection).ok();
                }
            });
        }
    }
}

fn answer(connection: UnixStream) -> io::Result<()> {
    let mut answers = connection.try_clone()?;
    for line in BufReader::new(connection).lines() {
        let line = line?;
        let (act, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let (act, argument) = (act.to_owned(), argument.to_owned());
        let attempted = thread::spawn(move || acts::attempt(&act, &argument)).join();
        match attempted {
            Ok(Ok(())) => writeln!(answers, "done")?,
            Ok(Err(error)) => writeln!(answers, "{}", error.to_string().replace('\n', " "))?,
            Err(_) => writeln!(answers, "the act panicked")?,
        }
    }
    Ok(())
}
