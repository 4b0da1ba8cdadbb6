//! Numbers that look random and are the same for the same seed.

use std::env;

/// The number in an environment variable, unless that is empty or missing.
///
/// # Panics
/// When it is not a number.
#[must_use]
pub fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {value:?}")))
}

/// The generator xorshift64* (Vigna, 2016).
pub struct Random(u64);

impl Random {
    /// One that begins with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).expect("it has 31 bits") % end
    }

    /// One of these.
    ///
    /// # Panics
    /// When there is none.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Another generator, for a thread of its own.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(u64::try_from(self.below(1 << 30)).expect("it has 30 bits"))
    }
}
