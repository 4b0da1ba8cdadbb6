//! The terminal while `pluginctl top` uses it: the alternate screen, without echo of keys.

use ratatui::DefaultTerminal;
use std::io;

/// The terminal. Dropping this restores it, and so does a panic, before its message is printed.
pub(super) struct Screen(pub(super) DefaultTerminal);

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init();
        if terminal.is_err() {
            // Part of the initialization may have succeeded.
            ratatui::try_restore().ok();
        }
        terminal.map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.0.show_cursor().ok();
        // A terminal that was closed need not be restored.
        ratatui::try_restore().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_panic_restores_the_terminal_before_it_is_printed() {
        let itself = std::env::current_exe().unwrap();
        let test = "top::screen::tests::panics --exact --ignored --nocapture";
        let command = format!("{} {test}", itself.display());
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null());
        let shown = String::from_utf8(terminal.output().unwrap().stdout).unwrap();
        let place =
            |part: &str| shown.find(part).unwrap_or_else(|| panic!("{part:?} is not in {shown:?}"));
        assert!(place("\x1b[?1049h") < place("\x1b[?1049l"), "{shown:?}");
        assert!(place("\x1b[?1049l") < place("a panic on purpose"), "{shown:?}");
    }

    #[test]
    #[ignore = "the test above runs it on a terminal"]
    fn panics() {
        let _screen = Screen::open().unwrap();
        panic!("a panic on purpose");
    }
}
