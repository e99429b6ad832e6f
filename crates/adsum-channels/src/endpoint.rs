//! What all sockets of a router share.

use std::sync::Arc;

use adsum_pubsub::PubSub;
use futures_util::future::BoxFuture;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Assigns, Connect, Refused, Sockets, options::Options, origin::Origins, runtime::Route, serializer::Codec,
};

pub(crate) type ConnectFn =
    Box<dyn Fn(Connect) -> BoxFuture<'static, Result<Assigns, Refused>> + Send + Sync>;

/// Held by the router alone: its end is the end of the sockets.
pub(crate) struct Owner {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) _guard: DropGuard,
}

/// What all sockets share.
pub(crate) struct Endpoint {
    pub(crate) connect: ConnectFn,
    pub(crate) routes: Vec<Route>,
    pub(crate) codecs: Vec<Arc<Codec>>,
    pub(crate) origins: Origins,
    pub(crate) sockets: Sockets,
    pub(crate) options: Options,
    pub(crate) pubsub: PubSub,
}

impl Endpoint {
    /// What speaks a version of the protocol.
    pub(crate) fn codec(&self, vsn: &str) -> Option<Arc<Codec>> {
        self.codecs.iter().find(|codec| codec.speaks(vsn)).cloned()
    }
}
