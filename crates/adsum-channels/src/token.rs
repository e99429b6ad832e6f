//! Signed tokens, compatible with `Phoenix.Token`.

pub(crate) mod term;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::Sha256;

use self::term::{decode_tuple, encode_tuple};

/// How long a token from [`Tokens::sign`] is valid: a day.
pub const DEFAULT_TOKEN_MAX_AGE: Duration = Duration::from_hours(24);

/// Maximum length of a token, in bytes. Tokens are sent in URLs and headers, which allow little more.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Minimum length of a secret key base, in bytes.
pub const MIN_SECRET_BYTES: usize = 20;

/// Signs and verifies tokens: data that a client keeps and can read, but can't change.
///
/// A page gives a token to its user, and the socket sends it when it connects. The format is that of `Phoenix.Token`: a
/// Phoenix application and this one accept each other's tokens if they share the secret key base and the salt.
///
/// The salt separates purposes, so that a token for a password reset is invalid for a socket. It is a constant of the
/// program, not a secret.
///
/// ```
/// use std::time::Duration;
///
/// # use adsum_channels as adsum;
/// use adsum::Tokens;
///
/// let tokens = Tokens::new("a secret of at least twenty bytes, better of sixty-four")?;
/// let token = tokens.sign("user socket", &7)?;
///
/// let user_id: i64 = tokens.verify("user socket", &token, Duration::from_secs(3600))?;
/// assert_eq!(user_id, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Data
///
/// Anything that serializes to JSON. Elixir gets strings as binaries, null as `nil`, and objects as maps with string
/// keys. From Elixir, tuples become lists, and atoms (also as keys) become strings. Data that JSON can't represent,
/// such as a process id or an integer beyond 64 bits, is [`TokenError::Unreadable`], and so is data nested deeper than
/// 32 lists and maps.
///
/// Clones are cheap and share their derived keys.
#[derive(Clone)]
pub struct Tokens {
    /// Never empty. The first one signs.
    secrets: Arc<[Arc<Secret>]>,
}

impl Tokens {
    /// Creates tokens that are signed and verified with a secret key base.
    ///
    /// # Errors
    /// It is shorter than [`MIN_SECRET_BYTES`].
    pub fn new(secret_key_base: impl AsRef<[u8]>) -> Result<Self, SecretTooShort> {
        Ok(Self { secrets: [Arc::new(Secret::new(secret_key_base.as_ref())?)].into() })
    }

    /// Also accepts tokens of another secret key base. The first one still signs.
    ///
    /// To rotate the secret, pass the new one to [`new`](Self::new) and the old one here until all tokens of the old
    /// one have expired:
    ///
    /// ```
    /// # use adsum_channels as adsum;
    /// # use adsum::Tokens;
    /// # let (new, old) = ("n".repeat(64), "o".repeat(64));
    /// let tokens = Tokens::new(new)?.also_accept(old)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// It is shorter than [`MIN_SECRET_BYTES`].
    pub fn also_accept(self, secret_key_base: impl AsRef<[u8]>) -> Result<Self, SecretTooShort> {
        let other = Arc::new(Secret::new(secret_key_base.as_ref())?);
        Ok(Self { secrets: self.secrets.iter().cloned().chain([other]).collect() })
    }

    /// Signs `data`. The token is valid for the verifier's maximum age, or for [`DEFAULT_TOKEN_MAX_AGE`].
    pub fn sign<T: Serialize + ?Sized>(&self, salt: &str, data: &T) -> Result<String, SignError> {
        self.sign_for(salt, data, DEFAULT_TOKEN_MAX_AGE)
    }

    /// Signs `data` with a maximum age in the token: see [`MaxAge::AsSigned`].
    pub fn sign_for<T: Serialize + ?Sized>(
        &self,
        salt: &str,
        data: &T,
        max_age: Duration,
    ) -> Result<String, SignError> {
        self.sign_at(salt, data, max_age, now_ms())
    }

