//! Tables for people: columns as wide as they need to be, as systemctl(1) prints them.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use plugind::base::text::Escaped;
use std::io;

/// Lays `rows` out below `header`, of which each has as many cells. What would end a line or steer a terminal is
/// escaped.
pub(crate) fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows.into_iter().map(escaped));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    table.trim_fmt().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Cuts what does not fit the terminal's width off, if standard output is a terminal.
pub(crate) fn cut_to_terminal(text: &str) -> String {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    match size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0) {
        Some(width) => cut_to(text, width),
        None => text.to_owned(),
    }
}

fn cut_to(text: &str, width: usize) -> String {
    let cut = |line: &str| match line.char_indices().nth(width) {
        // The last column says that there is more.
        Some(_) => line.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        None => line.to_owned(),
    };
    text.lines().map(|line| cut(line) + "\n").collect()
}

fn escaped(row: Vec<String>) -> Vec<String> {
    row.iter().map(|cell| Escaped(cell).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        assert_eq!(cut_to("abcd\näbcde\n\n", 4), "abcd\näbc…\n\n");
    }
}
