use std::fmt;

use axum::http::HeaderMap;
use axum_extra::extract::cookie::{Cookie, Key, SameSite, SignedCookieJar};

/// The fewest bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// The cookie's name. Browsers share cookies between the ports of a host, so it isn't just `session`.
const COOKIE: &str = "chess_session";
/// Its name over TLS. Browsers take a cookie of this prefix only from the host itself and over TLS, so that neither
/// another host of the domain nor somebody on the network can plant one.
const SECURE_COOKIE: &str = "__Host-chess_session";

/// Says who a browser is, by a cookie with the user's id that only the holder of the secret can have signed.
#[derive(Clone)]
pub struct Session {
    key: Key,
    is_secure: bool,
}

/// The secret is too short to sign cookies with.
#[derive(Debug, thiserror::Error)]
#[error(
    "SECRET has {0} bytes; it needs at least {SECRET_BYTES}, random ones (or leave it unset: one is then made \
     and kept in the database)"
)]
pub struct WeakSecret(usize);

impl Session {
    /// Signs with this secret. Whoever knows it can be anybody.
    ///
    /// # Errors
    ///
    /// [`WeakSecret`] if it has fewer than [`SECRET_BYTES`] bytes.
    pub fn new(secret: &[u8]) -> Result<Self, WeakSecret> {
        if secret.len() < SECRET_BYTES {
            return Err(WeakSecret(secret.len()));
        }
        Ok(Self { key: Key::derive_from(secret), is_secure: false })
    }

    /// Has browsers keep the cookie for TLS. Cookies from before count as none.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.is_secure = true;
        self
    }

    /// A new random secret.
    pub fn random_secret() -> Vec<u8> {
        Key::generate().master().to_vec()
    }

    /// The id of the user whose cookie came with a request. A cookie that isn't ours counts as none.
    pub fn user_id(&self, headers: &HeaderMap) -> Option<i64> {
        self.jar(headers).get(self.name())?.value().parse().ok()
    }

    /// The answer that makes the browser this user.
    pub fn sign_in(&self, user_id: i64) -> SignedCookieJar {
        let mut cookie = self.cookie(user_id.to_string());
        // Browsers shorten this to the longest they allow, about a year.
        cookie.make_permanent();
        self.jar(&HeaderMap::new()).add(cookie)
    }

    /// The answer that makes the browser nobody.
    pub fn sign_out(&self, headers: &HeaderMap) -> SignedCookieJar {
        self.jar(headers).remove(self.cookie(String::new()))
    }

    fn jar(&self, headers: &HeaderMap) -> SignedCookieJar {
        SignedCookieJar::from_headers(headers, self.key.clone())
    }

    fn name(&self) -> &'static str {
        if self.is_secure { SECURE_COOKIE } else { COOKIE }
    }

    fn cookie(&self, value: String) -> Cookie<'static> {
        // Lax, not Strict: who follows a link to the site is still signed in. Other sites' requests that change
        // anything come without it.
        let cookie = Cookie::build((self.name(), value)).path("/").http_only(true).same_site(SameSite::Lax);
        cookie.secure(self.is_secure).build()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        http::header::{COOKIE as COOKIE_HEADER, SET_COOKIE},
        response::IntoResponse,
    };

    use super::*;

    fn session() -> Session {
        Session::new(&[7; SECRET_BYTES]).unwrap()
    }

    /// The `Set-Cookie` of a sign-in, and its part that a browser sends back.
    fn signed_in(session: &Session, user_id: i64) -> (String, String) {
        let response = session.sign_in(user_id).into_response();
        let set = response.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        let sent_back = set.split(';').next().unwrap().to_owned();
        (set, sent_back)
    }

    fn headers(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE_HEADER, cookie.parse().unwrap())])
    }

    #[test]
    fn a_cookie_comes_back_as_its_user() {
        let (set, cookie) = signed_in(&session(), 42);
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/"), "{set}");
        assert!(!set.contains("Secure"), "{set}");
        assert_eq!(session().user_id(&headers(&cookie)), Some(42));
        assert_eq!(session().user_id(&headers(&format!("a=b; {cookie}; c=d"))), Some(42));
    }

    #[test]
    fn over_tls_a_cookie_is_of_this_host_alone() {
        let (set, cookie) = signed_in(&session().secure(), 42);
        assert!(set.starts_with("__Host-chess_session=") && set.contains("; Secure"), "{set}");
        assert!(set.contains("; Path=/") && !set.contains("Domain"), "{set}");
        assert_eq!(session().secure().user_id(&headers(&cookie)), Some(42));
        let (_, planted) = signed_in(&session(), 42);
        assert_eq!(session().secure().user_id(&headers(&planted)), None);
        let gone = session().secure().sign_out(&headers(&cookie)).into_response();
        let gone = gone.headers()[SET_COOKIE].to_str().unwrap();
        // Browsers ignore the removal of such a cookie without these.
        assert!(gone.contains("; Secure") && gone.contains("; Path=/"), "{gone}");
    }

    #[test]
    fn a_cookie_that_was_tampered_with_counts_as_none() {
        let (_, cookie) = signed_in(&session(), 42);
        let value = cookie.strip_prefix("chess_session=").unwrap();
        let (signature, id) = value.split_at(value.len() - 2);
        assert_eq!(id, "42");
        for forged in [
            "42".to_owned(),
            String::new(),
            format!("{signature}43"),
            format!("{signature}4"),
            format!("{signature}042"),
            format!("{}{id}", signature.to_uppercase()),
            "A".repeat(8_000),
            "%00%FF%zz".to_owned(),
        ] {
            assert_eq!(session().user_id(&headers(&format!("chess_session={forged}"))), None, "{forged}");
        }
        let renamed = format!("chess_session2={value}");
        assert_eq!(session().user_id(&headers(&renamed)), None);
    }

    #[test]
    fn a_cookie_of_another_secret_counts_as_none() {
        let (_, cookie) = signed_in(&Session::new(&[8; SECRET_BYTES]).unwrap(), 42);
        assert_eq!(session().user_id(&headers(&cookie)), None);
    }

    #[test]
    fn a_short_secret_is_refused_and_a_random_one_is_not() {
        assert!(Session::new(b"hunter2").unwrap_err().to_string().contains("SECRET has 7 bytes"));
        assert!(Session::new(&Session::random_secret()).is_ok());
        assert_ne!(Session::random_secret(), Session::random_secret());
    }
}
