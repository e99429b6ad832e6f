//! Decides which clients may connect, by the protocol version, the origin, the subprotocol, the limits and the program.

use std::{net::IpAddr, sync::Arc};

use adsum_pubsub::log::{cut_name, limited};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, request::Parts};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{Instrument, debug_span};

use crate::{
    assigns::Assigns,
    connect::{Connect, offered_subprotocols},
    disconnect::DisconnectListener,
    endpoint::Endpoint,
    log::is_enabled,
    logged_error::LoggedError,
    observe::ObservedConnect,
    query::{self, BadQuery},
    refusal::Refusal,
    serializer::Codec,
    serve::unanswered,
    sockets::SocketSets,
    transport_name::LONGPOLL,
};

/// An admitted client.
pub(crate) struct Admitted {
    pub(crate) codec: Arc<Codec>,
    pub(crate) assigns: Assigns,
    pub(crate) disconnects: Option<DisconnectListener>,
    /// The subprotocol that a WebSocket's response names.
    pub(crate) subprotocol: Option<HeaderValue>,
    /// The sets that its socket is added to.
    pub(crate) sets: SocketSets,
    /// The transport's name.
    pub(crate) transport: &'static str,
    /// The client's address, if it is known.
    pub(crate) address: Option<IpAddr>,
}

/// A refused client. Its request is kept if `on_refused` or an observer needs it.
pub(crate) struct Denied {
    pub(crate) refusal: Refusal,
    request: Option<Connect>,
}

impl Denied {
    /// The response: from the program's own handler, or an empty one, which gives a reason only for limits.
    pub(crate) fn response(&self, endpoint: &Endpoint) -> Response {
        let is_draining = matches!(self.refusal, Refusal::Draining);
        let response = match (&endpoint.on_refused, &self.request) {
            (Some(on_refused), Some(request)) => on_refused(&self.refusal, request),
            _ => match &self.refusal {
                Refusal::Program(refused) => {
                    refused.take_response().unwrap_or_else(|| StatusCode::FORBIDDEN.into_response())
                }
                Refusal::Draining => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                Refusal::Limit(limit) => (limit.status(), limit.to_string()).into_response(),
                Refusal::Query(_) => StatusCode::BAD_REQUEST.into_response(),
                _ => StatusCode::FORBIDDEN.into_response(),
            },
        };
        if is_draining { unanswered(response) } else { response }
    }
}

/// Decides about a client. Counts and logs the result, and passes it to the observer.
pub(crate) async fn admit(
    endpoint: &Endpoint,
    parts: Parts,
    transport: &'static str,
) -> Result<Admitted, Box<Denied>> {
    let start = Instant::now();
    let vsn = version(&parts.uri);
    let subprotocol = choose(&endpoint.subprotocols, &parts.headers);
    let chosen = subprotocol.as_ref().ok().cloned().flatten();
    let mut request = Connect::new(parts, chosen);
    let client = request.find_client_address(&endpoint.context.options.trusted_proxies);
    let keeps = endpoint.context.watch.observer.is_some()
        || endpoint.on_refused.is_some()
        || endpoint.context.watch.log_connect.is_some_and(is_enabled);
    let kept = keeps.then(|| request.clone());

    let vsn = vsn.map_err(|error| Refusal::Query(error.reason()));
    let version = vsn.as_deref().unwrap_or_default().to_owned();
    let span = debug_span!("connect", transport, version = %cut_name(&version));
    let decided =
        decide(endpoint, request, client, transport, vsn, subprotocol).instrument(span.clone()).await;
    let duration = start.elapsed();
    endpoint.metrics.connect_seconds.record(duration.as_secs_f64());
    if let Err(refusal) = &decided {
        endpoint.metrics.refused(refusal);
        // A refused origin or host has a log line of its own, with more detail.
        if !matches!(refusal, Refusal::Origin | Refusal::Host) {
            span.in_scope(
                || limited!(INFO, transport, reason = %LoggedError::of(refusal), "connect refused"),
            );
        }
    }
    if let Some(request) = &kept {
        let result = decided.as_ref().map(|admitted| &admitted.assigns);
        let observed = ObservedConnect { request, transport, version: &version, duration, result };
        endpoint.context.watch.connected(&observed);
    }
    decided.map_err(|refusal| Box::new(Denied { refusal, request: kept }))
}

