//! The task that talks to an engine: it connects, keeps the subscriptions and sends what is queued, and starts
//! over when the engine is lost.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};

use crate::{
    Topic,
    link::{Link, Outgoing},
    replay::ANSWER_AFTER_LAST,
    tasks::{Panicked, noticed},
};

/// How many messages are taken out of the queue at once. Engines write them in one go.
const BATCH: usize = 128;

/// How many subscriptions are asked for at once.
const SUBSCRIPTIONS: usize = 512;

/// How long a node that is closed goes on sending what was queued before.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often messages are dropped whose sender doesn't answer.
const TIDY_INTERVAL: Duration = Duration::from_millis(500);

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

    /// Waits until the engine has all subscriptions and messages that were given to this session before.
    fn settle(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Sends all of these, in their order.
    fn publish(&mut self, outgoing: &mut Vec<Outgoing>) -> impl Future<Output = Result<(), Failure>> + Send;

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
    /// Goes on from a session that was opened, or from none, until the node is closed.
    pub(crate) async fn run(mut self, first: Option<E::Session>) {
        let link = self.link.clone();
        let _ended = Ended(&link);
        let mut first = first;
        loop {
            let mut session = if let Some(session) = first.take() {
                // What was sent since the node was started waits in the queue.
                session
            } else {
                let opened = tokio::select! {
                    opened = noticed("engine driver", self.open_again()) => opened,
                    () = link.closing.cancelled() => return,
                };
                let Ok(session) = opened else {
                    sleep(self.retry_interval).await;
                    continue;
                };
                let (engine, node) = (self.link.engine, self.link.node());
                tracing::info!(engine, node, "the other nodes can be reached again");
                // What was queued while the connection went is stale by now.
                self.discard();
                self.link.connected.send_replace(!link.closing.is_cancelled());
                session
            };

            let lost = session.lost().told();
            let serve = async {
                let mut batch = Vec::new();
                while !link.closing.is_cancelled() {
                    self.step(&mut session, &mut batch, Phase::Open).await?;
                }
                self.finish(&mut session, &mut batch).await
            };
            let served = async {
                tokio::select! {
                    failure = lost => Err(failure),
                    served = serve => served,
                    () = tidy(&link) => unreachable!("it has no end"),
                    () = overdue(&link) => Ok(()),
                }
            };
            // A panic costs the connection, which is made anew.
            let served = noticed("engine driver", served).await;
            let served = served.unwrap_or_else(|Panicked| Err(Failure::away("the driver has panicked")));
            drop(session);
            self.link.connected.send_replace(false);
            self.discard();
            let Err(failure) = served else { return };
            if link.closing.is_cancelled() {
                return;
            }
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
        let mut session = self.meanwhile(self.engine.dial(&self.link)).await?;
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
        let mut refused = None;
        let mut pause = self.retry_interval.mul_f64(jitter() / 10.0);
        loop {
            self.meanwhile(sleep(pause)).await;
            let failure = match self.open().await {
                Ok(session) => break session,
                Err(failure) => failure,
            };
            let (engine, node, reason) = (self.link.engine, self.link.node(), failure.reason());
            if matches!(failure, Failure::Refused(_)) && refused.as_ref() != Some(&failure) {
                tracing::warn!(engine, node, reason, "the engine refuses this node; it tries on");
                refused = Some(failure);
            } else {
                tracing::debug!(engine, node, reason, "still not connected");
            }
            pause = self.retry_interval.mul_f64(0.5 + jitter() / 2.0);
        }
    }

    /// Waits for something while there is no session. All that is wanted is asked for when there is one; until then
    /// it is only kept in bounds.
    async fn meanwhile<T>(&self, awaited: impl Future<Output = T>) -> T {
        let tidy = async {
            loop {
                self.link.interest.changed().await;
                self.link.interest.take(Instant::now());
            }
        };
        tokio::select! {
            output = awaited => output,
            () = tidy => unreachable!("the loop above has no end"),
        }
    }

    async fn step(
        &mut self,
        session: &mut E::Session,
        batch: &mut Vec<Outgoing>,
        phase: Phase,
    ) -> Result<(), Failure> {
        tokio::select! {
            failure = session.proceed() => return Err(failure),
            // Only here, so that messages that are being published are not given up.
            () = self.link.closing.cancelled(), if phase == Phase::Open => return Ok(()),
            () = self.link.interest.changed() => {}
            // The sender is in the link, so there is always one.
            _ = self.outgoing.recv_many(batch, BATCH) => {}
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

    /// Sends what was queued before the node was closed, and answers those who ask whether that was its word.
    async fn finish(&mut self, session: &mut E::Session, batch: &mut Vec<Outgoing>) -> Result<(), Failure> {
        self.link.connected.send_replace(false);
        let send = async {
            while let Ok(outgoing) = self.outgoing.try_recv() {
                batch.push(outgoing);
            }
            if !batch.is_empty() {
                session.publish(batch).await?;
            }
            session.settle().await
        };
        if let Ok(sent) = timeout(CLOSE_TIMEOUT, send).await {
            sent?;
        }
        let Some(last_sent) = self.link.last_sent() else { return Ok(()) };
        let answer = async {
            loop {
                self.step(session, batch, Phase::Closing).await?;
            }
        };
        timeout_at(last_sent + ANSWER_AFTER_LAST, answer).await.unwrap_or(Ok(()))
    }

    fn subjects(&self, topics: &[Topic]) -> Vec<String> {
        topics.iter().map(|topic| self.link.topic_subject(topic)).collect()
    }

    fn discard(&mut self) {
        // Dropped, each is counted as unsent.
        while self.outgoing.try_recv().is_ok() {}
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    Closing,
}

/// Resolves when a node that is closed must have ended.
async fn overdue(link: &Link) {
    link.closing.cancelled().await;
    sleep(CLOSE_TIMEOUT + ANSWER_AFTER_LAST).await;
}

/// Drops from time to time what is over.
async fn tidy(link: &Link) {
    let mut ticks = interval(TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        link.tidy();
    }
}

/// Tells that the driver has ended, however it ends.
struct Ended<'l>(&'l Link);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.connected.send_replace(false);
        self.0.closed.cancel();
    }
}

/// A number from 0 to 1, so that not all nodes come back at the same moment.
fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
