//! Hides secrets in the parameters of clients that are logged.

use adsum_pubsub::Payload;
use serde_json::Value;

use crate::query;

/// The placeholder for a hidden value.
const FILTERED: &str = "[FILTERED]";
/// Maximum size of a client's parameters in a log line.
const MAX_SHOWN_BYTES: usize = 1024;
/// By default, values are hidden whose keys contain one of these.
const DEFAULT_FILTERED: [&str; 3] = ["password", "token", "secret"];

/// Hides parameters of clients in the log.
///
/// By default it replaces the values of keys that contain `password`, `token` or `secret`, at any depth and
/// case-insensitively, with `[FILTERED]`. All other values are shown. Of a binary payload only the length is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamFilter(FilterRule);

#[derive(Clone, Debug, PartialEq, Eq)]
enum FilterRule {
    Discard(Vec<String>),
    Keep(Vec<String>),
}

impl ParamFilter {
    /// Hides the values of keys that contain one of these, case-insensitively.
    pub fn discard<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        Self(FilterRule::Discard(keys.into_iter().map(str::to_lowercase).collect()))
    }

    /// Hides all values except those of these keys, which are shown in full.
    pub fn keep<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        Self(FilterRule::Keep(keys.into_iter().map(str::to_owned).collect()))
    }

    /// Hides nothing.
    pub fn off() -> Self {
        Self::discard([])
    }

    /// Formats a payload for the log, in at most about a kilobyte.
    pub fn show(&self, payload: &Payload) -> String {
        let Payload::Json(json) = payload else { return format!("<{} bytes>", payload.len()) };
        match json.decode() {
            Ok(value) => self.text(value),
            // Nested too deeply to parse, or invalid JSON from a custom serializer.
            Err(_) => format!("<{} bytes of JSON>", payload.len()),
        }
    }

    /// Formats a URI's query for the log.
    pub(crate) fn show_query(&self, uri: &http::Uri) -> String {
        match query::read(uri) {
            Ok(params) => self.text(Value::Object(params)),
            Err(_) => "<a malformed query>".to_owned(),
        }
    }

    /// Formats a value for the log.
    pub(crate) fn show_value(&self, value: Value) -> String {
        self.text(value)
    }

    fn text(&self, mut value: Value) -> String {
        self.filter(&mut value);
        let mut text = value.to_string();
        if text.len() > MAX_SHOWN_BYTES {
            text.truncate(text.floor_char_boundary(MAX_SHOWN_BYTES));
            text.push('…');
        }
        text
    }

    fn filter(&self, value: &mut Value) {
        match (value, &self.0) {
            (Value::Array(values), _) => values.iter_mut().for_each(|value| self.filter(value)),
            (Value::Object(map), FilterRule::Discard(parts)) => {
                for (key, value) in map {
                    let key = key.to_lowercase();
                    if parts.iter().any(|part| key.contains(part)) {
                        *value = FILTERED.into();
                    } else {
                        self.filter(value);
                    }
                }
            }
            (Value::Object(map), FilterRule::Keep(keys)) => {
                map.iter_mut()
                    .filter(|(key, _)| !keys.contains(key))
                    .for_each(|(_, value)| self.filter(value));
            }
            (_, FilterRule::Discard(_)) => {}
            (value, FilterRule::Keep(_)) => *value = FILTERED.into(),
        }
    }
}

impl Default for ParamFilter {
    fn default() -> Self {
        Self::discard(DEFAULT_FILTERED)
    }
}

#[cfg(test)]
mod tests {
    use adsum_pubsub::Json;
    use serde_json::json;

    use super::*;

    fn show(filter: &ParamFilter, value: Value) -> Value {
        let shown = filter.show(&Payload::Json(Json::encode(&value).unwrap()));
        serde_json::from_str(&shown).unwrap()
    }

    #[test]
    fn secrets_are_not_shown_at_any_depth() {
        let filter = ParamFilter::default();
        let shown = show(
            &filter,
            json!({
                "name": "Ada",
                "Password": "hunter2",
                "list": [{"user_password": {"x": "hunter2"}}, "text", 3],
                "deep": {"csrf_token": ["hunter2"], "clientSecret": null},
            }),
        );
        let expected = json!({
            "name": "Ada",
            "Password": FILTERED,
            "list": [{"user_password": FILTERED}, "text", 3],
            "deep": {"csrf_token": FILTERED, "clientSecret": FILTERED},
        });
        assert_eq!(shown, expected);
        let uri = "/?user_id=7&token=hunter2&a%20b=%41".parse().unwrap();
        assert_eq!(filter.show_query(&uri), r#"{"a b":"A","token":"[FILTERED]","user_id":"7"}"#);
        assert_eq!(show(&ParamFilter::off(), json!({"token": 1})), json!({"token": 1}));
    }

    #[test]
    fn only_what_is_to_be_kept_is_shown() {
        let shown = show(
            &ParamFilter::keep(["id", "page"]),
            json!({"id": 7, "id2": 8, "page": {"token": "shown"}, "list": [1, {"id": "x", "y": "z"}]}),
        );
        let expected = json!({
            "id": 7, "id2": FILTERED, "page": {"token": "shown"}, "list": [FILTERED, {"id": "x", "y": FILTERED}]
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_long_deep_or_binary_payload_is_not_shown_in_full() {
        let filter = ParamFilter::default();
        let long = filter.show(&Payload::Json(Json::encode(&"é".repeat(10_000)).unwrap()));
        assert!(long.len() < 2 * MAX_SHOWN_BYTES && long.ends_with('…'));
        let deep = format!("{}{}{}", "[".repeat(1000), r#"{"token":"hunter2"}"#, "]".repeat(1000));
        let shown = filter.show(&Payload::Json(Json::from_encoded(deep)));
        assert_eq!(shown, "<2019 bytes of JSON>");
        assert_eq!(filter.show(&Payload::Binary(vec![1, 2].into())), "<2 bytes>");
    }
}
