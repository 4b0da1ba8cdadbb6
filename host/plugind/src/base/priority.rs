//! The priority of a log entry.

/// The priorities of syslog(3) that are used, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words of syslog(3)")]
pub enum Priority {
    Critical,
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

impl Priority {
    /// All of them, with their names in syslog(3).
    pub const ALL: [(&str, Self); 6] = [
        ("crit", Self::Critical),
        ("err", Self::Error),
        ("warning", Self::Warning),
        ("notice", Self::Notice),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];

    /// Its name in syslog(3).
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// Its number in syslog(3): the lower, the more important.
    #[must_use]
    pub fn number(self) -> u8 {
        // Of the eight the two most important ones are the system's.
        self as u8 + 2
    }

    /// The one with this number, if it is one of those that are used.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL
            .iter()
            .map(|(_, priority)| *priority)
            .find(|one| i64::from(one.number()) == number)
    }
}
