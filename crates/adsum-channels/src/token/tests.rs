use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::{
    term::{MAX_DEPTH, Unreadable, Unwritable},
    *,
};

const RECORDED: &str = include_str!("../../tests/data/phoenix-tokens.txt");
const SALT: &str = "user socket";
const SIGNED_AT_MS: i64 = 1_795_000_000_000;
const DAY: Duration = DEFAULT_TOKEN_MAX_AGE;

struct Vector {
    name: &'static str,
    tokens: Tokens,
    salt: &'static str,
    signed_at_ms: i64,
    max_age: Duration,
    token: &'static str,
}

fn vectors() -> Vec<Vector> {
    let rows = RECORDED.lines().filter(|line| !line.starts_with('#'));
    // The rows are followed by an empty line and the results of verification.
    rows.take_while(|line| !line.is_empty())
        .map(|row| {
            let [name, secret, salt, signed_at, max_age, _elixir, token] =
                row.split(" | ").collect::<Vec<_>>().try_into().unwrap();
            Vector {
                name,
                tokens: Tokens::new(secret).unwrap(),
                salt,
                signed_at_ms: signed_at.parse::<i64>().unwrap() * 1000,
                max_age: Duration::from_secs(max_age.trim_start_matches("default ").parse().unwrap()),
                token,
            }
        })
        .collect()
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap()
}

/// The expected data of each recorded token.
fn expected() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("string", json!("user-7")),
        ("integer", json!(7)),
        ("big integer", json!(9_007_199_254_740_993_i64)),
        ("negative", json!(-300)),
        ("empty string", json!("")),
        ("utf-8", json!("grün €")),
        ("nil", json!(null)),
        ("true", json!(true)),
        ("map", json!({"id": 7, "name": "Ann"})),
        ("atom keys", json!({"admin": false, "id": 7})),
        ("list", json!([1, 2, 300])),
        ("string list", json!(["a", "b"])),
        ("tuple", json!(["user", 7])),
        ("float", json!(1.5)),
        ("other salt", json!("user-7")),
        ("other key", json!("user-7")),
        ("one hour", json!("user-7")),
    ])
}

fn tokens() -> Tokens {
    Tokens::new("a secret key base for tests only").unwrap()
}

/// Signs any bytes as a token's term.
fn signed(tokens: &Tokens, term: &[u8]) -> String {
    let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(term));
    let signature = tokens.secrets[0].mac(SALT).chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Decodes the term of one value, without the rest of a token's tuple.
fn decode(term: &[u8]) -> Result<Value, Unreadable> {
    let mut elements = decode_tuple(&[&[131, 104, 1], term].concat())?;
    assert_eq!(elements.len(), 1);
    Ok(elements.remove(0))
}

#[test]
fn reads_what_phoenix_signed() {
    let expected = expected();
    let names: BTreeSet<_> = vectors().iter().map(|vector| vector.name).collect();
    assert_eq!(names, expected.keys().copied().collect());
    for Vector { name, tokens, salt, signed_at_ms, max_age, token } in vectors() {
        let verify = |max_age, age_ms| tokens.verify_at::<Value>(salt, token, max_age, signed_at_ms + age_ms);
        let last_ms = max_age.as_millis() as i64;
        assert_eq!(verify(MaxAge::AsSigned, last_ms), Ok(expected[name].clone()), "{name}");
        assert_eq!(verify(MaxAge::AsSigned, last_ms + 1), Err(TokenError::Expired), "{name}");
        assert_eq!(verify(MaxAge::Forever, i64::MAX / 2), Ok(expected[name].clone()), "{name}");
    }
}

#[test]
fn signs_what_phoenix_signs() {
    let expected = expected();
    for Vector { name, tokens, salt, signed_at_ms, max_age, token } in vectors() {
        // No JSON value becomes a tuple or a map with atom keys.
        if name != "tuple" && name != "atom keys" {
            assert_eq!(
                tokens.sign_at(salt, &expected[name], max_age, signed_at_ms).unwrap(),
                token,
                "{name}"
            );
        }
    }
}

