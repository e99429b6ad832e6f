//! Bodies of requests, with a timeout, and of responses, whose end is recorded.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{activity::Activity, options::MIN_BODY_RATE};

/// The body of a request. Its time only runs while the handler waits for it.
pub(super) struct RequestBody<B = Incoming> {
    body: B,
    /// The remaining time. Arriving bytes add to it, up to `most`.
    left: Duration,
    most: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B> RequestBody<B> {
    pub(super) fn new(body: B, timeout: Duration) -> Self {
        Self { body, left: timeout, most: timeout, waiting: None }
    }
}

impl<B> hyper::body::Body for RequestBody<B>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(waited) = self.waiting.take() {
                self.left = waited.deadline().saturating_duration_since(Instant::now());
            }
            if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(|frame| frame.data_ref())) {
                let bytes = data.map_or(0, Bytes::len);
                let gained = Duration::from_micros(1_000_000 * bytes as u64 / MIN_BODY_RATE as u64);
                self.left = self.left.saturating_add(gained).min(self.most);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = self.left;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + left)));
        waiting.as_mut().poll(cx).map(|()| Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The client didn't send the body in time.
#[derive(Debug)]
struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body of the request didn't arrive in time")
    }
}

impl Error for TooSlow {}

/// The body of a response.
pub(super) struct AnswerBody {
    body: Body,
    _answering: Answering,
}

impl AnswerBody {
    pub(super) fn new(body: Body, answering: Answering) -> Self {
        Self { body, _answering: answering }
    }
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Marks the connection as answering a request until it is dropped.
pub(super) struct Answering(Arc<Activity>);

impl Answering {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        activity.request_begins();
        Self(activity)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.request_is_answered();
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use futures_util::stream;

    use super::*;

    /// How much arrives of a body that comes in `pieces` of `bytes`, one every `pause`.
    async fn arrives(pieces: usize, bytes: usize, pause: Duration) -> Result<usize, axum::Error> {
        let body = Body::from_stream(stream::unfold(pieces, move |left| async move {
            tokio::time::sleep(pause).await;
            (left > 0).then(|| (Ok::<_, axum::Error>(Bytes::from(vec![0; bytes])), left - 1))
        }));
        let body = Body::new(RequestBody::new(body, Duration::from_secs(10)));
        to_bytes(body, usize::MAX).await.map(|bytes| bytes.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_time_as_long_as_it_comes_fast_enough() {
        let second = Duration::from_secs(1);
        assert_eq!(arrives(1000, 2 * MIN_BODY_RATE, second).await.ok(), Some(2_048_000));
        // A fast start gains no time for later.
        assert_eq!(arrives(3, 1_000_000, 9 * second).await.ok(), Some(3_000_000));
        assert!(arrives(2, 1_000_000, 11 * second).await.is_err());
        let began = Instant::now();
        assert!(arrives(1000, 1, second).await.is_err(), "it trickles");
        assert!(began.elapsed() <= 11 * second);
    }
}
