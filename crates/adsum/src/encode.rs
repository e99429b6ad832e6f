//! Presences as JSON.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use adsum_pubsub::{
    Json, JsonPart,
    log::{cut, limited},
};
use adsum_tracker::{Diff, JoinedRow, Key, LeaveReason, LeftRow, Meta, Ref, Row};
use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::key_cache::{FetchedInfo, KeyCache};

/// A meta that can't be tracked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// It isn't a JSON object, so it has no place for a ref.
    #[error("a meta must be a JSON object, not {0}; use a struct or a map")]
    NotAnObject(String),
    /// It has a member that adsum sets.
    #[error("a meta can't have the member {0:?}, which adsum adds to each meta; rename it")]
    Reserved(&'static str),
    /// It can't be serialized as JSON, or the tracked meta can't be deserialized as the handler's `Meta`.
    #[error("the meta can't be serialized or deserialized as JSON")]
    Json(#[from] serde_json::Error),
}

/// An info that can't be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InfoError {
    #[error("an info must be a JSON object, not {0}; use a struct or a map")]
    NotAnObject(String),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The members of a meta that adsum sets.
const RESERVED_IN_META: [&str; 3] = ["phx_ref", "phx_ref_prev", "phx_reason"];

/// Encodes a meta. It must have none of the members that adsum sets.
pub(crate) fn encode_meta<M: Serialize>(meta: &M) -> Result<Meta, MetaError> {
    let text = serde_json::to_string(meta)?;
    if !text.starts_with('{') {
        return Err(MetaError::NotAnObject(text.chars().take(40).collect()));
    }
    if let Some(field) = reserved(&text)? {
        return Err(MetaError::Reserved(field));
    }
    // Raw JSON may have spaces between the braces, which would look like members.
    Ok(Meta::from_encoded(if members(&text).is_empty() { "{}".to_owned() } else { text }))
}

/// Decodes a meta. `None` only if the type's `Serialize` and `Deserialize` disagree.
pub(crate) fn decode_meta<M: DeserializeOwned>(meta: &Meta) -> Option<M> {
    serde_json::from_str(meta.as_str())
        .inspect_err(|error| limited!(ERROR, meta = %cut(meta.as_str()), error = %cut(error), "a tracked meta can't be deserialized; it is left out"))
        .ok()
}

/// Returns the first member of a meta that adsum sets.
fn reserved(text: &str) -> Result<Option<&'static str>, serde_json::Error> {
    if !may_have(text, "\"phx_") {
        return Ok(None);
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    Ok(RESERVED_IN_META.into_iter().find(|field| members.contains_key(*field)))
}

/// Searches the text, which is cheaper than parsing every object. Raw JSON may hide a name behind escapes.
fn may_have(text: &str, quoted: &str) -> bool {
    text.contains("\\u") || text.contains(quoted)
}

/// Encodes the members of an info, without the braces around them.
pub(crate) fn encode_info<I: Serialize>(info: &I) -> Result<Box<str>, InfoError> {
    let text = serde_json::to_string(info)?;
    if text == "null" {
        return Ok("".into());
    }
    if !text.starts_with('{') {
        return Err(InfoError::NotAnObject(text.chars().take(40).collect()));
    }
    Ok(members(&without_metas(text)?).into())
}

/// Returns the text between an object's braces.
fn members(object: &str) -> &str {
    object[1..object.len() - 1].trim()
}

fn without_metas(text: String) -> Result<String, serde_json::Error> {
    if !may_have(&text, "\"metas\"") {
        return Ok(text);
    }
    // The values stay as they are written: parsing a long number would change it.
    let mut object: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text)?;
    object.remove("metas");
    serde_json::to_string(&object)
}

/// Writes a key with its metas and info, as a member of a state: `"7":{"metas":[..],"user":{..}}`.
pub(crate) fn state_entry<'r, I>(
    out: &mut Vec<u8>,
    key: &Key,
    rows: impl Iterator<Item = &'r Row>,
    info: Option<&FetchedInfo<I>>,
) {
    write_entry(out, key, rows.map(|row| WrittenMeta { row, previous: row.previous(), reason: None }), info);
}

/// Writes a key with its metas and info, as a member of the joins of a diff.
pub(crate) fn join_entry<'r, I>(
    out: &mut Vec<u8>,
    key: &Key,
    joins: impl Iterator<Item = &'r JoinedRow>,
    info: Option<&FetchedInfo<I>>,
) {
    let metas = joins.map(|joined| WrittenMeta { row: &joined.row, previous: joined.previous, reason: None });
    write_entry(out, key, metas, info);
}

/// Returns the payload of `presence_diff`, and the position in it of each key that joins. `info` returns the info of a
/// key.
pub(crate) fn diff<I>(
    diff: &Diff<KeyCache<I>>,
    info: impl Fn(&Key) -> Option<Arc<FetchedInfo<I>>>,
) -> (Json, Vec<(Key, Range<usize>)>) {
    let mut out = Vec::with_capacity(64 + 160 * (diff.joins.len() + diff.leaves.len()));
    out.extend_from_slice(b"{\"joins\":");
    let mut joins: IndexMap<&Key, Vec<&JoinedRow>> = IndexMap::new();
    for joined in &diff.joins {
        joins.entry(&joined.row.key).or_default().push(joined);
    }
    let mut places = Vec::with_capacity(joins.len());
    object(&mut out, joins, |out, (key, joins)| {
        let start = out.len();
        join_entry(out, key, joins.into_iter(), info(key).as_deref());
        places.push((key.clone(), start..out.len()));
    });
    out.extend_from_slice(b",\"leaves\":");
    let mut leaves: IndexMap<&Key, Vec<&LeftRow<_>>> = IndexMap::new();
    for left in &diff.leaves {
        leaves.entry(&left.row.key).or_default().push(left);
    }
    object(&mut out, leaves, |out, (key, left)| {
        let info = left[0].layer.info();
        let metas = left.iter().map(|left| WrittenMeta {
            row: &left.row,
            previous: left.row.previous(),
            reason: left.reason,
        });
        write_entry(out, key, metas, info.map(|info| &**info));
    });
    out.push(b'}');
    (in_parts(out.into(), &places), places)
}

