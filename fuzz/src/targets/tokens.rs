//! Tokens. A signed token is verified as the same, and a token of which one byte was changed is not genuine.

use std::sync::LazyLock;

use adsum_channels::{MaxAge, SignError, TokenError, Tokens};
use serde_json::Value;

// That of the recorded tokens.
static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    Tokens::new("adsum-test-secret-key-base-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ")
        .expect("it is long")
});
const SALT: &str = "user socket";

/// Input: where a byte is changed and to what; then JSON to be signed, or else a token.
pub(crate) fn run(data: &[u8]) {
    let Some((&[low, high, byte], text)) = data.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let token = match serde_json::from_str::<Value>(text) {
        Ok(value) => match TOKENS.sign(SALT, &value) {
            Ok(token) => {
                assert_eq!(TOKENS.verify::<Value>(SALT, &token, MaxAge::AsSigned), Ok(value));
                token
            }
            Err(SignError::Unsupported | SignError::TooLong) => return,
            Err(error) => panic!("{error}"),
        },
        Err(_) => text.to_owned(),
    };
    let genuine = TOKENS.verify::<Value>(SALT, &token, MaxAge::Forever);
    if matches!(genuine, Err(TokenError::Invalid | TokenError::Missing)) {
        return;
    }
    assert_eq!(TOKENS.verify::<Value>("another salt", &token, MaxAge::Forever), Err(TokenError::Invalid));
    let at = usize::from(u16::from_le_bytes([low, high])) % token.len();
    let mut changed = token.into_bytes();
    if byte.is_ascii() && changed[at] != byte {
        changed[at] = byte;
        let changed = String::from_utf8(changed).expect("a genuine token is ASCII, and so is the byte");
        assert_eq!(TOKENS.verify::<Value>(SALT, &changed, MaxAge::Forever), Err(TokenError::Invalid));
    }
}
