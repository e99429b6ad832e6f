//! An HTTP connection and its deadline.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use adsum_pubsub::metrics::{process, table};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    activity::{Activity, WatchedStream},
    options::ServeOptions,
    site::{Site, SiteOfPeer},
};

/// Serves a connection until its client or the server closes it, or it becomes a socket.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    site: Site,
    options: Arc<ServeOptions>,
    ending: CancellationToken,
) {
    let activity = Arc::new(Activity::new());
    let stream = WatchedStream::new(stream, activity.clone(), place);
    let site = SiteOfPeer { site, peer, activity: activity.clone(), body_timeout: options.body_timeout };
    // hyper's own timeout for heads also runs while the connection is idle, so it isn't used.
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_header_size(options.max_head_bytes);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), site).with_upgrades());
    let mut timer = pin!(sleep_until(Instant::now() + options.head_timeout));
    let mut ending = pin!(ending.cancelled_owned());
    let mut is_ending = false;
    let served = poll_fn(|cx| {
        if !is_ending && ending.as_mut().poll(cx).is_ready() {
            is_ending = true;
            activity.server_ends();
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(served) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(served));
        }
        // Checked after the connection, which may have made progress.
        poll_deadline(cx, timer.as_mut(), || activity.deadline(&options)).map(|()| None)
    })
    .await;
    match served {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "connection failed"),
        None if activity.is_idle() => tracing::debug!("closed an idle connection"),
        None => {
            process().add(&table::CONNECTIONS_TIMED_OUT, &[], 1);
            tracing::debug!("closed a connection: its client took too long");
        }
    }
}

/// Ready once the deadline has passed. The deadline may move meanwhile.
fn poll_deadline(
    cx: &mut Context<'_>,
    mut timer: std::pin::Pin<&mut Sleep>,
    deadline: impl Fn() -> Option<Instant>,
) -> Poll<()> {
    while let Some(deadline) = deadline() {
        // A timer that fires too early is cheaper than resetting it for each request.
        if timer.is_elapsed() || deadline < timer.deadline() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
    }
    Poll::Pending
}
