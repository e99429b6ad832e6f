//! The messages of one socket, as they pass.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use adsum_pubsub::log::cut_name;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    frame::Outgoing,
    outbound::{Outbound, Trace, Traced},
    param_filter::ParamFilter,
    serializer::{ClientMessage, write_string},
};

/// How many messages wait for the one who watches. Further ones are counted and left out.
const WAITING: usize = 64;
/// Longer messages are shown by their length only.
const MAX_READ_BYTES: usize = 64 * 1024;

/// The messages of a socket, in both directions; from [`SocketProbe::trace`](crate::SocketProbe::trace). The parameters
/// in them are filtered as in the log, and cut. Dropping it ends the watch.
pub struct SocketTrace {
    /// Each with how many were left out before it.
    messages: mpsc::Receiver<(u64, Traced)>,
    /// How many were left out before those that the caller isn't shown.
    skipped: u64,
    filter: ParamFilter,
    outbound: Weak<Outbound>,
}

/// A message of a watched socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TracedMessage {
    /// Whether the client sent it. If not, it was queued for the client.
    pub is_from_client: bool,
    /// Its length.
    pub bytes: usize,
    /// Its text, with secrets filtered: about a kilobyte at most.
    pub text: String,
    /// How many messages were left out just before it, as they came faster than they were read.
    pub skipped: u64,
}

impl SocketTrace {
    pub(crate) fn start(outbound: &Arc<Outbound>, filter: ParamFilter) -> Self {
        let (trace, messages) = Trace::new(WAITING);
        outbound.set_trace(trace);
        Self { messages, skipped: 0, filter, outbound: Arc::downgrade(outbound) }
    }

    /// The next message. `None` once the socket is gone, or watched anew by somebody else. Cancel safe.
    pub async fn next(&mut self) -> Option<TracedMessage> {
        loop {
            let (skipped, message) = self.messages.recv().await?;
            self.skipped += skipped;
            let (is_from_client, bytes, text) = match message {
                Traced::Received { bytes, text } => (true, bytes, text),
                Traced::Queued(frame) => {
                    // A close or a ping says nothing.
                    let Some(message) = frame.into_message() else { continue };
                    match message {
                        Outgoing::Text(text) => (false, text.len(), self.show(&text)),
                        Outgoing::Binary(bytes) => (false, bytes.len(), format!("<{} bytes>", bytes.len())),
                        Outgoing::Nothing | Outgoing::Close(_) => continue,
                    }
                }
            };
            let skipped = std::mem::take(&mut self.skipped);
            return Some(TracedMessage { is_from_client, bytes, text, skipped });
        }
    }

    fn show(&self, text: &[u8]) -> String {
        if text.len() > MAX_READ_BYTES {
            return format!("<{} bytes of text>", text.len());
        }
        match serde_json::from_slice(text) {
            Ok(value) => show_message(&self.filter, value),
            Err(_) => format!("<{} bytes of text>", text.len()),
        }
    }
}

/// A message as JSON: what is around its payload is the protocol's, and no secret.
fn show_message(filter: &ParamFilter, message: Value) -> String {
    match message {
        Value::Array(mut parts) if parts.len() == 5 => {
            let payload = filter.show_value(parts.pop().unwrap_or_default());
            let head: Vec<String> = parts.iter().map(Value::to_string).collect();
            format!("[{},{payload}]", head.join(","))
        }
        Value::Object(mut parts) if parts.contains_key("payload") => {
            let payload = filter.show_value(parts.remove("payload").unwrap_or_default());
            let mut text = Value::Object(parts).to_string();
            text.pop();
            format!("{text},\"payload\":{payload}}}")
        }
        other => filter.show_value(other),
    }
}

/// Shows a message of the client.
pub(crate) fn show_received(filter: &ParamFilter, message: &ClientMessage<'_>) -> String {
    let ClientMessage { join_ref, reference, topic, event, payload } = message;
    let payload = if payload.len() > MAX_READ_BYTES {
        format!("<{} bytes>", payload.len())
    } else {
        filter.show(payload)
    };
    let event = write_string(event);
    // Names of a hostile client may be as long as its message.
    let names: [&str; 4] = [join_ref, reference, topic, &event];
    let [join_ref, reference, topic, event] = names.map(cut_name);
    format!("[{join_ref},{reference},{topic},{event},{payload}]")
}

impl Drop for SocketTrace {
    fn drop(&mut self) {
        self.messages.close();
        if let Some(outbound) = self.outbound.upgrade() {
            outbound.end_trace();
        }
    }
}

impl fmt::Debug for SocketTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketTrace").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::frame::Frame;

    #[test]
    fn of_a_message_the_payload_is_filtered_and_the_rest_is_shown() {
        let shown = |filter, message| show_message(&filter, message);
        let message = json!(["1", "2", "room:1", "say", {"text": "hi", "token": "hunter2"}]);
        assert_eq!(
            shown(ParamFilter::default(), message.clone()),
            r#"["1","2","room:1","say",{"text":"hi","token":"[FILTERED]"}]"#
        );
        assert_eq!(
            shown(ParamFilter::keep([]), message),
            r#"["1","2","room:1","say",{"text":"[FILTERED]","token":"[FILTERED]"}]"#
        );
        let first = json!({"topic": "room:1", "event": "say", "ref": "2", "payload": {"password": 1}});
        assert_eq!(
            shown(ParamFilter::default(), first),
            r#"{"event":"say","ref":"2","topic":"room:1","payload":{"password":"[FILTERED]"}}"#
        );
    }

    #[tokio::test]
    async fn a_message_says_how_many_were_left_out_before_it() {
        let (mut trace, messages) = Trace::new(WAITING);
        let mut shown =
            SocketTrace { messages, skipped: 0, filter: ParamFilter::default(), outbound: Weak::new() };
        let note = |trace: &mut Trace, bytes| trace.note(Traced::Received { bytes, text: String::new() });
        for bytes in 0..WAITING + 3 {
            note(&mut trace, bytes);
        }
        let first = shown.next().await.expect("it is there");
        assert_eq!((first.bytes, first.skipped), (0, 0), "those that were left out came later");
        // A close isn't shown, but what was left out before it is told of.
        trace.note(Traced::Queued(Frame::whole(crate::rfc6455::frame::close(1000, ""))));
        let second = shown.next().await.expect("it is there");
        assert_eq!((second.bytes, second.skipped), (1, 0));
        note(&mut trace, 1000);
        let mut last = second;
        while last.bytes != 1000 {
            last = shown.next().await.expect("it is there");
        }
        assert_eq!(last.skipped, 3);
    }
}
