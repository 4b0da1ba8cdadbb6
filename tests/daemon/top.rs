//! `pluginctl top` on a terminal: what it shows, what its keys do, and that it leaves the terminal as it was.

use crate::control;
use plugind_tests::{Signal, Terminal, Tree, program};
use std::ffi::OsStr;

/// `pluginctl top` on a terminal with so many lines and columns, once it shows its table.
fn top(tree: &Tree, arguments: &[&str], size: (u16, u16)) -> Terminal {
    let root = ["--root".as_ref(), tree.root().as_os_str()];
    let arguments = arguments.iter().map(OsStr::new);
    let arguments: Vec<_> = [OsStr::new("top")].into_iter().chain(arguments).chain(root).collect();
    let terminal = Terminal::run(&program("pluginctl"), &arguments, size);
    terminal.wait_for("the table", |screen| screen.contents().contains("\nNAME "));
    terminal
}

/// The first words of the lines below the header.
fn names(text: &str) -> Vec<&str> {
    let rows = text.lines().skip(2).take_while(|line| !line.is_empty());
    rows.filter_map(|row| row.split_whitespace().next()).collect()
}

#[test]
fn top_sorts_by_keys_fits_its_terminal_and_leaves_it_as_it_was() {
    let tree = Tree::new().with("headers").with("statuses");
    let daemon = control::start(&tree);
    let mut terminal = top(&tree, &["--sort", "name"], (24, 120));
    terminal.wait_for("both plugins", |screen| {
        let text = screen.contents();
        text.starts_with("2 plugins, 0 failed") && names(&text) == ["headers", "statuses"]
    });
    assert!(terminal.text().contains(" STATUS"), "{}", terminal.text());
    terminal.press("i");
    let order = ["statuses", "headers"];
    terminal.wait_for("the opposite order", |screen| names(&screen.contents()) == order);
    terminal.press("in\x1b[C\x1b[D");
    let order = ["headers", "statuses"];
    terminal.wait_for("the order of names", |screen| names(&screen.contents()) == order);

    // The figures change by themselves.
    assert_eq!(daemon.get("/statuses/200").status(), 200);
    terminal.press("r");
    let order = ["statuses", "headers"];
    terminal.wait_for("the new figures", |screen| names(&screen.contents()) == order);

    terminal.resize((5, 30));
    terminal.wait_for("the smaller screen", |screen| {
        let text = screen.contents();
        let fits = text.lines().all(|line| line.chars().count() <= 30);
        // Its last line is there when it was drawn again. A key before that could wait for the next key.
        let is_drawn = text.contains("q: quit");
        fits && is_drawn && !text.contains("LIMIT") && text.contains("NAME")
    });
    terminal.press("q");
    assert_eq!(terminal.wait(), Some(0));
}

#[test]
fn top_restores_the_terminal_at_keys_signals_and_the_end_of_the_daemon() {
    let tree = Tree::new().with("headers");
    let mut daemon = control::start(&tree);
    let mut fresh = Terminal::run("true".as_ref(), &[""; 0], (24, 80));
    assert_eq!(fresh.wait(), Some(0));
    let modes = fresh.modes();
    let end = |how: &dyn Fn(&mut Terminal), status: i32, message: &str| {
        let mut terminal = top(&tree, &[], (24, 80));
        terminal.wait_for("the second screen", |screen| {
            screen.alternate_screen() && screen.hide_cursor()
        });
        assert_ne!(terminal.modes(), modes, "keys are not echoed");
        how(&mut terminal);
        assert_eq!(terminal.wait(), Some(status), "{}", terminal.text());
        assert_eq!(terminal.modes(), modes);
        terminal.wait_for("the first screen", |screen| {
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        assert!(terminal.text().starts_with(message), "{}", terminal.text());
    };
    for key in ["q", "\x03", "\x1b"] {
        end(&|terminal| terminal.press(key), 0, "");
    }
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        end(&|terminal| terminal.signal(signal), status, "interrupted; plugind continues");
    }
    let mut terminal = top(&tree, &[], (24, 80));
    assert_eq!(daemon.stop(), 0);
    assert_eq!(terminal.wait(), Some(1), "{}", terminal.text());
    assert_eq!(terminal.modes(), modes);
    assert!(terminal.text().starts_with("plugind ended before it answered"), "{}", terminal.text());
}