#[test]
fn answers_as_phoenix_does() {
    let answers = RECORDED.lines().skip_while(|line| !line.starts_with("# verify of 'string'")).skip(1);
    let answers: Vec<_> = answers.collect();
    let Vector { tokens, token, .. } = vector("string");
    let tampered = token.replace("SFMyNTY.g2gD", "SFMyNTY.g2gE");
    assert_ne!(tampered, token);
    let now = SIGNED_AT_MS + 86_400_001;
    let ours = [
        tokens.verify_at::<String>(SALT, token, DAY.into(), now),
        tokens.verify_at(SALT, token, MaxAge::Forever, now),
        tokens.verify_at("other", token, DAY.into(), now),
        tokens.verify_at(SALT, &tampered, DAY.into(), now),
        tokens.verify_at(SALT, "not a token", DAY.into(), now),
        tokens.verify_at(SALT, "", DAY.into(), now),
    ];
    let ours: Vec<_> = ours
        .into_iter()
        .map(|answer| match answer {
            Ok(data) => format!("{{:ok, {data:?}}}"),
            Err(TokenError::Missing) => "{:error, :missing}".into(),
            Err(TokenError::Invalid) => "{:error, :invalid}".into(),
            Err(TokenError::Expired) => "{:error, :expired}".into(),
            Err(other) => panic!("Phoenix has no {other:?}"),
        })
        .collect();
    assert_eq!(ours, answers);
}

#[test]
fn the_verifiers_max_age_goes_before_the_signers() {
    let tokens = tokens();
    let token = tokens.sign_at(SALT, "ann", Duration::from_secs(10), SIGNED_AT_MS).unwrap();
    let verify = |max_age: MaxAge, age_ms: i64| {
        tokens.verify_at::<String>(SALT, &token, max_age, SIGNED_AT_MS + age_ms)
    };
    let at_most = |ms| MaxAge::AtMost(Duration::from_millis(ms));

    assert!(verify(at_most(20_000), 20_000).is_ok());
    assert_eq!(verify(at_most(20_000), 20_001), Err(TokenError::Expired));
    assert!(verify(at_most(1500), 1500).is_ok());
    assert_eq!(verify(at_most(1500), 1501), Err(TokenError::Expired));
    assert_eq!(verify(at_most(0), 0), Err(TokenError::Expired));
    assert!(verify(Duration::MAX.into(), i64::MAX - SIGNED_AT_MS).is_ok());
    assert!(verify(at_most(1), -60_000).is_ok(), "signed by a clock that is ahead");
}

#[test]
fn a_max_age_may_be_of_any_kind() {
    let tokens = tokens();
    let verify = |max_age: Value, age_ms: i64| {
        let term = encode_tuple([&json!("ann"), &SIGNED_AT_MS.into(), &max_age]).unwrap();
        tokens.verify_at::<String>(SALT, &signed(&tokens, &term), MaxAge::AsSigned, SIGNED_AT_MS + age_ms)
    };
    assert!(verify(json!(0.5), 500).is_ok());
    assert_eq!(verify(json!(0.5), 501), Err(TokenError::Expired));
    assert!(verify(json!(0.000_1), 0).is_ok());
    for none in [json!(0), json!(-1), json!(0.0), json!(-0.5)] {
        assert_eq!(verify(none, 0), Err(TokenError::Expired));
    }
    assert!(verify(json!(u64::MAX), i64::MAX - SIGNED_AT_MS).is_ok());
    assert!(verify(json!(1e300), i64::MAX - SIGNED_AT_MS).is_ok());
    assert_eq!(verify(json!("a day"), 0), Err(TokenError::Unreadable));
    assert_eq!(verify(json!(null), 0), Err(TokenError::Unreadable));

    // {"ann", 0, :infinity}
    let forever = b"\x83h\x03m\0\0\0\x03anna\0w\x08infinity";
    let forever = signed(&tokens, forever);
    assert_eq!(tokens.verify_at(SALT, &forever, MaxAge::AsSigned, i64::MAX), Ok("ann".to_owned()));
    assert_eq!(
        tokens.verify_at::<String>(SALT, &forever, DAY.into(), SIGNED_AT_MS),
        Err(TokenError::Expired)
    );

    let token = tokens.sign_at(SALT, "ann", Duration::from_millis(1500), SIGNED_AT_MS).unwrap();
    let verify = |now| tokens.verify_at::<String>(SALT, &token, MaxAge::AsSigned, now);
    assert!(verify(SIGNED_AT_MS + 1500).is_ok());
    assert_eq!(verify(SIGNED_AT_MS + 1501), Err(TokenError::Expired));
}

