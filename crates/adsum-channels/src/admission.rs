//! Who may connect: the protocol's version, the page's origin, the subprotocol, and what the program says.

use std::{net::IpAddr, sync::Arc};

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, request::Parts};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    Assigns, Connect, ObservedConnect, Refusal,
    connect::offered_subprotocols,
    disconnect::DisconnectListener,
    endpoint::Endpoint,
    log::{LoggedError, is_enabled, limited},
    query::{self, BadQuery},
    serializer::Codec,
    serve::unanswered,
    sockets::SocketSets,
};

/// What carries the messages of a long poll session.
pub(crate) const LONGPOLL: &str = "longpoll";

/// A client that may connect.
pub(crate) struct Admitted {
    pub(crate) codec: Arc<Codec>,
    pub(crate) assigns: Assigns,
    pub(crate) disconnects: Option<DisconnectListener>,
    /// What a WebSocket's answer names.
    pub(crate) subprotocol: Option<HeaderValue>,
    /// Where its socket is noted.
    pub(crate) sets: SocketSets,
    /// What carries its messages.
    pub(crate) transport: &'static str,
}

/// A client that may not. Its request is kept where somebody wants to look at it.
pub(crate) struct Denied {
    pub(crate) refusal: Refusal,
    request: Option<Connect>,
}

impl Denied {
    /// The answer: that of the program's own handler, or an empty one, which says why only for limits.
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

/// Decides about a client. What comes of it is counted, logged and told to the observer here.
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
    let client = request.find_client_address(&endpoint.options.trusted_proxies);
    let keeps = endpoint.watch.observer.is_some()
        || endpoint.on_refused.is_some()
        || endpoint.watch.log_connect.is_some_and(is_enabled);
    let kept = keeps.then(|| request.clone());

    let vsn = vsn.map_err(|error| Refusal::Query(error.reason()));
    let version = vsn.as_deref().unwrap_or_default().to_owned();
    let decided = decide(endpoint, request, client, transport, vsn, subprotocol).await;
    let duration = start.elapsed();
    metrics::histogram!("adsum_socket_connect_seconds").record(duration);
    if let Err(refusal) = &decided {
        metrics::counter!("adsum_sockets_refused_total").increment(1);
        // A refused origin or host has a line of its own, which says more.
        if !matches!(refusal, Refusal::Origin | Refusal::Host) {
            limited!(INFO, transport, reason = %LoggedError::of(refusal), "connect refused");
        }
    }
    if let Some(request) = &kept {
        let result = decided.as_ref().map(|admitted| &admitted.assigns);
        let observed = ObservedConnect { request, transport, version: &version, duration, result };
        endpoint.watch.connected(&observed);
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
    let sets = SocketSets::of(&endpoint.sockets, request.extensions(), endpoint.watch.observer.as_ref());
    if sets.are_draining() {
        return Err(Refusal::Draining);
    }
    let vsn = vsn?;
    let codec = endpoint.codec(&vsn).ok_or_else(|| Refusal::Version(vsn))?;
    endpoint.origins.check(request.headers(), request.uri())?;
    let subprotocol = subprotocol?;
    // Before `connect`, which may ask a database.
    let (quota, options) = (&endpoint.quota, &endpoint.options);
    let counted = quota.enter(options, client, transport == LONGPOLL).map_err(Refusal::Limit)?;
    let assigns = (endpoint.connect)(request).await.map_err(Refusal::Program)?;
    let counted = match assigns.key_of_limit() {
        Some(key) => quota.enter_as(options, client, counted, key).map_err(Refusal::Limit)?,
        None => counted,
    };
    let sets = sets.counted(counted);
    let disconnects = DisconnectListener::attach(endpoint, &assigns);
    Ok(Admitted { codec, assigns, disconnects, subprotocol, sets, transport })
}

/// The first of ours that the client offers. Who offers none needs none.
fn choose(ours: &[HeaderValue], headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
    let is_offered = |protocol: &&HeaderValue| offered_subprotocols(headers).any(|offer| **protocol == offer);
    // phoenix.js offers it along with a token, and gives up where it isn't chosen.
    let phoenix = HeaderValue::from_static("phoenix");
    let chosen = std::iter::once(&phoenix).chain(ours).find(is_offered).cloned();
    let must_match = !ours.is_empty() && offered_subprotocols(headers).next().is_some();
    if chosen.is_none() && must_match { Err(Refusal::Subprotocol) } else { Ok(chosen) }
}

/// The protocol's version that a client asks for. One that doesn't ask means the first.
pub(crate) fn version(uri: &Uri) -> Result<String, BadQuery> {
    Ok(match query::read(uri)?.remove("vsn") {
        None => "1.0.0".to_owned(),
        Some(Value::String(vsn)) => vsn,
        // No version is a list or a map.
        Some(_) => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use http::header::SEC_WEBSOCKET_PROTOCOL;

    use super::*;

    #[test]
    fn who_asks_for_no_version_means_the_first() {
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
