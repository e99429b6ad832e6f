//! The task that talks to an engine: it connects, keeps the subscriptions and sends what is queued, and starts
//! over when the engine is lost.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use crate::{
    Topic,
    link::{Link, Outgoing},
};

/// How many messages are taken out of the queue at once. Engines write them in one go.
const BATCH: usize = 128;

/// How many subscriptions are asked for at once.
const SUBSCRIPTIONS: usize = 512;

/// Something that carries messages between nodes.
pub(crate) trait Engine: Send + Sync + 'static {
    type Session: Session;

    /// Connects, once.
    fn dial(&self, link: &Arc<Link>) -> impl Future<Output = Result<Self::Session, Failure>> + Send;
}

/// One connection to an engine. It ends when it is dropped.
///
/// What arrives goes to [`Link::receive`]. Nothing here waits for the engine's answer unless it says so; what is
/// asked for takes effect in its order.
pub(crate) trait Session: Send + 'static {
    /// What tells once the connection is lost.
    fn lost(&self) -> &Lost;

    fn subscribe(&mut self, subjects: Vec<String>) -> impl Future<Output = Result<(), Failure>> + Send;

    fn unsubscribe(&mut self, subjects: Vec<String>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Waits until the engine has all subscriptions that were asked for.
    fn settle(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    fn publish(&mut self, outgoing: Vec<Outgoing>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Moves on what was asked for before, and never ends but in a failure. Cancel safe.
    fn proceed(&mut self) -> impl Future<Output = Failure> + Send;
}

/// Why there is no connection to an engine, or no longer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// It isn't there now, or not reached.
    Away(String),
    /// It is there, and doesn't take this node as it is configured.
    Refused(String),
}

impl Failure {
    pub(crate) fn away(reason: impl ToString) -> Self {
        Self::Away(reason.to_string())
    }

    fn reason(&self) -> &str {
        match self {
            Self::Away(reason) | Self::Refused(reason) => reason,
        }
    }
}

/// Tells that a connection is lost, and why: the first reason counts.
#[derive(Clone, Default)]
pub(crate) struct Lost(watch::Sender<Option<Failure>>);

impl Lost {
    pub(crate) fn tell(&self, failure: Failure) {
        self.0.send_if_modified(|lost| {
            let is_first = lost.is_none();
            lost.get_or_insert(failure);
            is_first
        });
    }

    /// Resolves once it is told.
    fn told(&self) -> impl Future<Output = Failure> + Send + 'static {
        let mut lost = self.0.subscribe();
        async move {
            let failure = lost.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
            failure.unwrap_or_else(|| Failure::away("the client has ended"))
        }
    }
}

/// Talks to an engine for as long as it is polled.
pub(crate) struct Driver<E: Engine> {
    pub(crate) engine: E,
    pub(crate) link: Arc<Link>,
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    pub(crate) retry_interval: Duration,
}

impl<E: Engine> Driver<E> {
    /// Goes on from a session that was opened, or from none.
    pub(crate) async fn run(mut self, first: Option<E::Session>) {
        let mut first = first;
        loop {
            let mut session = match first.take() {
                Some(session) => session,
                None => self.open_again().await,
            };
            // What was queued while the connection went is stale by now.
            self.discard();
            self.link.connected.send_replace(true);

            let lost = session.lost().told();
            let serve = async {
                loop {
                    if let Err(failure) = self.step(&mut session).await {
                        return failure;
                    }
                }
            };
            let failure = tokio::select! {
                failure = lost => failure,
                failure = serve => failure,
            };
            drop(session);
            self.link.connected.send_replace(false);
            self.discard();
            tracing::warn!(
                engine = self.link.engine,
                node = self.link.node(),
                reason = failure.reason(),
                "the other nodes can't be reached; this one goes on by itself, and tries to connect again"
            );
        }
    }

    /// Connects, and has the engine take all subscriptions.
    pub(crate) async fn open(&self) -> Result<E::Session, Failure> {
        let mut session = self.engine.dial(&self.link).await?;
        let lost = session.lost().told();
        let begin = async {
            session.subscribe(vec![self.link.node_subject(self.link.node())]).await?;
            for topics in self.link.interest.take_all().chunks(SUBSCRIPTIONS) {
                session.subscribe(self.subjects(topics)).await?;
            }
            session.settle().await
        };
        tokio::select! {
            failure = lost => return Err(failure),
            result = begin => result?,
        }
        Ok(session)
    }

    /// Tries until it succeeds: at once, then at least once in every interval.
    async fn open_again(&self) -> E::Session {
        let open = async {
            let mut pause = self.retry_interval.mul_f64(jitter() / 10.0);
            loop {
                sleep(pause).await;
                match self.open().await {
                    Ok(session) => return session,
                    Err(failure) => {
                        let reason = failure.reason();
                        tracing::debug!(engine = self.link.engine, reason, "still not connected");
                    }
                }
                pause = self.retry_interval.mul_f64(0.5 + jitter() / 2.0);
            }
        };
        // All that is wanted is asked for when there is a session. Until then it is only kept in bounds.
        let tidy = async {
            loop {
                self.link.interest.changed().await;
                self.link.interest.take(Instant::now());
            }
        };
        let session = tokio::select! {
            session = open => session,
            () = tidy => unreachable!("the loop above has no end"),
        };
        let node = self.link.node();
        tracing::info!(engine = self.link.engine, node, "the other nodes can be reached again");
        session
    }

    async fn step(&mut self, session: &mut E::Session) -> Result<(), Failure> {
        let mut batch = Vec::with_capacity(BATCH);
        tokio::select! {
            failure = session.proceed() => return Err(failure),
            () = self.link.interest.changed() => {}
            // The sender is in the link, so there is always one.
            _ = self.outgoing.recv_many(&mut batch, BATCH) => {}
        }
        // First what this node wants, then what it sends: a message must not be answered before its sender can
        // hear the answer.
        let changes = self.link.interest.take(Instant::now());
        for topics in changes.added.chunks(SUBSCRIPTIONS) {
            session.subscribe(self.subjects(topics)).await?;
        }
        for topics in changes.removed.chunks(SUBSCRIPTIONS) {
            session.unsubscribe(self.subjects(topics)).await?;
        }
        if batch.is_empty() { Ok(()) } else { session.publish(batch).await }
    }

    fn subjects(&self, topics: &[Topic]) -> Vec<String> {
        topics.iter().map(|topic| self.link.topic_subject(topic)).collect()
    }

    fn discard(&mut self) {
        while self.outgoing.try_recv().is_ok() {
            self.link.dropped("disconnected");
        }
    }
}

/// A number from 0 to 1, so that not all nodes come back at the same moment.
fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}
