//! The protocol state of a socket: takes a client's message and returns an action. It knows the joined topics.

use std::collections::HashMap;

use adsum_pubsub::Topic;

use crate::{
    options::Options,
    serializer::{BadMessage, ClientMessage, read_string},
};

/// The liveness of a channel.
pub(crate) trait Liveness {
    /// Whether it still accepts events. It must return false before the client can have read that the channel ended.
    fn is_open(&self) -> bool;
}

/// The joined topics of a socket.
pub(crate) struct ProtocolSession<C> {
    joins: HashMap<Topic, JoinedTopic<C>>,
    max_channels: usize,
    max_topic_bytes: usize,
}

struct JoinedTopic<C> {
    join_ref: Box<str>,
    /// Whether the client has left. The channel may take a moment to end.
    leaving: bool,
    channel: C,
}

/// The action for a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<C> {
    /// Reply with `{}`.
    Ok { with_join_ref: bool },
    /// Reply with an error and this reason.
    Error { with_join_ref: bool, reason: &'static str },
    /// Start a channel, then [`insert`](ProtocolSession::insert) it.
    Join {
        topic: Topic,
        /// The index of the route.
        route: usize,
        /// The `join_ref` of later frames.
        join_ref: Box<str>,
        /// The previous channel of the topic, which must end first.
        after: Option<C>,
        /// Whether the previous channel is still joined, and must be told to end.
        duplicate: bool,
    },
    /// Pass the event to the channel.
    Event(C),
    /// Tell the channel that its client leaves.
    Leave(C),
    /// Drop the message, which belongs to an ended join.
    Drop,
}

/// The prefix of topics that are used between nodes. Clients can't join them, whatever the routes are.
pub(crate) const RESERVED_PREFIX: &str = "adsum:";

const UNMATCHED: &str = "unmatched topic";
pub(crate) const TOPIC_TOO_LONG: &str = "topic too long";
pub(crate) const TOO_MANY_CHANNELS: &str = "too many channels joined";

/// Maximum length of a ref's JSON text, which is sent back to the client and kept with each join. Clients count up from
/// 1.
const MAX_REF_BYTES: usize = 64;

