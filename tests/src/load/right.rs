//! The correct answers, and the versions of a plugin that may give them.

use super::wire::Answer;
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
};

/// The correct answers.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// This text.
    Text(&'static str),
    /// The text `version N` of a version that may answer.
    Version(&'a Versions),
    /// This text, sent back by a version that may answer.
    Echo(&'static str, &'a Versions),
    /// This many bytes of a version that may answer, none of which another version sends.
    Stream(usize, &'a Versions),
    /// The text of `counts`: always the same worker of one generation, and one more than before.
    Counts,
    /// The text of `counts` where each request has an instance of its own, of one generation.
    CountsAfresh,
}

/// The versions of a plugin, of which a test knows when each may answer.
#[derive(Default)]
pub struct Versions(Mutex<Known>);

#[derive(Default)]
struct Known {
    may_answer: BTreeSet<u64>,
    oldest: u64,
}

/// The facts about a request and earlier ones that are needed to check its answer.
#[derive(Default)]
pub(super) struct Checker {
    oldest: u64,
    counted: Option<(String, u64)>,
}

impl Versions {
    /// From now on this version may become ready, and answer as soon as it is.
    pub fn may_answer(&self, version: u64) {
        self.known().may_answer.insert(version);
    }

    /// Requests from now on are answered by no version that is older than this one.
    pub fn answers(&self, version: u64) {
        let mut known = self.known();
        known.oldest = known.oldest.max(version);
    }

    /// Checks an answer to a request that was sent when this was the oldest version that could answer. If no older
    /// version answers after that, there was a single swap.
    fn check(&self, oldest: u64, version: Option<u64>) -> Result<u64, String> {
        let version = version.ok_or("it has no version")?;
        let may_answer = self.known().may_answer.contains(&version);
        if !may_answer {
            return Err(format!("version {version} was never ready"));
        }
        if version < oldest {
            return Err(format!("version {version} answers after version {oldest} did"));
        }
        self.answers(version);
        Ok(version)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nobody panics while having it")
    }
}

impl Right<'_> {
    /// To be called before anything of a request is sent.
    pub(super) fn ask(self, checker: &mut Checker) {
        if let Self::Version(versions) | Self::Echo(_, versions) | Self::Stream(_, versions) = self
        {
            checker.oldest = versions.known().oldest;
        }
    }

    /// Checks a whole answer of status 200.
    pub(super) fn check(self, checker: &mut Checker, answer: &Answer) -> Result<(), String> {
        let is = |text: &str| match answer.body == text.as_bytes() {
            true => Ok(()),
            false => Err(format!("{:?}", String::from_utf8_lossy(&answer.body))),
        };
        match self {
            Self::Text(text) => is(text),
            Self::Version(versions) => {
                is(&format!("version {}\n", versions.check(checker.oldest, answer.version)?))
            }
            Self::Echo(text, versions) => {
                versions.check(checker.oldest, answer.version)?;
                is(text)
            }
            Self::Stream(length, versions) => {
                let version = versions.check(checker.oldest, answer.version)?;
                is_stream(version, length, &answer.body)
            }
            Self::Counts | Self::CountsAfresh => {
                self.count(checker, &String::from_utf8_lossy(&answer.body))
            }
        }
    }

    fn count(self, checker: &mut Checker, text: &str) -> Result<(), String> {
        let odd = || format!("{text:?} after {:?}", checker.counted);
        let (who, count) = text.rsplit_once(" count=").ok_or_else(odd)?;
        let count: u64 = count.parse().map_err(|_| odd())?;
        let (who, expected) = match self {
            // Only the generation stays.
            Self::CountsAfresh => (who.split_once(' ').ok_or_else(odd)?.1, 1),
            _ => (who, checker.counted.as_ref().map_or(count, |(_, before)| before + 1)),
        };
        let same = checker.counted.as_ref().is_none_or(|(before, _)| before == who);
        if !same || count != expected {
            return Err(odd());
        }
        checker.counted = Some((who.to_owned(), count));
        Ok(())
    }
}

/// Compares byte by byte with what the guest `versions` streams.
fn is_stream(version: u64, length: usize, body: &[u8]) -> Result<(), String> {
    if body.len() != length {
        return Err(format!("{} bytes instead of {length}", body.len()));
    }
    let byte = |place: u32| {
        let [first, ..] = place.wrapping_mul(2_654_435_761).to_be_bytes();
        first.wrapping_add(version.to_le_bytes()[0])
    };
    match (0..).map(byte).zip(body).position(|(expected, byte)| expected != *byte) {
        Some(place) => Err(format!("version {version} has another byte at {place}")),
        None => Ok(()),
    }
}
