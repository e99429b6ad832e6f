//! Negotiates the compression of messages: the extension `permessage-deflate` (RFC 7692).

use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_EXTENSIONS};

/// The answer to an offer: each message of either side is compressed from nothing. So one compressed message goes to
/// many clients, and nobody keeps a window between messages.
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// The answer to an offer that names the largest window. It must be repeated.
const ANSWER_WITH_WINDOW: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15";

/// The largest window. Shared messages are compressed with it.
const MAX_WINDOW_BITS: u8 = 15;

/// Accepts the first offer of `permessage-deflate` that fits. Returns the value of the response's
/// `sec-websocket-extensions` header; `None` if no offer fits.
pub(crate) fn accept_deflate(headers: &HeaderMap) -> Option<HeaderValue> {
    headers
        .get_all(SEC_WEBSOCKET_EXTENSIONS)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .find_map(answer)
        .map(HeaderValue::from_static)
}

/// The answer to one offer. `None` for another extension, a small window of ours, and parameters that are unknown,
/// malformed or repeated.
fn answer(offer: &str) -> Option<&'static str> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let (mut seen, mut answer) = (Vec::new(), ANSWER);
    for parameter in parts {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
            None => (parameter, None),
        };
        match (name, value) {
            (
                "server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits",
                None,
            ) => {}
            ("client_max_window_bits", Some(value)) => drop(window_bits(value)?),
            ("server_max_window_bits", Some(value)) if window_bits(value)? == MAX_WINDOW_BITS => {
                answer = ANSWER_WITH_WINDOW;
            }
            _ => return None,
        }
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(answer)
}

/// Reads the size of a window: 8 to 15, perhaps in quotes.
fn window_bits(value: &str) -> Option<u8> {
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let bits = unquoted.unwrap_or(value);
    let is_plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && !bits.starts_with('0');
    bits.parse().ok().filter(|bits| is_plain && (8..=MAX_WINDOW_BITS).contains(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(lines: &[&'static str]) -> Option<String> {
        let header = |line: &&'static str| (SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(line));
        let answer = accept_deflate(&lines.iter().map(header).collect());
        answer.map(|answer| answer.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_offers_of_browsers_and_libraries_are_accepted() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=15",
            "permessage-deflate; client_max_window_bits = \"8\"",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate",
        ] {
            assert_eq!(accepts(&[offer]).as_deref(), Some(ANSWER), "{offer}");
        }
        assert_eq!(accepts(&["bbf-usp-protocol", "permessage-deflate"]).as_deref(), Some(ANSWER));
    }

    #[test]
    fn the_largest_window_is_confirmed_and_a_smaller_one_is_declined() {
        for value in ["15", "\"15\""] {
            let offer: &str = format!("permessage-deflate; server_max_window_bits={value}").leak();
            assert_eq!(accepts(&[offer]).as_deref(), Some(ANSWER_WITH_WINDOW));
        }
        assert_eq!(accepts(&["permessage-deflate; server_max_window_bits=14"]), None);
        let second = "permessage-deflate; server_max_window_bits=10, permessage-deflate";
        assert_eq!(accepts(&[second]).as_deref(), Some(ANSWER));
    }

    #[test]
    fn unknown_malformed_and_repeated_parameters_decline_an_offer() {
        for offer in [
            "",
            "permessage-bzip2",
            "Permessage-Deflate-2",
            "permessage-deflate; x",
            "permessage-deflate;",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; client_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"15",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=15",
        ] {
            assert_eq!(accepts(&[offer]), None, "{offer}");
        }
        assert_eq!(accepts(&[]), None);
    }
}
