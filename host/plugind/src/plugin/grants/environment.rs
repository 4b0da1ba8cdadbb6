//! `grants.environment`: environment variables.

use crate::config::Table;
use std::collections::BTreeMap;

pub(super) fn read(table: &Table<'_>) -> BTreeMap<String, String> {
    let environment = table.texts("environment");
    let is_none = |(name, value): &(&String, &String)| {
        name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
    };
    if let Some((name, _)) = environment.iter().find(is_none) {
        table.complain_about(
            "environment",
            format!(
                "grants.environment must have names that are not empty and do not contain \"=\", and names and values \
                 without NUL; correct the variable {name:?}"
            ),
        );
    }
    environment
}
