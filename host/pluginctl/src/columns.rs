//! Tables for people: columns as wide as they need to be, as systemctl(1) prints them.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Lays `rows` out below `header`, of which each has as many cells. Cells are shown as they are: whoever calls this
/// has made sure that nothing in them steers a terminal.
pub(crate) fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    table.trim_fmt().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