#[test]
fn goes_by_the_clock() {
    let tokens = tokens();
    let token = tokens.sign(SALT, &7).unwrap();
    assert_eq!(tokens.verify(SALT, &token, DAY), Ok(7));
    assert_eq!(tokens.verify(SALT, &token, MaxAge::AsSigned), Ok(7));
    let old = tokens.sign_at(SALT, &7, DAY, now_ms() - 86_400_001).unwrap();
    assert_eq!(tokens.verify::<i64>(SALT, &old, DAY), Err(TokenError::Expired));
    assert_eq!(tokens.verify(SALT, &old, MaxAge::Forever), Ok(7));
    let long = tokens.sign_for(SALT, &7, Duration::from_secs(u64::MAX)).unwrap();
    assert_eq!(tokens.verify(SALT, &long, MaxAge::AsSigned), Ok(7));
}

#[test]
fn secrets_are_rotated() {
    let (old, new) = (vector("string").tokens, vector("other key").tokens);
    let [old_secret, new_secret] = [&old, &new].map(|tokens| tokens.secrets[0].key_base.clone());
    let both = Tokens::new(new_secret).unwrap().also_accept(old_secret).unwrap();
    let verify = |tokens: &Tokens, token: &str| tokens.verify::<String>(SALT, token, MaxAge::Forever);

    assert!(verify(&both, vector("string").token).is_ok());
    assert!(verify(&both, vector("other key").token).is_ok());
    assert_eq!(verify(&new, vector("string").token), Err(TokenError::Invalid));
    let token = both.sign(SALT, "ann").unwrap();
    assert_eq!(verify(&new, &token), Ok("ann".to_owned()));
    assert_eq!(verify(&old, &token), Err(TokenError::Invalid));
}

#[test]
fn a_short_secret_is_refused() {
    assert_eq!(Tokens::new("x".repeat(19)).unwrap_err(), SecretTooShort);
    let tokens = Tokens::new("x".repeat(20)).unwrap();
    assert_eq!(tokens.also_accept("x".repeat(19)).unwrap_err(), SecretTooShort);
}

#[test]
fn debug_tells_no_secret() {
    let tokens = tokens().also_accept("another secret key base").unwrap();
    assert_eq!(format!("{tokens:?}"), "Tokens { secrets: 2, .. }");
}

#[test]
fn derived_keys_are_kept_within_bounds() {
    let tokens = tokens();
    let salts: Vec<_> = (0..=MAX_CACHED_SALTS).map(|number| number.to_string()).collect();
    let signatures: Vec<_> = salts.iter().map(|salt| tokens.sign_at(salt, &7, DAY, 0).unwrap()).collect();
    assert!(tokens.secrets[0].macs.lock().len() <= MAX_CACHED_SALTS);
    assert!(tokens.secrets[0].macs.lock().contains_key(salts.last().unwrap().as_str()));
    assert_eq!(tokens.sign_at(&salts[0], &7, DAY, 0).unwrap(), signatures[0]);

    let clone = tokens.clone();
    clone.sign("only the clone's", &7).unwrap();
    assert!(tokens.secrets[0].macs.lock().contains_key("only the clone's"));
}

