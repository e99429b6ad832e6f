//! Handles the HTTP request that becomes a socket.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use hyper::upgrade::OnUpgrade;

use super::{connection, stream::Stream};
use crate::{
    admission,
    endpoint::EndpointOwner,
    rfc6455::{extensions, handshake},
    transport_name::WEBSOCKET,
};

/// Responds to an upgrade request, and starts the socket's task.
pub(crate) async fn upgrade(owner: &EndpointOwner, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let accept = match handshake::accept(&parts) {
        Ok(accept) => accept,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return (StatusCode::BAD_REQUEST, "this connection can't be upgraded").into_response();
    };
    let deflate = extensions::accept_deflate(&parts.headers);
    let mut admitted = match admission::admit(&owner.endpoint, parts, WEBSOCKET).await {
        Ok(admitted) => admitted,
        Err(denied) => return denied.response(&owner.endpoint),
    };

    let compressing = deflate.as_ref().and_then(|_| owner.endpoint.compressing(&admitted.codec));
    let deflate = deflate.filter(|_| compressing.is_some());
    admitted.codec = compressing.unwrap_or(admitted.codec);
    let subprotocol = admitted.subprotocol.take();
    let endpoint = owner.endpoint.clone();
    owner.tasks.spawn("socket", |shutdown| async move {
        let upgraded = tokio::select! {
            upgraded = on_upgrade => upgraded,
            () = shutdown.cancelled() => return,
        };
        match upgraded {
            Ok(upgraded) => {
                connection::run(endpoint, admitted, Stream::new(upgraded), shutdown).await;
            }
            Err(error) => tracing::debug!(%error, "the client went away during the upgrade"),
        }
    });

    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(deflate) = deflate {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, deflate);
    }
    if let Some(subprotocol) = subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    response
}