impl<C: Liveness + Clone> ProtocolSession<C> {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            joins: HashMap::new(),
            max_channels: options.max_channels,
            max_topic_bytes: options.max_topic_bytes,
        }
    }

    /// Returns the action for a message. `route` finds the route of a topic.
    ///
    /// # Errors
    /// A ref is too long.
    pub(crate) fn handle(
        &mut self,
        message: &ClientMessage<'_>,
        route: impl FnOnce(&str) -> Option<usize>,
    ) -> Result<Action<C>, BadMessage> {
        if message.join_ref.len().max(message.reference.len()) > MAX_REF_BYTES {
            return Err(BadMessage::Other(format!("a ref is longer than {MAX_REF_BYTES} bytes").into()));
        }
        Ok(self.action(message, route))
    }

    fn action(
        &mut self,
        message: &ClientMessage<'_>,
        route: impl FnOnce(&str) -> Option<usize>,
    ) -> Action<C> {
        let unmatched = Action::Error { with_join_ref: false, reason: UNMATCHED };
        let Some(topic) = read_string(&message.topic) else { return unmatched };
        let topic = &*topic;
        if topic == "phoenix" && message.event == "heartbeat" {
            return Action::Ok { with_join_ref: false };
        }
        if message.event == "phx_join" {
            return self
                .join(topic, message, route)
                .unwrap_or_else(|reason| Action::Error { with_join_ref: reason != UNMATCHED, reason });
        }
        let leave = message.event == "phx_leave";
        match self.joins.get_mut(topic).filter(|join| join.is_live()) {
            Some(join) if message.join_ref != "null" && message.join_ref != *join.join_ref => Action::Drop,
            Some(join) if leave => {
                join.leaving = true;
                Action::Leave(join.channel.clone())
            }
            Some(join) => Action::Event(join.channel.clone()),
            None if leave => Action::Ok { with_join_ref: true },
            None => unmatched,
        }
    }

    fn join(
        &self,
        topic: &str,
        message: &ClientMessage<'_>,
        route: impl FnOnce(&str) -> Option<usize>,
    ) -> Result<Action<C>, &'static str> {
        if topic.len() > self.max_topic_bytes {
            return Err(TOPIC_TOO_LONG);
        }
        if topic.starts_with(RESERVED_PREFIX) {
            return Err(UNMATCHED);
        }
        let route = route(topic).ok_or(UNMATCHED)?;
        let before = self.joins.get(topic);
        let duplicate = before.is_some_and(JoinedTopic::is_live);
        // Ending channels count as well, or a client could pile them up.
        if !duplicate && self.joins.len() - usize::from(before.is_some()) >= self.max_channels {
            return Err(TOO_MANY_CHANNELS);
        }
        // For a join without a join_ref, its ref is used, as recorded from Phoenix.
        let join_ref = if message.join_ref == "null" { &message.reference } else { &message.join_ref };
        Ok(Action::Join {
            topic: topic.into(),
            route,
            join_ref: (**join_ref).into(),
            after: before.map(|join| join.channel.clone()),
            duplicate,
        })
    }

    /// Adds a channel that was started.
    pub(crate) fn insert(&mut self, topic: Topic, join_ref: Box<str>, channel: C) {
        self.joins.insert(topic, JoinedTopic { join_ref, leaving: false, channel });
    }

    /// Removes the channel of a topic, if `ended` returns true for it.
    pub(crate) fn forget(&mut self, topic: &str, ended: impl FnOnce(&C) -> bool) {
        if self.joins.get(topic).is_some_and(|join| ended(&join.channel)) {
            self.joins.remove(topic);
        }
    }

    /// Removes all channels for which `ended` returns true.
    pub(crate) fn forget_all(&mut self, ended: impl Fn(&C) -> bool) {
        self.joins.retain(|_, join| !ended(&join.channel));
    }

    /// All channels.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &C> {
        self.joins.values().map(|join| &join.channel)
    }
}

