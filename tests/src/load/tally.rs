//! The outcomes of requests, counted.

use std::{
    fmt,
    io::{self, ErrorKind},
    time::Duration,
};

/// Number of failures of a sort that are shown.
const SHOWN: usize = 10;

/// The outcomes of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were answered correctly.
    pub answered: usize,
    /// Requests whose client could not connect.
    pub refused: usize,
    /// Connections that broke off before there was a whole answer.
    pub reset: usize,
    /// Requests that got no answer in time.
    pub late: usize,
    /// Requests that were answered with a status other than 200.
    pub failed: usize,
    /// Connections that a client would have kept and that were closed after an answer that said so.
    pub closed: usize,
    /// The longest time from a request, with its connection if that is new, to its answer.
    pub longest: Duration,
    /// Answers that are not right.
    pub wrong: Vec<String>,
    /// The messages of the other failures.
    pub reported: Vec<String>,
}

impl Tally {
    /// Returns the failures in readable form; empty if there were none.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let counts = [
            ("refused", self.refused),
            ("reset", self.reset),
            ("late", self.late),
            ("failed", self.failed),
        ];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        let counts = counts.map(|(what, count)| format!("{count} {what}"));
        let wrong = self.wrong.len();
        let counts = counts.chain((wrong > 0).then(|| format!("{wrong} wrong")));
        let reported =
            [&self.reported, &self.wrong].map(|reported| reported.iter().take(SHOWN).cloned());
        counts.chain(reported.into_iter().flatten()).collect()
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.answered += other.answered;
        self.refused += other.refused;
        self.reset += other.reset;
        self.late += other.late;
        self.failed += other.failed;
        self.closed += other.closed;
        self.longest = self.longest.max(other.longest);
        self.wrong.append(&mut other.wrong);
        self.reported.append(&mut other.reported);
        self
    }

    /// A connection that broke off, or on which nothing came.
    pub(super) fn broke_off(&mut self, who: &impl fmt::Display, error: &io::Error) {
        match error.kind() {
            ErrorKind::WouldBlock => self.late += 1,
            _ => self.reset += 1,
        }
        self.reported.push(format!("{who}: {error}"));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, refused, reset, late, failed, closed, longest, wrong, .. } = self;
        let wrong = wrong.len();
        write!(
            f,
            "{answered} answered, {refused} refused, {reset} reset, {late} late, {failed} failed, {wrong} wrong, {closed} closed, longest wait {} ms",
            longest.as_millis()
        )
    }
}
