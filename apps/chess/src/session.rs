//! Sessions: a random token in a browser's cookie, of which the database knows a hash.

use std::time::Duration;

use axum::http::HeaderMap;
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use sha2::{Digest, Sha256};

use crate::{
    Db, UserId,
    ids::{hex, random_bytes},
    protocol::User,
};

/// The cookie's name. Browsers share cookies between the ports of a host, so it isn't just `session`.
const COOKIE: &str = "chess_session";
/// Its name over TLS. Browsers take a cookie of this prefix only from the host itself and over TLS, so that neither
/// another host of the domain nor somebody on the network can plant one.
const SECURE_COOKIE: &str = "__Host-chess_session";

/// The random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// The sessions of a site.
#[derive(Debug, Clone)]
pub struct Sessions {
    db: Db,
    lifetime: Duration,
    is_secure: bool,
}

/// The session that a request belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user: User,
    pub(crate) hash: String,
    /// The cookie anew, if the session was renewed.
    pub(crate) renewed: CookieJar,
}

impl Sessions {
    /// Sessions last for so long after the browser was here last, to within a half.
    pub fn new(db: Db, lifetime: Duration) -> Self {
        Self { db, lifetime, is_secure: false }
    }

    /// Has browsers keep the cookie for TLS. Cookies from before count as none.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.is_secure = true;
        self
    }

    /// Begins a session. Returns the cookie that makes the browser this user.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sign_in(&self, user: UserId) -> Result<CookieJar, sqlx::Error> {
        let token = hex(&random_bytes::<TOKEN_BYTES>());
        self.db.begin_session(&hash(&token), user, None, self.lifetime).await?;
        Ok(CookieJar::new().add(self.cookie(token)))
    }

    /// As [`sign_in`](Self::sign_in), if the user still has the password of this hash. `None` if not.
    pub(crate) async fn sign_in_by(
        &self,
        user: UserId,
        password: &str,
    ) -> Result<Option<CookieJar>, sqlx::Error> {
        let token = hex(&random_bytes::<TOKEN_BYTES>());
        let has_begun = self.db.begin_session(&hash(&token), user, Some(password), self.lifetime).await?;
        Ok(has_begun.then(|| CookieJar::new().add(self.cookie(token))))
    }

    /// Whose session a request belongs to, which is renewed if it is old. `None` if it has none, or one that has ended.
    pub(crate) async fn of(&self, headers: &HeaderMap) -> Result<Option<Session>, sqlx::Error> {
        let Some(token) = self.token(headers) else { return Ok(None) };
        let hash = hash(&token);
        let Some(live) = self.db.session(&hash, self.lifetime).await? else { return Ok(None) };
        let mut renewed = CookieJar::new();
        if live.is_old {
            self.db.renew_session(&hash, self.lifetime).await?;
            renewed = renewed.add(self.cookie(token));
        }
        Ok(Some(Session { user: live.user, hash, renewed }))
    }

    /// Whether a session hasn't ended.
    pub(crate) async fn is_live(&self, hash: &str) -> Result<bool, sqlx::Error> {
        Ok(self.db.session(hash, self.lifetime).await?.is_some())
    }

    /// Ends the session of a request. Returns its hash, and what makes the browser nobody.
    pub(crate) async fn sign_out(
        &self,
        headers: &HeaderMap,
    ) -> Result<(Option<String>, CookieJar), sqlx::Error> {
        let hash = self.token(headers).map(|token| hash(&token));
        if let Some(hash) = &hash {
            self.db.end_session(hash).await?;
        }
        Ok((hash, self.nobody(headers)))
    }

    /// Ends all sessions of a user. Returns their hashes.
    pub(crate) async fn sign_out_everywhere(&self, user: UserId) -> Result<Vec<String>, sqlx::Error> {
        self.db.end_sessions(user).await
    }

    /// The cookie that signs a browser out.
    pub(crate) fn nobody(&self, headers: &HeaderMap) -> CookieJar {
        CookieJar::from_headers(headers).remove(self.cookie(String::new()))
    }

    fn token(&self, headers: &HeaderMap) -> Option<String> {
        let jar = CookieJar::from_headers(headers);
        let token = jar.get(self.name())?.value();
        (token.len() == 2 * TOKEN_BYTES).then(|| token.to_owned())
    }

    fn name(&self) -> &'static str {
        if self.is_secure { SECURE_COOKIE } else { COOKIE }
    }

    fn cookie(&self, value: String) -> Cookie<'static> {
        // Lax, not Strict: who follows a link to the site is still signed in. Other sites' requests that change
        // anything come without it.
        let mut cookie = Cookie::build((self.name(), value))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.is_secure)
            .build();
        cookie.set_max_age(self.lifetime.try_into().ok());
        cookie
    }
}

/// The hash of a token, as the database holds it. It can't be used to sign in.
fn hash(token: &str) -> String {
    hex(&Sha256::digest(token))
}
