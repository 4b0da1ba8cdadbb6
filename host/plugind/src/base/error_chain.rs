//! An error with all its causes on one line, for the one place where it is printed.

use std::{error::Error, fmt};

/// Shows an error as `what failed: because: because; remedy`: the remedy of an error follows its causes.
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

/// Separates a failure from its remedy, in the message of an error that has a cause.
const REMEDY: &str = "; ";

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut error, mut remedies) = (self.0, Vec::new());
        while let Some(cause) = error.source() {
            let message = error.to_string();
            let (failure, remedy) = message.split_once(REMEDY).unwrap_or((&message, ""));
            // Some errors repeat their cause.
            if *failure != cause.to_string() {
                write!(f, "{failure}: ")?;
            }
            remedies.extend((!remedy.is_empty()).then(|| remedy.to_owned()));
            error = cause;
        }
        write!(f, "{error}")?;
        remedies.iter().try_for_each(|remedy| write!(f, "{REMEDY}{remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {path}")]
    struct ReadError {
        path: &'static str,
        source: std::io::Error,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct RepeatedError(#[source] ReadError);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot link; see FILES; or ask")]
    struct LinkError(#[source] ReadError);

    fn read_error() -> ReadError {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "none; no such file");
        ReadError { path: "/etc/x", source }
    }

    #[test]
    fn every_cause_is_printed_once() {
        assert_eq!(ErrorChain(&read_error()).to_string(), "cannot read /etc/x: none; no such file");
        let repeated = RepeatedError(read_error());
        assert_eq!(ErrorChain(&repeated).to_string(), "cannot read /etc/x: none; no such file");
    }

    #[test]
    fn the_causes_are_printed_before_the_remedy() {
        assert_eq!(
            ErrorChain(&LinkError(read_error())).to_string(),
            "cannot link: cannot read /etc/x: none; no such file; see FILES; or ask"
        );
    }
}
