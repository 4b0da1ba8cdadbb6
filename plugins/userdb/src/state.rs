//! Users and groups in the state of the plugin, which other programs of the machine may change.

use plugind_sdk::StartError;
use std::{fs, io::ErrorKind};

/// Where they are, if the manifest grants a state.
const FILE: &str = "/state/users";

/// Reads `NAME = VALUE` of each line, with the values of `[config]`. Empty lines and those that begin with `#` are ignored.
///
/// # Errors
/// When the file cannot be read, or a line has no value.
#[expect(clippy::disallowed_methods, reason = "the errors below name the path")]
pub(crate) fn read() -> Result<Vec<(String, String)>, StartError> {
    let text = match fs::read_to_string(FILE) {
        Ok(text) => text,
        // It has no state, or nothing is in it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StartError::Unavailable(format!("{FILE}: {error}"))),
    };
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let records = lines.map(|line| {
        let (name, value) = line.split_once('=').ok_or_else(|| {
            StartError::Configuration(format!("{FILE}: a line must be NAME = VALUE, not {line:?}"))
        })?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    records.collect()
}
