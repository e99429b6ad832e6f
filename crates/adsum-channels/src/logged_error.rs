//! Errors in log lines, without the secrets of clients.

use std::{error::Error, fmt};

use adsum_pubsub::log::cut;

use crate::{query::ParamsError, refusal::Refusal};

/// An error in the form for the log: truncated. Errors from parsing a client's data quote the data, so only the parts
/// that can't be the client's values are shown.
pub(crate) enum LoggedError<'e> {
    Error(&'e (dyn Error + 'static)),
    Refusal(&'e Refusal),
}

impl<'e> LoggedError<'e> {
    pub(crate) fn of(refusal: &'e Refusal) -> Self {
        match refusal {
            Refusal::Program(refused) => Self::Error(refused.reason()),
            refusal => Self::Refusal(refusal),
        }
    }
}

impl fmt::Display for LoggedError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Self::Refusal(refusal) => return cut(refusal).fmt(f),
            Self::Error(error) => error,
        };
        if error.is::<serde_json::Error>() || error.is::<ParamsError>() {
            return f.write_str(&without_values(&error.to_string()));
        }
        cut(error).fmt(f)
    }
}

/// Keeps the name of a missing field, which comes from the program's types. Everything else may quote the client.
fn without_values(error: &str) -> String {
    let missing = error.find("missing field `").map(|at| &error[at..]);
    let named = missing.and_then(|text| text.match_indices('`').nth(1).map(|(end, _)| &text[..=end]));
    named.unwrap_or("the data doesn't have the expected shape").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_reading_do_not_quote_what_was_read() {
        #[derive(Debug, serde::Deserialize)]
        struct Login {
            #[expect(dead_code)]
            password: u8,
        }
        let wrong = serde_json::from_str::<Login>(r#"{"password":"hunter2"}"#).unwrap_err();
        assert!(wrong.to_string().contains("hunter2"), "it would quote it");
        let shown = |error: &(dyn Error + 'static)| LoggedError::Error(error).to_string();
        assert_eq!(shown(&wrong), "the data doesn't have the expected shape");
        let bad = crate::serializer::BadMessage::Json(wrong);
        assert!(!shown(&bad).contains("hunter2"));
        let missing = serde_json::from_str::<Login>("{}").unwrap_err();
        assert_eq!(shown(&missing), "missing field `password`");
        assert_eq!(shown(&std::fmt::Error), std::fmt::Error.to_string());
    }
}
