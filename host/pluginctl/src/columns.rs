//! Tables for people: columns as wide as they need to be, as systemctl(1) prints them.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use plugind::base::text::Escaped;

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

fn escaped(row: Vec<String>) -> Vec<String> {
    row.iter().map(|cell| Escaped(cell).to_string()).collect()
}
