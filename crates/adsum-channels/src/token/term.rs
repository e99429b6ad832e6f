//! Converts the subset of Erlang's external term format used by tokens to and from JSON values.
//!
//! | JSON               | written as          | read from                                        |
//! |--------------------|---------------------|--------------------------------------------------|
//! | null, true, false  | the atoms           | the atoms                                        |
//! | integer            | integer             | integer from `i64::MIN` to `u64::MAX`            |
//! | other number       | float               | float                                            |
//! | string             | binary              | binary of UTF-8; any other atom                  |
//! | array              | list                | proper list, list of bytes, tuple                |
//! | object             | map, keys binaries  | map with binaries and atoms as keys, none double |

use serde_json::{Map, Number, Value};

/// Maximum nesting of lists, tuples and maps, not counting the outermost tuple.
pub(crate) const MAX_DEPTH: usize = 32;

const VERSION: u8 = 131;
const NEW_FLOAT: u8 = 70;
const SMALL_INTEGER: u8 = 97;
const INTEGER: u8 = 98;
const ATOM: u8 = 100;
const SMALL_TUPLE: u8 = 104;
const NIL: u8 = 106;
const BYTE_LIST: u8 = 107;
const LIST: u8 = 108;
const BINARY: u8 = 109;
const SMALL_BIG: u8 = 110;
const SMALL_ATOM: u8 = 115;
const MAP: u8 = 116;
const ATOM_UTF8: u8 = 118;
const SMALL_ATOM_UTF8: u8 = 119;

/// Data that can't be encoded as a term: too deep, or with a number beyond 64 bits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unwritable;

/// Bytes that are not a term, or a term that JSON can't represent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Encodes a tuple.
pub(crate) fn encode_tuple<const N: usize>(elements: [&Value; N]) -> Result<Vec<u8>, Unwritable> {
    let mut out = vec![VERSION, SMALL_TUPLE];
    out.push(u8::try_from(N).map_err(|_| Unwritable)?);
    for element in elements {
        write(element, MAX_DEPTH, &mut out)?;
    }
    Ok(out)
}

/// Decodes a tuple of any size, which must fill `bytes`.
///
/// It allocates a small multiple of `bytes`: it never allocates for a count before the elements are read, and every
/// element takes at least a byte.
pub(crate) fn decode_tuple(bytes: &[u8]) -> Result<Vec<Value>, Unreadable> {
    let mut reader = TermReader { rest: bytes };
    if reader.u8()? != VERSION || reader.u8()? != SMALL_TUPLE {
        return Err(Unreadable);
    }
    let size = reader.u8()?;
    let elements = reader.values(size.into(), MAX_DEPTH)?;
    if reader.rest.is_empty() { Ok(elements) } else { Err(Unreadable) }
}

fn write(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    match value {
        Value::Null => write_atom("nil", out),
        Value::Bool(true) => write_atom("true", out),
        Value::Bool(false) => write_atom("false", out),
        Value::Number(number) => write_number(number, out)?,
        Value::String(text) => write_binary(text, out)?,
        Value::Array(elements) => {
            let depth = depth.checked_sub(1).ok_or(Unwritable)?;
            if !elements.is_empty() {
                out.push(LIST);
                out.extend(length(elements.len())?);
                for element in elements {
                    write(element, depth, out)?;
                }
            }
            out.push(NIL);
        }
        Value::Object(entries) => {
            let depth = depth.checked_sub(1).ok_or(Unwritable)?;
            out.push(MAP);
            out.extend(length(entries.len())?);
            for (key, value) in entries {
                write_binary(key, out)?;
                write(value, depth, out)?;
            }
        }
    }
    Ok(())
}

/// Uses the oldest form of an atom, which every release of OTP reads.
fn write_atom(name: &'static str, out: &mut Vec<u8>) {
    out.extend([ATOM, 0, name.len() as u8]);
    out.extend(name.as_bytes());
}

fn write_binary(text: &str, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    out.push(BINARY);
    out.extend(length(text.len())?);
    out.extend(text.as_bytes());
    Ok(())
}

fn write_number(number: &Number, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    if let Some(integer) = number.as_i64() {
        write_integer(integer.is_negative(), integer.unsigned_abs(), out);
    } else if let Some(integer) = number.as_u64() {
        write_integer(false, integer, out);
    } else {
        let float = number.as_f64().filter(|float| float.is_finite()).ok_or(Unwritable)?;
        out.push(NEW_FLOAT);
        out.extend(float.to_be_bytes());
    }
    Ok(())
}

