//! Tables for people: columns as wide as they need to be, as systemctl(1) prints them.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use plugind::base::text::Escaped;
use std::io;

/// Lays out `rows` below `header`, each with the same number of cells. Characters that would end a line or control a
/// terminal are escaped.
pub(crate) fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows.into_iter().map(escaped));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    table.trim_fmt().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The number of spaces between two columns of a table.
pub(crate) const SPACING: usize = 2;

/// Returns the indexes of the columns that fit: `columns` has the width and the importance of each. The least important
/// ones are left out, but never those of the importance [`KEPT`].
pub(crate) fn fitting(columns: &[(usize, u8)], width: usize) -> Vec<usize> {
    let mut places: Vec<_> = (0..columns.len()).collect();
    // No space follows the last column.
    let needed = |places: &[usize]| {
        places.iter().map(|place| columns[*place].0.saturating_add(SPACING)).sum::<usize>()
    };
    while needed(&places) > width.saturating_add(SPACING) {
        let least = places.iter().filter(|place| columns[**place].1 < KEPT);
        let Some(least) = least.min_by_key(|place| columns[**place].1).copied() else { break };
        places.retain(|place| *place != least);
    }
    places
}

/// The importance of a column that is never left out.
pub(crate) const KEPT: u8 = u8::MAX;

/// The width of the terminal, if standard output is one.
pub(crate) fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Cuts lines at the width of the terminal, if standard output is one.
pub(crate) fn cut_to_terminal(text: &str) -> String {
    match terminal_width() {
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
    fn the_least_important_columns_are_left_out_where_not_all_fit() {
        let columns = [(4, KEPT), (10, 1), (10, 3), (10, 2)];
        assert_eq!(fitting(&columns, 40), [0, 1, 2, 3]);
        assert_eq!(fitting(&columns, 39), [0, 2, 3]);
        assert_eq!(fitting(&columns, 20), [0, 2]);
        assert_eq!(fitting(&columns, 0), [0]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        assert_eq!(cut_to("abcd\näbcde\n\n", 4), "abcd\näbc…\n\n");
    }
}
