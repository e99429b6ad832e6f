//! Parses the query of a URI as Plug does: the last of several pairs of one name wins, and brackets make maps
//! (`user[id]=7`) and lists (`roles[]=a`).

use std::fmt;

use http::Uri;
use serde::{
    de::{
        self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value, map::Entry};

/// Maximum number of brackets after a name, since values are dropped and formatted recursively.
const MAX_DEPTH: usize = 32;

/// A malformed query. Plug answers it with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadQuery {
    Escape,
    Utf8,
    Depth,
}

impl BadQuery {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Escape => "a percent sign in the query is not followed by two hexadecimal digits",
            Self::Utf8 => "the query is not UTF-8",
            Self::Depth => "a name in the query has more than 32 brackets",
        }
    }
}

/// Parameters don't have the shape of the requested type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamsError(String);

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the parameters don't have the expected shape: {}", self.0)
    }
}

impl std::error::Error for ParamsError {}

impl de::Error for ParamsError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Parses all parameters: strings, lists and maps.
pub(crate) fn read(uri: &Uri) -> Result<Map<String, Value>, BadQuery> {
    let mut params = Map::new();
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        insert(&mut params, &decode(name)?, decode(value)?)?;
    }
    Ok(params)
}

/// Returns the parameter of this name, if it is a text.
pub(crate) fn text(uri: &Uri, name: &str) -> Result<Option<String>, BadQuery> {
    Ok(match read(uri)?.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    })
}

/// Parses the parameters as a type.
pub(crate) fn typed<T: DeserializeOwned>(uri: &Uri) -> Result<T, ParamsError> {
    let params = read(uri).map_err(|error| de::Error::custom(error.reason()))?;
    T::deserialize(Param(Value::Object(params)))
}

fn decode(text: &str) -> Result<String, BadQuery> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit(), digit());
                high.zip(low).map(|(high, low)| (high * 16 + low) as u8).ok_or(BadQuery::Escape)?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| BadQuery::Utf8)
}

fn insert(params: &mut Map<String, Value>, name: &str, value: String) -> Result<(), BadQuery> {
    let nested =
        name.strip_suffix(']').and_then(|name| name.split_once('[')).filter(|(name, _)| !name.is_empty());
    let Some((name, keys)) = nested else {
        params.insert(name.to_owned(), Value::String(value));
        return Ok(());
    };
    if keys.split("][").nth(MAX_DEPTH).is_some() {
        return Err(BadQuery::Depth);
    }
    let mut place = member(params, name);
    for key in keys.split("][") {
        place = if key.is_empty() {
            // Each `[]` is another element, also if keys follow.
            let list = as_list(place);
            list.push(Value::Null);
            list.last_mut().expect("it was just pushed")
        } else {
            member(as_map(place), key)
        };
    }
    *place = Value::String(value);
    Ok(())
}

fn member<'m>(map: &'m mut Map<String, Value>, key: &str) -> &'m mut Value {
    match map.entry(key) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Value::Null),
    }
}

/// Returns the value as a list. Replaces anything else: the last pair wins.
fn as_list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("it is a list")
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it is a map")
}

/// Deserializes a parameter: a text becomes a number or a bool if the type requires it.
struct Param(Value);

