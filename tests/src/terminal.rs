//! A program on a terminal of its own, and what it shows there.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use crate::{eventually, wait_max};
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};
use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};
use vt100::{Parser, Screen};

/// A program on a terminal, which ends with this.
pub struct Terminal {
    program: Child,
    /// The side of the terminal that a person sits at.
    keyboard: File,
    /// The side of the program, so that the terminal and its modes outlast it.
    line: OwnedFd,
    shown: Arc<Mutex<Parser>>,
}

impl Terminal {
    /// Runs a program on a terminal of this size.
    #[must_use]
    pub fn run<A: AsRef<OsStr>>(program: &Path, arguments: &[A], size: (u16, u16)) -> Self {
        let keyboard =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = open(name, flags, Mode::empty()).unwrap();
        let (lines, columns) = whole(size);
        let shown = Arc::new(Mutex::new(Parser::new(lines, columns, 0)));
        resize(&keyboard, size);
        let keyboard = File::from(keyboard);
        let mut output = keyboard.try_clone().unwrap();
        let screen = shown.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It fails once nothing has the other side open.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                screen.lock().unwrap().process(&bytes[..count]);
            }
        });
        let side = || line.try_clone().unwrap();
        // It becomes the terminal that signals about its size come from.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--"]).arg(program).args(arguments);
        command.env_clear().env("TERM", "xterm-256color");
        command.stdin(side()).stdout(side()).stderr(side());
        let program = command.spawn().unwrap();
        Self { program, keyboard, line, shown }
    }

    /// Types keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives the terminal this size.
    pub fn resize(&self, size: (u16, u16)) {
        let (lines, columns) = whole(size);
        self.parser().screen_mut().set_size(lines, columns);
        resize(&self.keyboard, size);
    }

    /// Waits until the terminal shows something.
    ///
    /// # Panics
    /// When it does not for too long.
    pub fn wait_for(&self, what: &str, seen: impl Fn(&Screen) -> bool) {
        let deadline = Instant::now() + wait_max();
        while !seen(self.parser().screen()) {
            let text = self.text();
            assert!(Instant::now() < deadline, "waited too long for {what}:\n{text}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The text that it shows.
    #[must_use]
    pub fn text(&self) -> String {
        self.parser().screen().contents()
    }

    /// The modes of the terminal: whether lines are edited, keys echoed, and more.
    #[must_use]
    pub fn modes(&self) -> String {
        format!("{:?}", tcgetattr(&self.line).unwrap())
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// The exit status of the program, once it has ended and all that it wrote is shown.
    pub fn wait(&mut self) -> Option<i32> {
        let status = eventually("the program to end", || self.program.try_wait().unwrap());
        // What is written now is shown after all that the program wrote.
        let mark = "the terminal is free";
        File::from(self.line.try_clone().unwrap()).write_all(mark.as_bytes()).unwrap();
        self.wait_for(mark, |screen| screen.contents().contains(mark));
        status.code()
    }

    fn parser(&self) -> MutexGuard<'_, Parser> {
        self.shown.lock().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.program.kill().ok();
        self.program.wait().ok();
    }
}

fn resize(terminal: impl AsFd, (ws_row, ws_col): (u16, u16)) {
    let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

fn whole((lines, columns): (u16, u16)) -> (NonZero<u16>, NonZero<u16>) {
    let number = |number| NonZero::new(number).expect("a terminal has lines and columns");
    (number(lines), number(columns))
}
