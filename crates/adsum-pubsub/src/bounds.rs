//! Checks of options against their bounds, with one form of error. For the crates of adsum; only the error is public
//! API.

use std::{fmt, time::Duration};

/// Maximum of any time option without a bound of its own. Adding a few such times to the clock can't overflow.
pub const MAX_TIME: Duration = Duration::from_hours(24);

/// An option is out of its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{option}` is {is}; it must be {allowed}")]
pub struct OptionsError {
    option: &'static str,
    is: String,
    allowed: String,
}

impl OptionsError {
    /// An option whose value is not `allowed`.
    pub fn new(option: &'static str, is: impl fmt::Display, allowed: impl fmt::Display) -> Self {
        Self { option, is: is.to_string(), allowed: allowed.to_string() }
    }

    /// The name of the option.
    pub fn option(&self) -> &'static str {
        self.option
    }
}

/// Checks that a value is at least `least` and at most `most`.
pub fn within<T: PartialOrd + fmt::Debug>(
    option: &'static str,
    is: T,
    least: T,
    most: T,
) -> Result<(), OptionsError> {
    if is >= least && is <= most {
        return Ok(());
    }
    Err(OptionsError::new(option, format_args!("{is:?}"), format_args!("between {least:?} and {most:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_is_allowed() {
        assert_eq!(within("heartbeat", 2, 1, 3), Ok(()));
        let second = Duration::from_secs(1);
        let error = within("timeout", Duration::MAX, second, MAX_TIME).unwrap_err();
        assert_eq!(error.option(), "timeout");
        assert!(error.to_string().ends_with("it must be between 1s and 86400s"), "{error}");
    }
}