    /// Returns the data of a token that was signed with the same salt, at most `max_age` ago.
    ///
    /// The token's age is measured by this machine's clock. A token from the future, signed by a machine whose clock is
    /// ahead, is accepted.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use adsum_channels as adsum;
    /// # use adsum::{MaxAge, TokenError, Tokens};
    /// # fn user(tokens: &Tokens, token: Option<&str>) -> Result<(), TokenError> {
    /// let token = token.ok_or(TokenError::Missing)?;
    /// let user_id: i64 = tokens.verify("user socket", token, Duration::from_secs(3600))?;
    /// let user_id: i64 = tokens.verify("user socket", token, MaxAge::Forever)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`TokenError`]. A token that isn't genuine is only ever [`Invalid`](TokenError::Invalid).
    pub fn verify<T: DeserializeOwned>(
        &self,
        salt: &str,
        token: &str,
        max_age: impl Into<MaxAge>,
    ) -> Result<T, TokenError> {
        self.verify_at(salt, token, max_age.into(), now_ms())
    }
}

impl Tokens {
    /// Encrypts a part of a token's data, or decrypts it: XORs the bytes with a stream of keyed hashes. A nonce must
    /// never be used for different bytes.
    pub(crate) fn veil(&self, salt: &str, nonce: &str, bytes: &[u8]) -> Vec<u8> {
        let stream = (0u32..).flat_map(|block| {
            let mac = self.secrets[0].mac(salt).chain_update(block.to_be_bytes()).chain_update(nonce);
            mac.finalize().into_bytes()
        });
        bytes.iter().zip(stream).map(|(byte, key)| byte ^ key).collect()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

/// The maximum age of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAge {
    /// This age, ignoring the one in the token. Zero accepts no token.
    AtMost(Duration),
    /// The age in the token.
    AsSigned,
    /// Any age, ignoring the one in the token.
    Forever,
}

impl From<Duration> for MaxAge {
    fn from(max_age: Duration) -> Self {
        Self::AtMost(max_age)
    }
}

/// A secret key base is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret key base is too short; it must have at least {MIN_SECRET_BYTES} bytes")]
pub struct SecretTooShort;

/// Data that can't be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The data doesn't serialize to JSON.
    #[error("the data of a token doesn't serialize to JSON")]
    Serialize(#[source] serde_json::Error),
    /// The data is nested too deeply, or has a number beyond 64 bits.
    #[error("the data of a token is nested too deeply, or has a number beyond 64 bits")]
    Unsupported,
    /// The token would be longer than [`MAX_TOKEN_BYTES`].
    #[error("the token would be longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is empty. Return it also if a client sent no token.
    #[error("there is no token")]
    Missing,
    /// It isn't a token, was changed, or was signed with another secret or salt.
    #[error("the token is not valid")]
    Invalid,
    /// It is genuine, but too old.
    #[error("the token has expired")]
    Expired,
    /// It is genuine, but its data doesn't have the requested type, or JSON can't represent it.
    #[error("the data of the token doesn't have the expected type")]
    Unreadable,
}

/// `HS256` in base64: the only supported header.
const HEADER: &str = "SFMyNTY";
/// The same as in Phoenix. The secret is long and random, so the derivation doesn't need to be slow.
const KEY_ITERATIONS: u32 = 1000;
const KEY_BYTES: usize = 32;
/// Maximum number of cached salts. A program has a few; one that generates salts derives keys again instead of filling
/// the memory.
const MAX_CACHED_SALTS: usize = 64;

impl Tokens {
    fn sign_at<T: Serialize + ?Sized>(
        &self,
        salt: &str,
        data: &T,
        max_age: Duration,
        now_ms: i64,
    ) -> Result<String, SignError> {
        let data = serde_json::to_value(data).map_err(SignError::Serialize)?;
        // Phoenix also accepts fractions of a second, as a float.
        let max_age = match max_age.subsec_nanos() {
            0 => Value::from(max_age.as_secs()),
            _ => Value::from(max_age.as_secs_f64()),
        };
        let term = encode_tuple([&data, &now_ms.into(), &max_age]).map_err(|_| SignError::Unsupported)?;

        let mut token = format!("{HEADER}.");
        URL_SAFE_NO_PAD.encode_string(term, &mut token);
        let signature = self.secrets[0].mac(salt).chain_update(&token).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        if token.len() > MAX_TOKEN_BYTES { Err(SignError::TooLong) } else { Ok(token) }
    }