impl<C: Liveness> JoinedTopic<C> {
    fn is_live(&self) -> bool {
        !self.leaving && self.channel.is_open()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::serializer::{Serializer, V2, Wire};

    #[derive(Clone, Debug)]
    struct Fake {
        number: usize,
        open: Rc<Cell<bool>>,
    }

    impl Liveness for Fake {
        fn is_open(&self) -> bool {
            self.open.get()
        }
    }

    impl PartialEq for Fake {
        fn eq(&self, other: &Self) -> bool {
            self.number == other.number
        }
    }

    impl Eq for Fake {}

    struct Client {
        session: ProtocolSession<Fake>,
        started: Vec<Fake>,
    }

    impl Client {
        fn new(options: &Options) -> Self {
            Self { session: ProtocolSession::new(options), started: Vec::new() }
        }

        /// Sends a frame, and starts the channel of a join.
        fn send(&mut self, frame: &str) -> Action<Fake> {
            let message = V2.decode(Wire::Text(frame.as_bytes())).unwrap();
            let action =
                self.session.handle(&message, |topic| topic.starts_with("room:").then_some(0)).unwrap();
            if let Action::Join { topic, join_ref, .. } = &action {
                let channel = Fake { number: self.started.len(), open: Rc::new(Cell::new(true)) };
                self.started.push(channel.clone());
                self.session.insert(topic.clone(), join_ref.clone(), channel);
            }
            action
        }

        fn channel(&self, number: usize) -> Fake {
            self.started[number].clone()
        }
    }

    fn client() -> Client {
        Client::new(&Options::default())
    }

    fn joined() -> Client {
        let mut client = client();
        client.send(r#"["1","1","room:a","phx_join",{}]"#);
        client
    }

    const NOT_FOUND: Action<Fake> = Action::Error { with_join_ref: false, reason: UNMATCHED };

    #[test]
    fn the_phoenix_topic_knows_the_heartbeat_only() {
        let mut client = client();
        let beat = Action::Ok { with_join_ref: false };
        assert_eq!(client.send(r#"[null,"2","phoenix","heartbeat",{}]"#), beat);
        assert_eq!(client.send(r#"[null,"1","phoenix","bogus",{}]"#), NOT_FOUND);
        assert_eq!(client.send(r#"["1","1","phoenix","phx_join",{}]"#), NOT_FOUND);
    }

    #[test]
    fn a_topic_that_is_not_joined_is_unmatched() {
        let mut client = client();
        for frame in [
            r#"[null,"10","room:other","echo",{}]"#,
            r#"["1","11","room:other","echo",{}]"#,
            r#"["14","14","nosuch:topic","phx_join",{}]"#,
            r#"["1","1",null,"phx_join",{}]"#,
            r#"["1","1",7,"echo",{}]"#,
            r#"["1","1","room:m7",5,{}]"#,
        ] {
            assert_eq!(client.send(frame), NOT_FOUND, "{frame}");
        }
        let left = Action::Ok { with_join_ref: true };
        assert_eq!(client.send(r#"["15","15","room:other","phx_leave",{}]"#), left);
    }

    #[test]
    fn topics_of_the_nodes_can_not_be_joined() {
        let mut session = ProtocolSession::<Fake>::new(&Options::default());
        let frame = br#"["1","1","adsum:longpoll:x","phx_join",{}]"#;
        let message = V2.decode(Wire::Text(frame)).unwrap();
        assert_eq!(session.handle(&message, |_| Some(0)).unwrap(), NOT_FOUND);
    }

    #[test]
    fn refs_are_short() {
        let mut session = ProtocolSession::<Fake>::new(&Options::default());
        let mut is_taken = |join_ref: usize, reference: usize| {
            let [join_ref, reference] = [join_ref, reference].map(|len| format!("{:0<len$}", "9"));
            let frame = format!(r#"[{join_ref},{reference},"room:a","e",{{}}]"#);
            session.handle(&V2.decode(Wire::Text(frame.as_bytes())).unwrap(), |_| Some(0)).is_ok()
        };
        assert!(is_taken(MAX_REF_BYTES, MAX_REF_BYTES));
        assert!(!is_taken(MAX_REF_BYTES + 1, 1));
        assert!(!is_taken(1, MAX_REF_BYTES + 1));
    }

    #[test]
    fn events_reach_the_join_that_they_name() {
        let mut client = joined();
        let event = Action::Event(client.channel(0));
        assert_eq!(client.send(r#"["1","5","room:a","echo",{}]"#), event);
        assert_eq!(client.send(r#"[null,"5","room:a","echo",{}]"#), event);
        assert_eq!(client.send(r#"["1",null,"room:a","echo",{}]"#), event);
        assert_eq!(client.send(r#"["1","5","room:a",5,{}]"#), event);
        assert_eq!(client.send(r#"["1","5","room:a","phx_close",{},"extra"]"#), event);
        assert_eq!(client.send(r#"["99","5","room:a","echo",{}]"#), Action::Drop);
        assert_eq!(client.send(r#"[1,9,"room:a","echo",{}]"#), Action::Drop);
        assert_eq!(client.send(r#"["99","5","room:a","phx_leave",{}]"#), Action::Drop);
    }

    #[test]
    fn a_leave_may_name_no_join_but_no_stale_one() {
        let mut client = joined();
        assert_eq!(client.send(r#"["99","8","room:a","phx_leave",{}]"#), Action::Drop);
        assert_eq!(client.send(r#"[null,"9","room:a","phx_leave",{}]"#), Action::Leave(client.channel(0)));
    }

    #[test]
    fn a_join_without_a_join_ref_goes_by_its_ref() {
        let named = |action| match action {
            Action::Join { join_ref, .. } => join_ref,
            other => panic!("{other:?}"),
        };
        let mut client = client();
        assert_eq!(&*named(client.send(r#"[null,"1","room:m11","phx_join",{}]"#)), r#""1""#);
        assert_eq!(&*named(client.send(r#"["1",null,"room:m12","phx_join",{}]"#)), r#""1""#);
        assert_eq!(client.send(r#"["1","2","room:m11","e",{}]"#), Action::Event(client.channel(0)));
    }

    #[test]
    fn a_second_join_replaces_the_first() {
        let mut client = joined();
        let Action::Join { after, duplicate, join_ref, .. } =
            client.send(r#"["16","16","room:a","phx_join",{}]"#)
        else {
            panic!("the topic is joined again");
        };
        assert_eq!((after, duplicate, &*join_ref), (Some(client.channel(0)), true, r#""16""#));
        assert_eq!(client.send(r#"["1","2","room:a","e",{}]"#), Action::Drop);
        assert_eq!(client.send(r#"["16","2","room:a","e",{}]"#), Action::Event(client.channel(1)));
        // The end of the previous channel doesn't end the new one.
        client.session.forget("room:a", |channel| channel.number == 0);
        assert_eq!(client.send(r#"["16","2","room:a","e",{}]"#), Action::Event(client.channel(1)));
    }

    #[test]
    fn after_a_leave_the_topic_is_unmatched_and_the_next_join_waits() {
        let mut client = joined();
        let leave = r#"["1","9","room:a","phx_leave",{}]"#;
        assert_eq!(client.send(leave), Action::Leave(client.channel(0)));
        assert_eq!(client.send(leave), Action::Ok { with_join_ref: true });
        assert_eq!(client.send(r#"["1","10","room:a","e",{}]"#), NOT_FOUND);
        let Action::Join { after, duplicate, .. } = client.send(r#"["11","11","room:a","phx_join",{}]"#)
        else {
            panic!("the topic is joined again");
        };
        assert_eq!((after, duplicate), (Some(client.channel(0)), false));
    }

    #[test]
    fn a_channel_that_has_ended_is_unmatched_before_anybody_says_so() {
        let mut client = joined();
        client.channel(0).open.set(false);
        assert_eq!(client.send(r#"["1","2","room:a","e",{}]"#), NOT_FOUND);
        let Action::Join { duplicate, .. } = client.send(r#"["3","3","room:a","phx_join",{}]"#) else {
            panic!("the topic is joined again");
        };
        assert!(!duplicate);
    }

    #[test]
    fn a_topic_that_was_left_may_be_joined_again_at_the_bound() {
        let options = Options { max_channels: 1, ..Options::default() };
        let mut client = Client::new(&options);
        client.send(r#"["1","1","room:a","phx_join",{}]"#);
        client.send(r#"["1","2","room:a","phx_leave",{}]"#);
        // The previous channel is still ending.
        let again = client.send(r#"["3","3","room:a","phx_join",{}]"#);
        assert!(matches!(again, Action::Join { duplicate: false, .. }), "{again:?}");
    }

    #[test]
    fn joins_are_bounded() {
        let options = Options { max_channels: 2, max_topic_bytes: 10, ..Options::default() };
        let mut client = Client::new(&options);
        let refused = |reason| Action::Error { with_join_ref: true, reason };
        let long = client.send(r#"["1","1","room:456789x","phx_join",{}]"#);
        assert_eq!(long, refused("topic too long"));
        client.send(r#"["1","1","room:45678","phx_join",{}]"#);
        client.send(r#"["2","2","room:b","phx_join",{}]"#);
        let third = r#"["3","3","room:c","phx_join",{}]"#;
        assert_eq!(client.send(third), refused("too many channels joined"));
        assert!(matches!(client.send(r#"["3","3","room:b","phx_join",{}]"#), Action::Join { .. }));
        client.send(r#"["3","4","room:b","phx_leave",{}]"#);
        assert_eq!(client.send(third), refused("too many channels joined"));
        client.session.forget("room:b", |_| true);
        assert!(matches!(client.send(third), Action::Join { .. }));
    }
}
