//! Why a key is in a topic, or isn't.

mod merging;

use adsum_pubsub::Topic;
use adsum_tracker::Key;

use crate::{
    exchange::Question,
    explanation::{EXPLAIN_TIMEOUT, Explanation},
    handler::PresenceHandler,
    presence::Presence,
};

impl<H: PresenceHandler> Presence<H> {
    /// Explains why a key is in a topic, or why it isn't: what holds it on which node, whether that node and the client
    /// are heard, what is about to leave, and what has left of late, for which reason.
    ///
    /// The other nodes are asked, and have [`EXPLAIN_TIMEOUT`] (1 s) to answer; the explanation says which did not. A
    /// node remembers leaves as [`leave_memory`](crate::Builder::leave_memory) says.
    ///
    /// [`Explanation`] is JSON for a page, and its [`Display`](std::fmt::Display) is text for a person.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use adsum::{LeaveReason, Presence, PubSub};
    /// let presence = Presence::builder(PubSub::local()).start();
    /// let mut owner = presence.owner();
    /// owner.track("jobs", 7, serde_json::Map::new())?;
    /// assert!(presence.explain("jobs", 7).await.is_present());
    ///
    /// owner.finish();
    /// let explanation = presence.explain("jobs", 7).await;
    /// assert!(!explanation.is_present());
    /// assert_eq!(explanation.leaves[0].reason, LeaveReason::Finished);
    /// println!("{explanation}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn explain(&self, topic: impl Into<Topic>, key: impl Into<Key>) -> Explanation {
        let (topic, key) = (topic.into(), key.into());
        let question = Question::Explain { topic: topic.clone(), key: key.clone() };
        let (nodes, answers) =
            self.exchange.ask_all(&self.core, &self.inbox, question, EXPLAIN_TIMEOUT).await;
        let remembers = self.core.leaves.bounds();
        merging::explanation(topic, key, self.core.pubsub.node(), remembers, &nodes, answers)
    }
}
