//! The identity of one request: a trace of W3C Trace Context, and the span of it that is the request here.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    num::NonZero,
};

/// The header field that carries it between programs.
pub const TRACEPARENT: &str = "traceparent";
/// The length of the field in version 00.
pub const TRACEPARENT_LENGTH: usize = 55;
/// A trace may have been recorded: the journal has it.
const SAMPLED: u8 = 1;

/// One request, as other programs and the journal know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIdentity {
    trace: NonZero<u128>,
    request: NonZero<u64>,
    flags: u8,
}

impl RequestIdentity {
    /// A request that belongs to no other one.
    #[must_use]
    pub fn new() -> Self {
        let trace = u128::from(random().get()) << 64 | u128::from(random().get());
        // The upper half is not 0.
        let trace = NonZero::new(trace).unwrap_or(NonZero::<u128>::MIN);
        Self { trace, request: random(), flags: SAMPLED }
    }

    /// Another request of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { request: random(), ..self }
    }

    /// Reads a `traceparent`; none if it is malformed. Of a later version, only the part
    /// that all versions have is read.
    #[must_use]
    pub fn parse(field: &[u8]) -> Option<Self> {
        let (known, rest) = field.split_at_checked(TRACEPARENT_LENGTH)?;
        let version = number(&known[..2]).filter(|version| *version != 0xff)?;
        let is_separated = [2, 35, 52].iter().all(|place| known[*place] == b'-');
        if !is_separated
            || (version == 0 && !rest.is_empty())
            || rest.first().is_some_and(|next| *next != b'-')
        {
            return None;
        }
        Some(Self {
            trace: NonZero::new(number(&known[3..35])?)?,
            request: NonZero::new(u64::try_from(number(&known[36..52])?).ok()?)?,
            flags: u8::try_from(number(&known[53..])?).ok()?,
        })
    }

    /// Whether its trace is one that is recorded.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Whether another request belongs to the same trace.
    #[must_use]
    pub fn is_of_same_trace(self, other: Self) -> bool {
        self.trace == other.trace
    }

    /// The number of the trace.
    #[must_use]
    pub fn trace_bytes(self) -> [u8; 16] {
        self.trace.get().to_be_bytes()
    }

    /// The number of the request.
    #[must_use]
    pub fn request_bytes(self) -> [u8; 8] {
        self.request.get().to_be_bytes()
    }

    /// The flags of the trace.
    #[must_use]
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// The value of the field `traceparent`.
    #[must_use]
    pub fn traceparent(self) -> [u8; TRACEPARENT_LENGTH] {
        let mut field = [b'-'; TRACEPARENT_LENGTH];
        write_hex(0, &mut field[..2]);
        write_hex(self.trace.get(), &mut field[3..35]);
        write_hex(self.request.get().into(), &mut field[36..52]);
        write_hex(self.flags.into(), &mut field[53..]);
        field
    }

    /// `TRACE_ID=` in the journal.
    #[must_use]
    pub fn trace_id(self) -> impl fmt::Display {
        Hex::<32>(self.trace.get())
    }

    /// `REQUEST_ID=` in the journal: the `parent-id` that the plugin sees.
    #[must_use]
    pub fn request_id(self) -> impl fmt::Display {
        Hex::<16>(self.request.get().into())
    }
}

impl Default for RequestIdentity {
    fn default() -> Self {
        Self::new()
    }
}

/// A number that is not repeated, without a system call. It need not be secret.
fn random() -> NonZero<u64> {
    // Each of these has keys of its own, which begin at random in each thread.
    NonZero::new(RandomState::new().build_hasher().finish()).unwrap_or(NonZero::<u64>::MIN)
}

/// Hexadecimal digits as a number; capital letters are not allowed in these fields.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

fn write_hex(mut number: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// A number with so many hexadecimal digits.
struct Hex<const DIGITS: usize>(u128);

impl<const DIGITS: usize> fmt::Display for Hex<DIGITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const FIELD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_field_is_read_and_written_as_it_was() {
        let identity = RequestIdentity::parse(FIELD.as_bytes()).unwrap();
        assert_eq!(identity.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(identity.request_id().to_string(), "00f067aa0ba902b7");
        assert_eq!(identity.traceparent(), FIELD.as_bytes());
    }

    #[test]
    fn a_malformed_field_is_none() {
        for field in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0ü",
        ] {
            assert_eq!(RequestIdentity::parse(field.as_bytes()), None, "{field}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(
            RequestIdentity::parse(later.as_bytes()),
            RequestIdentity::parse(FIELD.as_bytes())
        );
    }

    #[test]
    fn a_new_identity_differs_from_all_others_and_a_child_keeps_the_trace() {
        let all: Vec<_> = (0..1000).map(|_| RequestIdentity::new()).collect();
        let traces: BTreeSet<_> = all.iter().map(|one| one.trace_id().to_string()).collect();
        let requests: BTreeSet<_> = all.iter().map(|one| one.request_id().to_string()).collect();
        assert_eq!((traces.len(), requests.len()), (1000, 1000));
        let child = all[0].child();
        assert_eq!(child.trace_id().to_string(), all[0].trace_id().to_string());
        assert_ne!(child, all[0]);
        assert_eq!(RequestIdentity::parse(&child.traceparent()), Some(child));
    }
}
