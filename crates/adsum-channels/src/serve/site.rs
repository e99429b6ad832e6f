//! The program's router, for the requests of a connection.

use std::{convert::Infallible, error::Error, fmt, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, StatusCode, Version, header::HOST};
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;

use super::{
    activity::Activity,
    body::{AnswerBody, Answering, RequestBody},
};
use crate::sockets::{ServerSockets, Sockets};

/// The program's router, and the extension that its requests get.
#[derive(Clone)]
pub(super) struct Site {
    router: TowerToHyperService<Router>,
    sockets: ServerSockets,
}

impl Site {
    pub(super) fn new(router: Router, sockets: Sockets) -> Self {
        Self { router: TowerToHyperService::new(router), sockets: ServerSockets(sockets) }
    }
}

/// Serves the requests of one connection.
pub(super) struct SiteOfPeer {
    pub(super) site: Site,
    pub(super) peer: SocketAddr,
    pub(super) activity: Arc<Activity>,
    pub(super) body_timeout: Duration,
}

impl Service<Request<Incoming>> for SiteOfPeer {
    type Response = Response<AnswerBody>;
    type Error = Unanswered;
    type Future = BoxFuture<'static, Result<Self::Response, Unanswered>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answering = Answering::new(self.activity.clone());
        if !names_one_host(&request) {
            let answer = (StatusCode::BAD_REQUEST, "a request must have one Host header").into_response();
            return async { Ok(answer.map(|body| AnswerBody::new(body, answering))) }.boxed();
        }
        let mut request = request.map(|body| Body::new(RequestBody::new(body, self.body_timeout)));
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request.extensions_mut().insert(self.site.sockets.clone());
        let answer = self.site.router.call(request);
        async move {
            let answer = answer.await.unwrap_or_else(|never: Infallible| match never {});
            if answer.extensions().get::<Unanswered>().is_some() {
                return Err(Unanswered);
            }
            Ok(answer.map(|body| AnswerBody::new(body, answering)))
        }
        .boxed()
    }
}

/// Whether a request has exactly one `Host`, as RFC 9112 requires in section 3.2.
fn names_one_host<B>(request: &Request<B>) -> bool {
    let hosts = request.headers().get_all(HOST).iter().count();
    hosts == 1 || (hosts == 0 && request.version() < Version::HTTP_11)
}

/// Marks a response that isn't sent: the connection is closed instead, so that a load balancer or the client tries
/// another node. Other servers send the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unanswered;

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server is shutting down; try another node")
    }
}

impl Error for Unanswered {}

/// Marks a response so that [`Serve`](crate::Serve) closes the connection instead of sending it.
pub(crate) fn unanswered(mut answer: Response) -> Response {
    answer.extensions_mut().insert(Unanswered);
    answer
}