/// The least size of a part of a diff. A diff of less than two is in one.
const DIFF_PART: usize = 8 * 1024;

/// Cuts a large diff before keys that join. For a client that is sent only some of them, the other parts are shared, and
/// so is their compressed form.
fn in_parts(text: Bytes, places: &[(Key, Range<usize>)]) -> Json {
    if text.len() < 2 * DIFF_PART {
        return Json::from_encoded(text);
    }
    let (mut parts, mut from) = (Vec::new(), 0);
    for (_, place) in places.iter().skip(1) {
        // The comma before a key belongs to its part.
        let to = place.start - 1;
        if to - from >= DIFF_PART {
            parts.push(JsonPart::shared(text.slice(from..to)));
            from = to;
        }
    }
    parts.push(JsonPart::shared(text.slice(from..)));
    Json::from_encoded_parts(parts)
}

/// Returns the payload of `presence_count`.
pub(crate) fn count(presences: usize, keys: usize) -> Json {
    Json::from_encoded(format!("{{\"presences\":{presences},\"keys\":{keys}}}"))
}

/// Writes the braces and commas of an object, and calls `write` for each member.
pub(crate) fn object<T>(
    out: &mut Vec<u8>,
    members: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    enclosed(out, *b"{}", members, &mut write);
}

fn enclosed<T>(
    out: &mut Vec<u8>,
    [open, close]: [u8; 2],
    items: impl IntoIterator<Item = T>,
    write: &mut impl FnMut(&mut Vec<u8>, T),
) {
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(close);
}

fn write_entry<'r, I>(
    out: &mut Vec<u8>,
    key: &Key,
    metas: impl Iterator<Item = WrittenMeta<'r>>,
    info: Option<&FetchedInfo<I>>,
) {
    serde_json::to_writer(&mut *out, key).expect("a string is valid JSON, and a vector takes everything");
    out.extend_from_slice(b":{\"metas\":");
    enclosed(out, *b"[]", metas, &mut |out, meta| write_meta(out, &meta));
    if let Some(info) = info
        && !info.members.is_empty()
    {
        out.push(b',');
        out.extend_from_slice(info.members.as_bytes());
    }
    out.push(b'}');
}

/// A meta, and the members that are added to it.
struct WrittenMeta<'r> {
    row: &'r Row,
    previous: Option<Ref>,
    reason: Option<LeaveReason>,
}

fn write_meta(out: &mut Vec<u8>, meta: &WrittenMeta<'_>) {
    let text = meta.row.meta.as_str();
    let open = &text[..text.len() - 1];
    out.extend_from_slice(open.as_bytes());
    // The added members come last: if a meta smuggles in one of the same name, readers take the last one.
    out.extend_from_slice(if open.len() > 1 { b",\"phx_ref\":\"" } else { b"\"phx_ref\":\"" });
    out.extend_from_slice(&meta.row.reference.text());
    if let Some(previous) = meta.previous {
        out.extend_from_slice(b"\",\"phx_ref_prev\":\"");
        out.extend_from_slice(&previous.text());
    }
    if let Some(reason) = meta.reason {
        out.extend_from_slice(b"\",\"phx_reason\":\"");
        out.extend_from_slice(reason.as_str().as_bytes());
    }
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::RawValue};

    use super::*;

    #[test]
    fn a_meta_with_a_reserved_member_is_refused_by_its_name() {
        for field in RESERVED_IN_META {
            let error = encode_meta(&json!({"a": 1, field: "x"})).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        let below = json!({"phone": {"phx_ref": 1}, "text": "\"phx_ref\""});
        assert_eq!(encode_meta(&below).unwrap().as_str(), below.to_string());
        assert_eq!(encode_meta(&json!({})).unwrap().as_str(), "{}");
    }

    #[test]
    fn raw_json_hides_nothing_and_stays_json() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let hidden = encode_meta(&raw(r#"{"phx\u005fref": "x", "a": 1}"#));
        assert!(matches!(hidden, Err(MetaError::Reserved("phx_ref"))), "{hidden:?}");
        assert_eq!(encode_meta(&raw("{ }")).unwrap().as_str(), "{}");
        assert_eq!(&*encode_info(&raw(r#"{"m\u0065tas": [], "b": 2}"#)).unwrap(), r#""b":2"#);
        assert_eq!(&*encode_info(&raw("{ }")).unwrap(), "");
    }

    #[test]
    fn the_other_members_of_an_info_stay_as_they_were_written() {
        let text = r#"{"n":123456789812345679812,"metas":"x","e":1e200}"#;
        let info: Box<RawValue> = serde_json::from_str(text).unwrap();
        assert_eq!(&*encode_info(&info).unwrap(), r#""e":1e200,"n":123456789812345679812"#);
    }

    #[test]
    fn a_meta_is_an_object() {
        for meta in [json!(null), json!(1), json!("x"), json!([])] {
            assert!(matches!(encode_meta(&meta), Err(MetaError::NotAnObject(_))), "{meta}");
        }
    }

    #[test]
    fn an_info_is_the_members_of_an_object() {
        assert_eq!(&*encode_info(&json!({"user": {"id": 1}, "metas": 2})).unwrap(), r#""user":{"id":1}"#);
        assert_eq!(&*encode_info(&()).unwrap(), "");
        assert!(encode_info(&7).is_err());
    }
}
