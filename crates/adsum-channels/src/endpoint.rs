//! A router: its routes and rules, and all that its sockets share.

use std::{sync::Arc, time::Duration};

use adsum_pubsub::tasks::TaskGroup;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::HeaderValue;

use crate::{
    assigns::Assigns,
    connect::Connect,
    context::SocketContext,
    metrics::SocketMetrics,
    origin::Origins,
    outbound::Budget,
    quota::Quota,
    refusal::{Refusal, Refused},
    runtime::Route,
    serializer::Codec,
    sockets::Sockets,
};

pub(crate) type ConnectFn =
    Box<dyn Fn(Connect) -> BoxFuture<'static, Result<Assigns, Refused>> + Send + Sync>;

pub(crate) type OnRefused = Box<dyn Fn(&Refusal, &Connect) -> Response + Send + Sync>;

/// Owned by the router alone: when it is dropped, the sockets end.
pub(crate) struct EndpointOwner {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Sockets and long poll sessions.
    pub(crate) tasks: TaskGroup,
}

/// A router: its routes and rules, and all that its sockets share.
pub(crate) struct Endpoint {
    pub(crate) connect: ConnectFn,
    pub(crate) on_refused: Option<OnRefused>,
    pub(crate) subprotocols: Vec<HeaderValue>,
    pub(crate) routes: Vec<Route>,
    pub(crate) codecs: Vec<Arc<Codec>>,
    /// The same, for clients that agreed on compression. Empty if it is off.
    pub(crate) compressing_codecs: Vec<Arc<Codec>>,
    pub(crate) origins: Origins,
    pub(crate) sockets: Sockets,
    pub(crate) budget: Arc<Budget>,
    pub(crate) quota: Quota,
    pub(crate) metrics: Arc<SocketMetrics>,
    pub(crate) context: Arc<SocketContext>,
}

impl Endpoint {
    /// The longest shutdown grace of any channel.
    pub(crate) fn longest_grace(&self) -> Duration {
        let graces = self.routes.iter().filter_map(|route| route.shutdown_grace);
        graces.fold(self.context.options.shutdown_grace, Duration::max)
    }

    /// The codec of a protocol version.
    pub(crate) fn codec(&self, vsn: &str) -> Option<Arc<Codec>> {
        self.codecs.iter().find(|codec| codec.speaks(vsn)).cloned()
    }

    /// The codec of the same version that compresses. `None` if compression is off.
    pub(crate) fn compressing(&self, codec: &Codec) -> Option<Arc<Codec>> {
        self.compressing_codecs.iter().find(|compressing| compressing.is_version_of(codec)).cloned()
    }
}