async fn decide(
    endpoint: &Endpoint,
    request: Connect,
    client: Option<IpAddr>,
    transport: &'static str,
    vsn: Result<String, Refusal>,
    subprotocol: Result<Option<HeaderValue>, Refusal>,
) -> Result<Admitted, Refusal> {
    let sets =
        SocketSets::of(&endpoint.sockets, request.extensions(), endpoint.context.watch.observer.as_ref());
    if sets.are_draining() {
        return Err(Refusal::Draining);
    }
    let vsn = vsn?;
    let codec = endpoint.codec(&vsn).ok_or_else(|| Refusal::Version(vsn))?;
    endpoint.origins.check(request.headers(), request.uri())?;
    let subprotocol = subprotocol?;
    // Before `connect`, which may ask a database.
    let (quota, options) = (&endpoint.quota, &endpoint.context.options);
    let counted = quota.enter(options, client, transport == LONGPOLL).map_err(Refusal::Limit)?;
    let assigns = (endpoint.connect)(request).await.map_err(Refusal::Program)?;
    let counted = match assigns.key_of_limit() {
        Some(key) => quota.enter_as(options, client, counted, key).map_err(Refusal::Limit)?,
        None => counted,
    };
    let sets = sets.counted(counted);
    let disconnects = DisconnectListener::attach(&endpoint.context.pubsub, &assigns);
    Ok(Admitted { codec, assigns, disconnects, subprotocol, sets, transport, address: client })
}

/// Chooses the first of our subprotocols that the client offers. A client that offers none gets none.
fn choose(ours: &[HeaderValue], headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
    let is_offered = |protocol: &&HeaderValue| offered_subprotocols(headers).any(|offer| **protocol == offer);
    // phoenix.js offers it along with a token, and fails if it isn't chosen.
    let phoenix = HeaderValue::from_static("phoenix");
    let chosen = std::iter::once(&phoenix).chain(ours).find(is_offered).cloned();
    let must_match = !ours.is_empty() && offered_subprotocols(headers).next().is_some();
    if chosen.is_none() && must_match { Err(Refusal::Subprotocol) } else { Ok(chosen) }
}

/// The protocol version that a client requests; version 1 if it requests none.
pub(crate) fn version(uri: &Uri) -> Result<String, BadQuery> {
    Ok(match query::read(uri)?.remove("vsn") {
        None => "1.0.0".to_owned(),
        Some(Value::String(vsn)) => vsn,
        // A list or a map is never a version.
        Some(_) => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use http::header::SEC_WEBSOCKET_PROTOCOL;

    use super::*;

    #[test]
    fn a_client_that_requests_no_version_gets_the_first() {
        let version = |uri| version(&Uri::from_static(uri));
        assert_eq!(version("/?a=1").as_deref(), Ok("1.0.0"));
        assert_eq!(version("/?vsn=1.4.2&a=1&vsn=2.0.0").as_deref(), Ok("2.0.0"));
        assert_eq!(version("/?vsn[]=2.0.0").as_deref(), Ok(""));
        assert_eq!(version("/?a=%2&vsn=2.0.0"), Err(BadQuery::Escape));
    }

    #[test]
    fn the_first_of_ours_that_is_offered_is_chosen() {
        let choice = |ours: &[&'static str], offered: &[&'static str]| {
            let ours: Vec<_> = ours.iter().map(|name| HeaderValue::from_static(name)).collect();
            let lines = offered.iter().map(|line| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line)));
            let chosen = choose(&ours, &lines.collect());
            chosen.map(|chosen| chosen.map(|value| value.to_str().unwrap().to_owned())).map_err(|_| ())
        };
        let chosen = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(choice(&["a", "b"], &["b, a"]), chosen("a"));
        assert_eq!(choice(&["a", "b"], &["c", "x,b"]), chosen("b"));
        assert_eq!(choice(&["a"], &["phoenix, base64url.bearer.phx.c2VjcmV0"]), chosen("phoenix"));
        assert_eq!(choice(&[], &["phoenix"]), chosen("phoenix"));
        assert_eq!(choice(&["a"], &[]), Ok(None));
        assert_eq!(choice(&[], &["c"]), Ok(None));
        assert_eq!(choice(&["a"], &["A"]), Err(()));
        assert_eq!(choice(&["a"], &["base64url.bearer.phx.c2VjcmV0"]), Err(()));
    }
}