    fn verify_at<T: DeserializeOwned>(
        &self,
        salt: &str,
        token: &str,
        max_age: MaxAge,
        now_ms: i64,
    ) -> Result<T, TokenError> {
        let term = self.signed_bytes(salt, token)?;
        let elements = decode_tuple(&term).map_err(|_| TokenError::Unreadable)?;
        let [data, signed_at, signed_max_age] =
            <[Value; 3]>::try_from(elements).map_err(|_| TokenError::Unreadable)?;
        let signed_at_ms = signed_at.as_i64().ok_or(TokenError::Unreadable)?;

        let max_age_ms = match max_age {
            MaxAge::AtMost(age) if age.is_zero() => return Err(TokenError::Expired),
            MaxAge::AtMost(age) => Some(i128::try_from(age.as_millis()).unwrap_or(i128::MAX)),
            MaxAge::AsSigned => signed_age_ms(&signed_max_age)?,
            MaxAge::Forever => None,
        };
        let age_ms = i128::from(now_ms) - i128::from(signed_at_ms);
        if max_age_ms.is_some_and(|max_age_ms| age_ms > max_age_ms) {
            return Err(TokenError::Expired);
        }
        serde_json::from_value(data).map_err(|_| TokenError::Unreadable)
    }

    /// Verifies a token's signature, and returns the signed bytes. Nothing else is decoded before.
    fn signed_bytes(&self, salt: &str, token: &str) -> Result<Vec<u8>, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let (header, term) = signed.split_once('.').ok_or(TokenError::Invalid)?;
        if header != HEADER {
            return Err(TokenError::Invalid);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Invalid)?;
        let genuine = self
            .secrets
            .iter()
            .any(|secret| secret.mac(salt).chain_update(signed).verify_slice(&signature).is_ok());
        if !genuine {
            return Err(TokenError::Invalid);
        }
        URL_SAFE_NO_PAD.decode(term).map_err(|_| TokenError::Invalid)
    }
}

/// The maximum age in a token, in milliseconds. `None` if it is valid forever.
fn signed_age_ms(seconds: &Value) -> Result<Option<i128>, TokenError> {
    let ms = match seconds {
        // Elixir's `:infinity`.
        Value::String(atom) if atom == "infinity" => return Ok(None),
        Value::Number(seconds) => match (seconds.as_i64(), seconds.as_u64(), seconds.as_f64()) {
            (Some(seconds), _, _) => i128::from(seconds) * 1000,
            (_, Some(seconds), _) => i128::from(seconds) * 1000,
            // Less than a millisecond rounds to zero, which is valid in the millisecond of the signature.
            (_, _, Some(seconds)) if seconds > 0.0 => return Ok(Some((seconds * 1000.0) as i128)),
            _ => 0,
        },
        _ => return Err(TokenError::Unreadable),
    };
    if ms > 0 { Ok(Some(ms)) } else { Err(TokenError::Expired) }
}

/// The wall clock, because tokens outlive the program and are shared between machines.
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

struct Secret {
    key_base: Box<[u8]>,
    /// Keyed hashes by salt. Deriving a key takes a thousand rounds of hashing.
    macs: Mutex<HashMap<Box<str>, Hmac<Sha256>>>,
}

impl Secret {
    fn new(key_base: &[u8]) -> Result<Self, SecretTooShort> {
        if key_base.len() < MIN_SECRET_BYTES {
            return Err(SecretTooShort);
        }
        Ok(Self { key_base: key_base.into(), macs: Mutex::default() })
    }

    fn mac(&self, salt: &str) -> Hmac<Sha256> {
        if let Some(mac) = self.macs.lock().get(salt) {
            return mac.clone();
        }
        // Not under the lock: concurrent first calls derive the same key twice.
        let key: [u8; KEY_BYTES] =
            pbkdf2::pbkdf2_hmac_array::<Sha256, KEY_BYTES>(&self.key_base, salt.as_bytes(), KEY_ITERATIONS);
        let mac = Hmac::new_from_slice(&key).expect("an HMAC takes a key of any length");
        let mut macs = self.macs.lock();
        if macs.len() >= MAX_CACHED_SALTS {
            macs.clear();
        }
        macs.insert(salt.into(), mac.clone());
        mac
    }
}