impl IntoDeserializer<'_, ParamsError> for Param {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parse {
    ($($method:ident => $visit:ident,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
            match &self.0 {
                Value::String(text) => match text.parse() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(de::Error::invalid_value(de::Unexpected::Str(text), &visitor)),
                },
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Param {
    type Error = ParamsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Array(values) => visitor.visit_seq(SeqDeserializer::new(values.into_iter().map(Param))),
            Value::Object(map) => {
                let entries = map.into_iter().map(|(key, value)| (Self(Value::String(key)), Self(value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
            _ => visitor.visit_unit(),
        }
    }

    parse! {
        deserialize_bool => visit_bool,
        deserialize_i8 => visit_i8,
        deserialize_i16 => visit_i16,
        deserialize_i32 => visit_i32,
        deserialize_i64 => visit_i64,
        deserialize_i128 => visit_i128,
        deserialize_u8 => visit_u8,
        deserialize_u16 => visit_u16,
        deserialize_u32 => visit_u32,
        deserialize_u64 => visit_u64,
        deserialize_u128 => visit_u128,
        deserialize_f32 => visit_f32,
        deserialize_f64 => visit_f64,
    }

    /// phoenix.js writes a list with its indices: `roles[0]=a&roles[1]=b`, which Plug parses as a map. It becomes a
    /// list if the type requires one.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        let Value::Object(map) = &self.0 else { return self.deserialize_any(visitor) };
        let indexed: Option<Vec<(u32, &Value)>> =
            map.iter().map(|(key, value)| Some((key.parse().ok()?, value))).collect();
        let Some(mut indexed) = indexed else { return self.deserialize_any(visitor) };
        indexed.sort_unstable_by_key(|(index, _)| *index);
        visitor.visit_seq(SeqDeserializer::new(indexed.into_iter().map(|(_, value)| Self(value.clone()))))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ParamsError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ParamsError> {
        self.deserialize_seq(visitor)
    }

    /// Refuses a list, from which serde would also read a struct.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamsError> {
        match &self.0 {
            Value::Array(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ParamsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamsError> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.into_deserializer()),
            _ => Err(de::Error::invalid_type(de::Unexpected::Other("a list or a map"), &visitor)),
        }
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn uri(query: &str) -> Uri {
        format!("/?{query}").parse().unwrap()
    }

    #[test]
    fn queries_are_read_as_plug_reads_them() {
        for (query, expected) in [
            ("", json!({})),
            ("foo=bar&baz=bat", json!({"foo": "bar", "baz": "bat"})),
            ("foo=bar&foo=baz", json!({"foo": "baz"})),
            ("users[name]=hello&users[age]=17", json!({"users": {"name": "hello", "age": "17"}})),
            (
                "my+weird+field=q1%212%22%27w%245%267%2Fz8%29%3F",
                json!({"my weird field": "q1!2\"'w$5&7/z8)?"}),
            ),
            ("=", json!({"": ""})),
            ("key", json!({"key": ""})),
            ("key=", json!({"key": ""})),
            ("=value", json!({"": "value"})),
            ("&&a=1&", json!({"a": "1"})),
            ("a=1=2;b=3", json!({"a": "1=2;b=3"})),
            ("foo[]=", json!({"foo": [""]})),
            ("foo[]=bar&foo[]=baz", json!({"foo": ["bar", "baz"]})),
            ("x[y][z]=1&x[y][z]=2", json!({"x": {"y": {"z": "2"}}})),
            ("x[y][z][]=1&x[y][z][]=2", json!({"x": {"y": {"z": ["1", "2"]}}})),
            ("x[y][][z][]=1&x[y][][z]=2", json!({"x": {"y": [{"z": ["1"]}, {"z": "2"}]}})),
            ("x%5By%5D=1", json!({"x": {"y": "1"}})),
            ("[x]=1&x[=2&y]=3&z[a]b=4", json!({"[x]": "1", "x[": "2", "y]": "3", "z[a]b": "4"})),
            // The last pair wins, whatever was there before.
            ("x[]=1&x[y]=1", json!({"x": {"y": "1"}})),
            ("x[y][][w]=2&x[y]=1", json!({"x": {"y": "1"}})),
            ("x=1&x[y]=1", json!({"x": {"y": "1"}})),
            ("x[y]=1&x=2", json!({"x": "2"})),
        ] {
            assert_eq!(read(&uri(query)).map(Value::Object), Ok(expected), "{query}");
        }
    }

    #[test]
    fn broken_escapes_and_broken_utf8_are_errors() {
        for (query, error) in [
            ("a=%", BadQuery::Escape),
            ("a=%2", BadQuery::Escape),
            ("a=%ZZ", BadQuery::Escape),
            ("a=%+1", BadQuery::Escape),
            ("%=a", BadQuery::Escape),
            ("a=%FF", BadQuery::Utf8),
            ("a=%ED%A0%80", BadQuery::Utf8),
            ("%C3=a", BadQuery::Utf8),
        ] {
            assert_eq!(read(&uri(query)), Err(error), "{query}");
        }
        let nested = |depth| uri(&format!("a{}=1", "[b]".repeat(depth)));
        assert!(read(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(read(&nested(MAX_DEPTH + 1)), Err(BadQuery::Depth));
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Phone,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct User {
        id: u64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wanted {
        user: User,
        #[serde(default)]
        roles: Vec<String>,
        kind: Option<Kind>,
        ratio: Option<f64>,
        beta: Option<bool>,
    }

    #[test]
    fn parameters_become_types() {
        let wanted =
            typed::<Wanted>(&uri("user[id]=7&roles[]=a&roles[]=b&kind=phone&ratio=1e3&beta=true&x=1"));
        let expected = Wanted {
            user: User { id: 7 },
            roles: vec!["a".into(), "b".into()],
            kind: Some(Kind::Phone),
            ratio: Some(1000.0),
            beta: Some(true),
        };
        assert_eq!(wanted, Ok(expected));
        // Lists as phoenix.js writes them, ordered by their indices.
        let indexed = (0..12).map(|n| format!("roles[{n}]={n}")).collect::<Vec<_>>().join("&");
        let roles = typed::<Wanted>(&uri(&format!("user[id]=7&{indexed}"))).unwrap().roles;
        assert_eq!(roles, (0..12).map(|n| n.to_string()).collect::<Vec<_>>());
        let map = typed::<HashMap<u8, char>>(&uri("1=a&2=b")).unwrap();
        assert_eq!(map, HashMap::from([(1, 'a'), (2, 'b')]));
        for query in ["user=7", "user[id]=x", "user[]=7", "user[id]=7&roles=a", "user[id]=7&kind[a]=b", ""] {
            assert!(typed::<Wanted>(&uri(query)).is_err(), "{query}");
        }
        let missing = typed::<Wanted>(&uri("user[name]=x")).unwrap_err().to_string();
        assert!(missing.contains("missing field `id`"), "{missing}");
    }

    #[test]
    fn a_text_is_had_by_its_name() {
        assert_eq!(text(&uri("a=1&a=2"), "a"), Ok(Some("2".to_owned())));
        assert_eq!(text(&uri("a[]=1&b=2"), "a"), Ok(None));
        assert_eq!(text(&uri("b=2"), "a"), Ok(None));
    }
}
