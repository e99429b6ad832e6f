//! Passwords: hashed with Argon2id, off the async threads, and only a few at once, since each takes 19 MiB and a core.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use unicode_normalization::UnicodeNormalization;

use crate::{Problem, ids::random_bytes};

/// The lengths of a password, in characters. The longest has at most some hundred bytes: hashing takes the same time.
const MIN_CHARS: usize = 8;
const MAX_CHARS: usize = 128;

/// How long somebody waits for a turn to hash.
const PATIENCE: Duration = Duration::from_secs(5);

/// A password as somebody has typed it. Composed, since devices write the same letters in several ways.
#[derive(Clone)]
pub(crate) struct Password(String);

impl Password {
    /// # Errors
    /// It is too short or too long.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let composed: String = text.nfc().take(MAX_CHARS + 1).collect();
        let chars = composed.chars().count();
        let message = if chars < MIN_CHARS {
            format!("A password has at least {MIN_CHARS} characters.")
        } else if chars > MAX_CHARS {
            format!("A password has at most {MAX_CHARS} characters.")
        } else {
            return Ok(Self(composed));
        };
        Err(Problem::new("password_invalid", message))
    }
}

/// Hashes passwords.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
}

impl Passwords {
    /// At most so many at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once)) }
    }

    /// The hash of a password, with a salt of its own.
    pub(crate) async fn hash(&self, password: Password) -> Result<String, Problem> {
        self.work(move || hash(&password)).await
    }

    /// Whether a password is the one of a hash. Without a hash it isn't, which takes the same time.
    pub(crate) async fn is_right(&self, password: Password, hash: Option<String>) -> Result<bool, Problem> {
        self.work(move || {
            let is_known = hash.is_some();
            is_known & verify(&password, hash.as_deref().unwrap_or(&NOBODYS))
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let turn = timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Problem::unavailable()) };
        // The turn lasts as long as the work, also if nobody waits for it any more.
        let worked = spawn_blocking(move || (work(), drop(turn)).0).await;
        worked.map_err(|_| Problem::unavailable())
    }
}

/// A hash of nobody's password.
static NOBODYS: LazyLock<String> = LazyLock::new(|| hash(&Password("nobody has this".to_owned())));

fn hash(Password(password): &Password) -> String {
    let salt = SaltString::encode_b64(&random_bytes::<16>()).expect("16 bytes are a salt");
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.expect("the parameters are the default").to_string()
}

fn verify(Password(password): &Password, hash: &str) -> bool {
    // A hash of other parameters, from another version of this program, says so itself.
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_right_or_wrong_however_it_was_typed() {
        let passwords = Passwords::new(1);
        let password = |text| Password::parse(text).unwrap();
        let hash = passwords.hash(password("zo\u{eb} plays e4")).await.unwrap();
        assert!(hash.starts_with("$argon2id$") && !hash.contains("plays"), "{hash}");
        assert_ne!(
            hash,
            passwords.hash(password("zo\u{eb} plays e4")).await.unwrap(),
            "each has a salt of its own"
        );
        let is_right = async |text, hash| passwords.is_right(password(text), hash).await.unwrap();
        assert!(is_right("zoe\u{308} plays e4", Some(hash.clone())).await);
        assert!(!is_right("zoe plays e4", Some(hash)).await);
        assert!(!is_right("nobody has this", None).await);
        assert!(!is_right("nobody has this", Some("not a hash".to_owned())).await);
    }

    #[test]
    fn too_short_and_too_long_ones_say_so() {
        assert!(Password::parse("1234567").unwrap_err().message.contains("at least 8"));
        assert!(Password::parse(&"é".repeat(128)).is_ok());
        assert!(Password::parse(&"é".repeat(100_000)).unwrap_err().message.contains("at most 128"));
    }

    #[tokio::test(start_paused = true)]
    async fn with_no_turn_to_be_had_the_answer_is_to_try_again() {
        let passwords = Passwords::new(1);
        let _all = passwords.turns.clone().acquire_owned().await.unwrap();
        let refused = passwords.hash(Password::parse("long enough").unwrap()).await.unwrap_err();
        assert_eq!(refused.reason, "unavailable");
    }
}