fn write_integer(negative: bool, magnitude: u64, out: &mut Vec<u8>) {
    let signed = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    if let Ok(small) = u8::try_from(signed) {
        out.extend([SMALL_INTEGER, small]);
    } else if let Ok(middle) = i32::try_from(signed) {
        out.push(INTEGER);
        out.extend(middle.to_be_bytes());
    } else {
        let digits = magnitude.to_le_bytes();
        let used = digits.len() - magnitude.leading_zeros() as usize / 8;
        out.extend([SMALL_BIG, used as u8, negative.into()]);
        out.extend(&digits[..used]);
    }
}

fn length(length: usize) -> Result<[u8; 4], Unwritable> {
    u32::try_from(length).map(u32::to_be_bytes).map_err(|_| Unwritable)
}

struct TermReader<'a> {
    rest: &'a [u8],
}

impl<'a> TermReader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let tag = self.u8()?;
        match tag {
            SMALL_INTEGER => Ok(self.u8()?.into()),
            INTEGER => Ok(i32::from_be_bytes(self.array()?).into()),
            SMALL_BIG => self.big(),
            NEW_FLOAT => {
                let float = f64::from_be_bytes(self.array()?);
                Number::from_f64(float).map(Value::Number).ok_or(Unreadable)
            }
            BINARY => self.binary().map(Value::String),
            ATOM | SMALL_ATOM | ATOM_UTF8 | SMALL_ATOM_UTF8 => Ok(match self.atom(tag)?.as_str() {
                "nil" => Value::Null,
                "true" => true.into(),
                "false" => false.into(),
                other => other.into(),
            }),
            NIL => deeper(depth).map(|_| Value::Array(Vec::new())),
            BYTE_LIST => {
                deeper(depth)?;
                let size = self.u16()?;
                Ok(self.take(size.into())?.iter().copied().map(Value::from).collect())
            }
            LIST => {
                let size = self.u32()?;
                let elements = self.values(size, deeper(depth)?)?;
                // Anything else is the tail of an improper list.
                if self.u8()? == NIL { Ok(Value::Array(elements)) } else { Err(Unreadable) }
            }
            SMALL_TUPLE => {
                let size = self.u8()?;
                self.values(size.into(), deeper(depth)?).map(Value::Array)
            }
            MAP => self.map(deeper(depth)?),
            _ => Err(Unreadable),
        }
    }

    fn values(&mut self, count: u32, depth: usize) -> Result<Vec<Value>, Unreadable> {
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth)?);
        }
        Ok(values)
    }

    fn map(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let mut entries = Map::new();
        for _ in 0..self.u32()? {
            let key = match self.u8()? {
                BINARY => self.binary()?,
                tag => self.atom(tag)?,
            };
            let value = self.value(depth)?;
            // An Elixir map may have both `:id` and `"id"`, which is ambiguous here.
            if entries.insert(key, value).is_some() {
                return Err(Unreadable);
            }
        }
        Ok(Value::Object(entries))
    }

    fn binary(&mut self) -> Result<String, Unreadable> {
        let size = self.u32()?;
        utf8(self.take(size as usize)?)
    }

    fn atom(&mut self, tag: u8) -> Result<String, Unreadable> {
        let size = match tag {
            ATOM | ATOM_UTF8 => self.u16()?.into(),
            SMALL_ATOM | SMALL_ATOM_UTF8 => self.u8()?.into(),
            _ => return Err(Unreadable),
        };
        let name = self.take(size)?;
        match tag {
            // These two forms are Latin-1, whose characters are the first 256 of Unicode.
            ATOM | SMALL_ATOM => Ok(name.iter().copied().map(char::from).collect()),
            _ => utf8(name),
        }
    }

    fn big(&mut self) -> Result<Value, Unreadable> {
        let size = self.u8()?.into();
        let sign = self.u8()?;
        let used = self.take(size)?;
        let mut digits = [0; 8];
        digits.get_mut(..size).ok_or(Unreadable)?.copy_from_slice(used);
        let magnitude = u64::from_le_bytes(digits);
        match sign {
            0 => Ok(magnitude.into()),
            1 => i64::try_from(-i128::from(magnitude)).map(Value::from).map_err(|_| Unreadable),
            _ => Err(Unreadable),
        }
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Unreadable> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Unreadable)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Unreadable> {
        let (bytes, rest) = self.rest.split_at_checked(size).ok_or(Unreadable)?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn deeper(depth: usize) -> Result<usize, Unreadable> {
    depth.checked_sub(1).ok_or(Unreadable)
}

fn utf8(bytes: &[u8]) -> Result<String, Unreadable> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| Unreadable)
}
