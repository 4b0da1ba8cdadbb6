//! An entry of the journal.

use serde_json::Value;
use std::collections::HashMap;

/// An entry of the journal.
#[derive(Clone, Debug)]
pub struct Entry(HashMap<String, Vec<String>>);

impl Entry {
    /// One that `journalctl --output=json` printed.
    pub(crate) fn parse(line: &str) -> Self {
        let object: HashMap<String, Value> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:.200}"));
        Self(object.into_iter().map(|(name, value)| (name, values(value))).collect())
    }

    /// The value of a field, if the entry has exactly one of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.0.get(name).map(Vec::as_slice) {
            Some([one]) => Some(one),
            _ => None,
        }
    }

    /// The value of a field that the entry must have.
    ///
    /// # Panics
    /// When it does not have exactly one.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("there is not one {name} in {self:?}"))
    }

    /// All names of fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// `journalctl` writes a value as text, or as its bytes if it is not text, and several of one name as a list.
fn values(value: Value) -> Vec<String> {
    let bytes = |list: &[Value]| -> Option<Vec<u8>> {
        list.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
    };
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => match bytes(&list) {
            Some(bytes) => vec![String::from_utf8_lossy(&bytes).into_owned()],
            None => list.into_iter().flat_map(values).collect(),
        },
        other => vec![other.to_string()],
    }
}