#[test]
fn every_changed_character_is_noticed() {
    let Vector { tokens, token, .. } = vector("map");
    for at in 0..token.len() {
        for other in ["A", "B", ".", "=", ""] {
            let mut changed = token.to_owned();
            changed.replace_range(at..=at, other);
            if changed != token {
                let answer = tokens.verify::<Value>(SALT, &changed, MaxAge::Forever);
                assert_eq!(answer, Err(TokenError::Invalid), "{changed}");
            }
        }
    }
}

#[test]
fn other_headers_are_refused() {
    let tokens = tokens();
    let term = encode_tuple([&json!(7), &SIGNED_AT_MS.into(), &json!(86_400)]).unwrap();
    let term = URL_SAFE_NO_PAD.encode(term);
    for header in ["SFMzODQ", "SFM1MTI", "bm9uZQ", ""] {
        let signed = format!("{header}.{term}");
        let signature = tokens.secrets[0].mac(SALT).chain_update(&signed).finalize().into_bytes();
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(tokens.verify::<i64>(SALT, &token, MaxAge::Forever), Err(TokenError::Invalid));
    }
}

#[test]
fn genuine_data_of_another_kind_is_unreadable() {
    let tokens = tokens();
    let token = tokens.sign(SALT, "ann").unwrap();
    assert_eq!(tokens.verify::<i64>(SALT, &token, DAY), Err(TokenError::Unreadable));
    // A tuple of two, and no tuple at all.
    for term in [&b"\x83h\x02a\x07a\0"[..], b"\x83a\x07"] {
        let token = signed(&tokens, term);
        assert_eq!(tokens.verify::<Value>(SALT, &token, MaxAge::Forever), Err(TokenError::Unreadable));
    }
}

#[test]
fn long_and_deep_data_is_refused() {
    let tokens = tokens();
    let nested = |depth| (0..depth).fold(json!(7), |inner, _| json!([inner]));
    let deepest = tokens.sign(SALT, &nested(MAX_DEPTH)).unwrap();
    assert_eq!(tokens.verify(SALT, &deepest, DAY), Ok(nested(MAX_DEPTH)));
    assert!(matches!(tokens.sign(SALT, &nested(MAX_DEPTH + 1)), Err(SignError::Unsupported)));

    // Besides the text there are the header, dots and signature, and the rest of the term.
    let longest = "x".repeat((MAX_TOKEN_BYTES - 52) / 4 * 3 - 22);
    let token = tokens.sign(SALT, &longest).unwrap();
    assert_eq!(token.len(), MAX_TOKEN_BYTES);
    assert!(tokens.verify(SALT, &token, DAY) == Ok(longest.clone()));
    let longer = format!("{longest}x");
    assert!(matches!(tokens.sign(SALT, &longer), Err(SignError::TooLong)));
    let too_long = encode_tuple([&json!(longer), &SIGNED_AT_MS.into(), &json!(86_400)]).unwrap();
    let too_long = signed(&tokens, &too_long);
    assert!(too_long.len() > MAX_TOKEN_BYTES);
    assert!(tokens.verify::<String>(SALT, &too_long, MaxAge::Forever) == Err(TokenError::Invalid));

    let unserialisable = BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(tokens.sign(SALT, &unserialisable), Err(SignError::Serialize(_))));
}

