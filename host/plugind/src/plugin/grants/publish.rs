//! `grants.publish`: the subjects to which messages may be sent.

use crate::{base::subject::SubjectPattern, config::Table};

pub(super) fn read(table: &Table<'_>) -> Vec<SubjectPattern> {
    table.list("publish", str::parse)
}
