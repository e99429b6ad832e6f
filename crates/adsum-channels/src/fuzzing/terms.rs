//! The terms that tokens carry. A term that can be read can be written, is read back the same, and is no
//! larger than the bytes it came from allow.

use serde_json::Value;

use crate::token::term::{decode_tuple, encode_tuple};

/// Input: a term.
pub fn terms(data: &[u8]) {
    let Ok(values) = decode_tuple(data) else { return };
    assert!(values.iter().map(count).sum::<usize>() <= data.len(), "more values than bytes");
    for value in values {
        let others = [Value::Null, Value::from(-1)];
        let written = encode_tuple([&value, &others[0], &others[1]]).expect("what was read can be written");
        let [null, minus] = others;
        assert_eq!(decode_tuple(&written).ok(), Some(vec![value, null, minus]));
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}
