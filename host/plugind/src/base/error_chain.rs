//! An error with all its causes on one line, for the one place where it is printed.

use std::{error::Error, fmt};

/// Shows an error as `what failed: because: because`.
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
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

    #[test]
    fn every_cause_is_printed_once() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = ReadError { path: "/etc/x", source };
        assert_eq!(ErrorChain(&error).to_string(), "cannot read /etc/x: no such file");
    }
}
