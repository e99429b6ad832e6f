//! Telling the clients of a counted topic how many presences it has.

use adsum_pubsub::{Message, Topic};
use tokio::time::Instant;

use crate::{core::Core, encode, handler::PresenceHandler};

impl<H: PresenceHandler> Core<H> {
    /// Tells clients the number of presences in a topic, if it has changed and no window is open.
    pub(crate) fn tell_count(&self, topic: &Topic) {
        let (presences, keys) = {
            let mut shard = self.tracker.lock(topic);
            let Some(set) = shard.topic_mut(topic) else { return };
            let now = (set.count(), set.key_count());
            if set.layer.window_open || set.layer.told == Some(now) {
                return;
            }
            if self.pubsub.subscribers(topic) == 0 {
                set.layer.told = None;
                shard.tidy(topic);
                return;
            }
            set.layer.told = Some(now);
            let end = Instant::now() + self.timing.count_interval;
            set.layer.window_open = self.backlog.close_window_at(end, topic);
            now
        };
        let payload = encode::count(presences, keys);
        self.pubsub.deliver(Message::new(topic, "presence_count", payload.into()));
    }
}