#[test]
fn reads_every_form_of_a_term() {
    let cases: &[(&[u8], Value)] = &[
        (b"d\0\x03nil", json!(null)),
        (b"s\x04true", json!(true)),
        (b"v\0\x05false", json!(false)),
        (b"w\x03ann", json!("ann")),
        (b"d\0\x02\xe9t", json!("\u{e9}t")),
        (b"w\x03\xc3\xa9t", json!("\u{e9}t")),
        (b"k\0\x03\x01\x02\xff", json!([1, 2, 255])),
        (b"j", json!([])),
        (b"h\0", json!([])),
        (b"t\0\0\0\0", json!({})),
        (b"n\x08\0\xff\xff\xff\xff\xff\xff\xff\xff", json!(u64::MAX)),
        (b"n\x08\x01\0\0\0\0\0\0\0\x80", json!(i64::MIN)),
        (b"n\0\0", json!(0)),
        (b"b\xff\xff\xff\xff", json!(-1)),
    ];
    for (term, value) in cases {
        assert_eq!(decode(term).as_ref(), Ok(value), "{term:?}");
    }
}

#[test]
fn refuses_what_is_no_term_of_a_token() {
    let cases: &[&[u8]] = &[
        b"",
        b"n\x09\0\0\0\0\0\0\0\0\0\x01",             // beyond u64
        b"n\x08\x01\x01\0\0\0\0\0\0\x80",           // below i64
        b"n\x01\x02\x07",                           // no sign
        b"F\x7f\xf0\0\0\0\0\0\0",                   // infinite
        b"F\x7f\xf8\0\0\0\0\0\0",                   // not a number
        b"m\0\0\0\x01\xff",                         // not UTF-8
        b"w\x01\xff",                               // not UTF-8
        b"l\0\0\0\x01a\x01a\x02",                   // improper
        b"t\0\0\0\x01a\x01a\x02",                   // an integer as a key
        b"t\0\0\0\x02m\0\0\0\x01aa\x01w\x01aa\x02", // "a" and :a
        b"P\0\0\0\x02\x78\x9c\x4b\x64\x07",         // compressed
        b"a\x01a\x02",                              // more than one
        b"m\xff\xff\xff\xff",
        b"k\xff\xff",
        b"l\xff\xff\xff\xff",
        b"t\xff\xff\xff\xff",
        b"l\xff\xff\xff\xffj",
        b"h\xff",
        b"g",
    ];
    for term in cases {
        assert_eq!(decode(term), Err(Unreadable), "{term:?}");
    }
    assert_eq!(decode(&b"h\x01".repeat(100_000)), Err(Unreadable));
    assert_eq!(decode(&b"l\0\0\0\x01".repeat(100_000)), Err(Unreadable));
    assert_eq!(encode_tuple([&json!(null); 256]), Err(Unwritable));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-300..300_i64).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |float| float.is_finite()).prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..8)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Bytes that resemble terms more often than random ones.
fn termish() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop::sample::select(b"Fabdhjklmnstvw".to_vec());
    let byte = prop_oneof![tag, 0..4_u8, any::<u8>()];
    prop::collection::vec(byte, 0..200)
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

proptest! {
    #[test]
    fn data_comes_back(data in value()) {
        let term = encode_tuple([&data]).unwrap();
        prop_assert_eq!(decode_tuple(&term), Ok(vec![data.clone()]));
        let tokens = vector("string").tokens;
        match tokens.sign_at("", &data, DAY, 0) {
            Ok(token) => prop_assert_eq!(tokens.verify_at("", &token, DAY.into(), 0), Ok(data)),
            Err(error) => prop_assert!(matches!(error, SignError::TooLong)),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in termish()) {
        let _ = decode_tuple(&bytes);
        if let Ok(value) = decode(&bytes) {
            prop_assert!(count(&value) <= bytes.len());
            prop_assert_eq!(decode_tuple(&encode_tuple([&value]).unwrap()), Ok(vec![value]));
        }
    }

    #[test]
    fn any_text_is_refused(text in ".*", dotted in "SFMyNTY\\.[A-Za-z0-9_-]*\\.[A-Za-z0-9_-]*") {
        let tokens = tokens();
        for text in [text, dotted] {
            prop_assert!(tokens.verify_at::<Value>("", &text, MaxAge::Forever, 0).is_err());
        }
    }
}
