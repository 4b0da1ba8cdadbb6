//! A line on a terminal that says what is awaited, and is gone when something else is said.

use plugind::text::Escaped;
use std::io::{self, IsTerminal, Write};

/// How many names are told of those that are awaited.
const NAMES: usize = 5;

/// The line, which is nowhere but on a terminal.
pub(crate) struct Live {
    terminal: bool,
    shown: bool,
}

impl Live {
    /// One on standard output.
    pub(crate) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), shown: false }
    }

    /// Shows that these are awaited.
    pub(crate) fn show(&mut self, awaited: &[String]) -> io::Result<()> {
        self.clear()?;
        if !self.terminal || awaited.is_empty() {
            return Ok(());
        }
        self.shown = true;
        // While it is written the terminal cuts what is too long off, since a second line would stay.
        let mut stdout = io::stdout().lock();
        write!(stdout, "\x1b[?7l{}\x1b[?7h", Escaped(&line(awaited)))?;
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

impl Drop for Live {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing any more.
        self.clear().ok();
    }
}

fn line(awaited: &[String]) -> String {
    let names = awaited.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match awaited.len().saturating_sub(NAMES) {
        0 => format!("waiting for {names}"),
        more => format!("waiting for {names} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_are_awaited_the_line_is_short() {
        let awaited: Vec<_> = (1..=1000).map(|nth| format!("p{nth}")).collect();
        assert_eq!(line(&awaited[..2]), "waiting for p1, p2");
        assert_eq!(line(&awaited), "waiting for p1, p2, p3, p4, p5 and 995 more");
    }
}
