//! Tests of the frames at the end of a join, and of renewed states.

use std::sync::atomic::AtomicU64;

use adsum_pubsub::{SubscriberId, metrics::Metrics};

use super::*;
use crate::{metrics::QueueMetrics, outbound::Transport, serializer::V2, sockets::Sockets, view::ViewState};

/// A number that increases.
#[derive(Clone)]
struct Board {
    number: Arc<AtomicU64>,
    sender: SubscriberId,
}

impl View for Board {
    fn state(&self) -> ViewState {
        let n = self.number.load(Ordering::Relaxed);
        let payload = Payload::Json(Json::encode(&n).unwrap());
        ViewState { messages: vec![("state", payload)], seen: Mark { sender: self.sender, number: n } }
    }
}

impl Board {
    /// The change to a number.
    fn change(&self, number: u64) -> Arc<Message> {
        let payload = Payload::Json(Json::encode(&number).unwrap());
        let message = Message::new("room:a", "change", payload);
        Arc::new(message.marked(Mark { sender: self.sender, number }))
    }
}

/// A joined link with a queue that holds a few frames.
fn joined() -> (Arc<ChannelLink>, Board) {
    let address = JoinAddress { join_ref: r#""1""#.into(), topic: r#""room:a""#.into() };
    let options = Options { max_queue_bytes: 1000, ..Options::default() };
    let metrics = QueueMetrics::new(&Metrics::new(), &options);
    let outbound = Arc::new(Outbound::new(&Sockets::new().budget(&options, metrics), Transport::polled()));
    let codec = Codec::new(2, 0, V2);
    let link = Arc::new(ChannelLink::new("room:a".into(), address, outbound, codec, &options, &[]));
    link.locked(|queue| drop(link.set_subscribed(true, queue)));
    (link, Board { number: Arc::default(), sender: SubscriberId::unique() })
}

fn leave(link: &ChannelLink) {
    let shown = link.locked(|queue| {
        let shown = link.set_subscribed(false, queue);
        queue.push(link.close_frame().unwrap());
        shown
    });
    drop(shown);
}

/// The queued events and payloads.
fn sent(link: &ChannelLink) -> Vec<String> {
    let frames = link.outbound.take().0;
    let texts = frames.into_iter().map(|frame| match frame.into_message() {
        Some(crate::frame::Outgoing::Text(text)) => {
            serde_json::from_slice::<serde_json::Value>(&text).unwrap()
        }
        other => panic!("no text but {other:?}"),
    });
    texts.map(|frame| format!("{} {}", frame[3].as_str().unwrap(), frame[4])).collect()
}

/// Shows the board to a client that reads so slowly that it is owed the state.
fn slow(link: &Arc<ChannelLink>, board: &Board) {
    link.show(Box::new(board.clone())).unwrap();
    assert_eq!(sent(link), ["state 0"]);
    link.push("first", &Payload::Json(Json::empty_object())).unwrap();
    for number in 1..=100 {
        link.deliver(&board.change(number));
    }
    board.number.store(100, Ordering::Relaxed);
}

#[test]
fn a_state_that_is_owed_is_not_sent_after_the_end() {
    let (link, board) = joined();
    slow(&link, &board);
    leave(&link);
    assert_eq!(sent(&link), ["first {}", "phx_close {}"]);
}

#[test]
fn a_change_that_a_renewed_state_contains_is_not_sent() {
    let (link, board) = joined();
    slow(&link, &board);
    assert_eq!(sent(&link), ["first {}", "state 100"]);
    for number in [99, 100, 101] {
        link.deliver(&board.change(number));
    }
    assert_eq!(sent(&link), ["change 101"]);
}

#[test]
fn a_broadcast_and_a_late_reply_are_not_sent_after_the_end() {
    let (link, board) = joined();
    let reply = || link.reply_if_joined("\"7\"", "ok", &Payload::Json(Json::empty_object())).unwrap();
    reply();
    link.deliver(&board.change(1));
    assert_eq!(sent(&link), [r#"phx_reply {"response":{},"status":"ok"}"#, "change 1"]);
    leave(&link);
    reply();
    link.deliver(&board.change(2));
    assert_eq!(sent(&link), ["phx_close {}"]);
}
