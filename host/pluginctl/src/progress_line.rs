//! A progress line on a terminal, which disappears before other output.

use plugind::base::text::Escaped;
use std::io::{self, IsTerminal, Write};

/// The line, which is nowhere but on a terminal.
pub(crate) struct ProgressLine {
    terminal: bool,
    shown: bool,
}

impl ProgressLine {
    /// One on standard output.
    pub(crate) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), shown: false }
    }

    /// Whether there is a terminal to show it.
    pub(crate) fn is_seen(&self) -> bool {
        self.terminal
    }

    /// Shows this.
    pub(crate) fn show(&mut self, line: &str) -> io::Result<()> {
        self.clear()?;
        if !self.terminal {
            return Ok(());
        }
        self.shown = true;
        // The terminal cuts off the end of a long line while it is written, since a second line would stay.
        let mut stdout = io::stdout().lock();
        write!(stdout, "\x1b[?7l{}\x1b[?7h", Escaped(line))?;
        stdout.flush()
    }

    /// Takes it away.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.shown) {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(b"\r\x1b[K")?;
        stdout.flush()
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing any more.
        self.clear().ok();
    }
}
