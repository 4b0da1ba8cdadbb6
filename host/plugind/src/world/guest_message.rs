//! A message as an instance holds it: received, or made by the guest.

use bytes::Bytes;

/// Assumed size of a header besides its name and value.
const HEADER: usize = 64;

/// A message. Clones share its data.
#[derive(Clone, Debug, Default)]
pub struct GuestMessage {
    /// The subject on which it was received; none, if the guest made it.
    pub subject: Option<String>,
    /// Where replies to it are sent, if its sender wants some.
    pub reply_to: Option<String>,
    /// The format of the data, if that is known.
    pub content_type: Option<String>,
    /// Its headers.
    pub metadata: Vec<(String, String)>,
    /// Its contents.
    pub data: Bytes,
}

impl GuestMessage {
    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let metadata = self.metadata.iter().map(|(key, value)| HEADER + key.len() + value.len());
        length(&self.subject)
            + length(&self.reply_to)
            + length(&self.content_type)
            + metadata.sum::<usize>()
            + self.data.len()
    }
}
