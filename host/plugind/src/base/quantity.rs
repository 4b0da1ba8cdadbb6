//! Sizes, spans of time, rates and shares, spelled as systemd spells them (systemd.syntax(7), systemd.time(7)).

use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes: `64M` is 64 × 1024 × 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A span of time: `5min 20s`; a number alone means seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// So many within a span of time: `1000/10s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number.
    pub count: u32,
    /// The span of time.
    pub every: Duration,
}

/// A share of one processor: `50%` is half of one, `200%` is two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u32);

/// The value of `infinity`: longer than anything lasts, and short enough to be added to a moment.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// More processors than a machine has.
const PERCENT_MAX: u32 = 100 * 10_000;

/// Why a text is not such a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is not a size.
    #[error("{0:?} is not a size; write a number with K, M or G, as in \"64M\"")]
    Bytes(String),
    /// It is not a time span.
    #[error("{0:?} is not a time span; write \"30s\", \"5min\" or \"1min 30s\"")]
    Span(String),
    /// It is not a rate.
    #[error("{0:?} is not a rate; write a number, a slash and a time span, as in \"1000/10s\"")]
    Rate(String),
    /// It is not a share.
    #[error(
        "{0:?} is not a share of a processor; write a whole number of at least 1 and %, as in \"50%\""
    )]
    Percent(String),
}

impl FromStr for Bytes {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let parse = parse_size::Config::new().with_binary();
        parse.parse_size(text).map(Self).map_err(|_| QuantityError::Bytes(text.to_owned()))
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong = || QuantityError::Span(text.to_owned());
        let span = match text.trim().parse::<f64>() {
            _ if text.trim() == "infinity" => FOREVER,
            Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?,
            Err(_) => humantime::parse_duration(text).map_err(|_| wrong())?,
        };
        if span > FOREVER {
            return Err(wrong());
        }
        Ok(Self(span))
    }
}

impl FromStr for Rate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong = || QuantityError::Rate(text.to_owned());
        let (count, every) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        let every = every.parse::<Span>().map_err(|_| wrong())?.0;
        if every.is_zero() {
            return Err(wrong());
        }
        Ok(Self { count, every })
    }
}

impl FromStr for Percent {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
        match number.filter(|number| (1..=PERCENT_MAX).contains(number)) {
            Some(number) => Ok(Self(number)),
            None => Err(QuantityError::Percent(text.to_owned())),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_in_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("64M", 64 << 20), ("1G", 1 << 30), ("2K", 2048)]
        {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for text in ["", "M", "64 apples", "-1", "64MM"] {
            assert!(text.parse::<Bytes>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_number_alone_is_a_number_of_seconds() {
        let seconds = |seconds| Ok(Span(Duration::from_secs(seconds)));
        for (text, span) in [
            ("30", seconds(30)),
            ("5min", seconds(300)),
            ("1min 30s", seconds(90)),
            ("2h", seconds(7200)),
        ] {
            assert_eq!(text.parse(), span, "{text}");
        }
        assert_eq!("1.5".parse(), Ok(Span(Duration::from_millis(1500))));
        assert_eq!("100ms".parse(), Ok(Span(Duration::from_millis(100))));
        assert_eq!("infinity".parse(), Ok(Span(FOREVER)));
        for text in ["", "-1", "soon", "5 parsecs", "nan", "inf", "1e19", "300years"] {
            assert!(text.parse::<Span>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        assert_eq!("1000/10s".parse(), Ok(Rate { count: 1000, every: Duration::from_secs(10) }));
        for text in ["", "1000", "/10s", "1000/", "1000/0s", "x/10s"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_share_is_a_number_of_hundredths() {
        assert_eq!("50%".parse(), Ok(Percent(50)));
        assert_eq!("200 %".parse(), Ok(Percent(200)));
        for text in ["", "%", "50", "0%", "-1%", "0.5%", "4294967296%", "1000001%"] {
            assert!(text.parse::<Percent>().is_err(), "{text:?} was accepted");
        }
    }
}
