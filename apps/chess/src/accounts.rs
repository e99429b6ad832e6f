//! Signing in and out: by a name, and by a password for coming back from elsewhere.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequest, Request, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    CreateError, Name, Problem, Site, passwords::Password, protocol::User, session::Session, site::Failure,
};

/// A request to sign in. It is JSON and nothing else, for another site's form can't send that.
#[derive(Deserialize)]
pub(crate) struct SignIn {
    name: String,
    /// Of a new name, its password from now on.
    #[serde(default)]
    password: Option<String>,
}

/// A request for another password.
#[derive(Deserialize)]
pub(crate) struct NewPassword {
    password: String,
    /// The one before, if there is one.
    #[serde(default)]
    current: Option<String>,
}

pub(crate) async fn me(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Response, Failure> {
    let Some(Session { user, renewed, .. }) = site.sessions.of(&headers).await? else {
        return Ok(Json(json!({ "user": null })).into_response());
    };
    let has_password = site.db.password(user.id).await?.is_some();
    Ok((renewed, Json(json!({ "user": user, "has_password": has_password }))).into_response())
}

pub(crate) async fn sign_in(State(site): State<Arc<Site>>, request: Request) -> Result<Response, Failure> {
    let network = site.network(&request);
    let SignIn { name, password } = read(request).await?;
    let name = Name::parse(&name).map_err(|error| {
        Failure(StatusCode::UNPROCESSABLE_ENTITY, Problem::new("name_invalid", error.to_string()))
    })?;
    let node = &site.hall.node;
    let password = password.filter(|password| !password.is_empty());
    let Some(password) = password.as_deref().map(Password::parse).transpose().map_err(unprocessable)? else {
        node.names.check(network).map_err(too_fast)?;
        let user = created(site.db.create_user(&name).await)?;
        return begin(&site, user, StatusCode::CREATED).await;
    };
    node.attempts_from.check(network).map_err(too_fast)?;
    node.attempts.check(name.key().to_owned()).map_err(too_fast)?;
    if let Some((user, hash)) = site.db.by_name(&name).await? {
        let is_right =
            !user.bot && node.passwords.is_right(password, hash.clone()).await.map_err(unavailable)?;
        // Not if the password has become another one meanwhile.
        if let (true, Some(hash)) = (is_right, &hash)
            && let Some(cookie) = site.sessions.sign_in_by(user.id, hash).await?
        {
            return Ok((StatusCode::OK, cookie, Json(json!({ "user": user }))).into_response());
        }
        let message = "Somebody has that name, with another password or with none.";
        return Err(Failure(StatusCode::UNAUTHORIZED, Problem::new("wrong_password", message)));
    }
    node.names.check(network).map_err(too_fast)?;
    let hash = node.passwords.hash(password).await.map_err(unavailable)?;
    let user = created(site.db.create_user_with_password(&name, &hash).await)?;
    begin(&site, user, StatusCode::CREATED).await
}

pub(crate) async fn sign_out(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Response, Failure> {
    let (ended, cookie) = site.sessions.sign_out(&headers).await?;
    site.close_sockets(ended);
    Ok((cookie, StatusCode::NO_CONTENT).into_response())
}

pub(crate) async fn sign_out_everywhere(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let session = site.signed_in(&headers).await?;
    site.close_sockets(site.sessions.sign_out_everywhere(session.user.id).await?);
    Ok((site.sessions.nobody(&headers), StatusCode::NO_CONTENT).into_response())
}

/// Gives oneself a password, or another one. Whoever knew the one before is signed out.
pub(crate) async fn set_password(
    State(site): State<Arc<Site>>,
    request: Request,
) -> Result<Response, Failure> {
    let network = site.network(&request);
    let session = site.signed_in(request.headers()).await?;
    let NewPassword { password, current } = read(request).await?;
    let password = Password::parse(&password).map_err(unprocessable)?;
    let node = &site.hall.node;
    node.attempts_from.check(network).map_err(too_fast)?;
    let before = site.db.password(session.user.id).await?;
    if before.is_some() {
        let name = Name::parse(&session.user.name).map(|name| name.key().to_owned()).unwrap_or_default();
        node.attempts.check(name).map_err(too_fast)?;
        let is_right = match current.as_deref().map(Password::parse) {
            Some(Ok(current)) => {
                node.passwords.is_right(current, before.clone()).await.map_err(unavailable)?
            }
            _ => false,
        };
        if !is_right {
            return Err(wrong_password());
        }
    }
    let hash = node.passwords.hash(password).await.map_err(unavailable)?;
    if !site.db.set_password(session.user.id, before.as_deref(), &hash).await? {
        return Err(wrong_password());
    }
    site.close_sockets(site.db.end_other_sessions(session.user.id, &session.hash).await?);
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Site {
    /// The session of a request.
    pub(crate) async fn signed_in(&self, headers: &HeaderMap) -> Result<Session, Failure> {
        let session = self.sessions.of(headers).await?;
        session.ok_or_else(|| Failure(StatusCode::UNAUTHORIZED, Problem::not_signed_in()))
    }
}

fn created(user: Result<User, CreateError>) -> Result<User, Failure> {
    user.map_err(|error| match error {
        CreateError::Taken => {
            Failure(StatusCode::CONFLICT, Problem::new("name_taken", CreateError::Taken.to_string()))
        }
        CreateError::Database(error) => error.into(),
    })
}

async fn begin(site: &Site, user: User, status: StatusCode) -> Result<Response, Failure> {
    let cookie = site.sessions.sign_in(user.id).await?;
    Ok((status, cookie, Json(json!({ "user": user }))).into_response())
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Failure> {
    let read: Result<Json<T>, JsonRejection> = Json::from_request(request, &()).await;
    match read {
        Ok(Json(read)) => Ok(read),
        Err(error) => Err(Failure(error.status(), Problem::invalid(error.body_text()))),
    }
}

fn too_fast(problem: Problem) -> Failure {
    Failure(StatusCode::TOO_MANY_REQUESTS, problem)
}

fn unprocessable(problem: Problem) -> Failure {
    Failure(StatusCode::UNPROCESSABLE_ENTITY, problem)
}

fn unavailable(problem: Problem) -> Failure {
    Failure(StatusCode::SERVICE_UNAVAILABLE, problem)
}

fn wrong_password() -> Failure {
    let message = "That isn't the password that you have now.";
    Failure(StatusCode::UNAUTHORIZED, Problem::new("wrong_password", message))
}
