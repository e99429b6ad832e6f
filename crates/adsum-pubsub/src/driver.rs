//! The task that talks to an engine: it connects, keeps the subscriptions, sends queued messages, and reconnects when
//! the connection is lost.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    engine_link::{CLOSE_TIMEOUT, EngineLink, MAX_CLOSE_TIME, Outgoing},
    replay::ANSWER_AFTER_LAST,
    tasks::{Panicked, noticed},
    topic::Topic,
};

/// Maximum number of messages to take out of the queue at once. Engines write them together.
const BATCH: usize = 128;

/// Maximum number of subscriptions in one request.
const SUBSCRIPTIONS: usize = 512;

/// How often to drop messages whose sender doesn't answer.
const TIDY_INTERVAL: Duration = Duration::from_millis(500);

/// A service that carries messages between nodes.
pub(crate) trait Engine: Send + Sync + 'static {
    type Session: EngineSession;

    /// Makes one attempt to connect.
    fn dial(&self, link: &Arc<EngineLink>) -> impl Future<Output = Result<Self::Session, Failure>> + Send;
}

/// One connection to an engine. Dropping it closes the connection.
///
/// Incoming messages go to [`EngineLink::receive`]. Methods don't wait for the engine's response unless they say so.
/// Requests take effect in the order in which they are made.
pub(crate) trait EngineSession: Send + 'static {
    /// Resolves once the connection is lost.
    fn lost(&self) -> &Lost;

    fn subscribe(&mut self, subjects: Vec<String>) -> impl Future<Output = Result<(), Failure>> + Send;

    fn unsubscribe(&mut self, subjects: Vec<String>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Waits until the engine has all earlier subscriptions and messages of this session.
    fn settle(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Sends these messages in order.
    fn publish(&mut self, outgoing: &mut Vec<Outgoing>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Drives pending requests; resolves only on failure. Cancel safe.
    fn proceed(&mut self) -> impl Future<Output = Failure> + Send;
}

/// Why there is no connection to an engine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// The engine is down or unreachable.
    Away(String),
    /// The engine is up and rejects this node's configuration.
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

/// Signals that a connection is lost, and why. The first reason is kept.
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

    /// Resolves once the connection is lost.
    fn told(&self) -> impl Future<Output = Failure> + Send + 'static {
        let mut lost = self.0.subscribe();
        async move {
            let failure = lost.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
            failure.unwrap_or_else(|| Failure::away("the client library has stopped"))
        }
    }
}

/// Talks to an engine for as long as it is polled. However it ends, even without having run, its link is closed then.
pub(crate) struct Driver<E: Engine> {
    pub(crate) engine: E,
    pub(crate) link: Arc<EngineLink>,
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    pub(crate) retry_interval: Duration,
}

impl<E: Engine> Driver<E> {
    /// Serves an open session, or connects first if there is none, until the node is closed.
    pub(crate) async fn run(mut self, first: Option<E::Session>) {
        let link = self.link.clone();
        let mut first = first;
        loop {
            let mut session = if let Some(session) = first.take() {
                // Messages sent since the node started wait in the queue.
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
                tracing::info!(engine, node, "reconnected to the other nodes");
                // Messages queued while the connection broke are stale by now.
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
                    () = tidy(&link) => unreachable!("the loop never ends"),
                    () = overdue(&link) => Ok(()),
                }
            };
            // After a panic, drop the connection and reconnect.
            let served = noticed("engine driver", served).await;
            let served = served.unwrap_or_else(|Panicked| Err(Failure::away("the driver panicked")));
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
                "lost the connection to the other nodes; this node goes on alone; reconnecting"
            );
        }
    }

    /// Connects, and waits until the engine has all subscriptions.
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

    /// Retries until it succeeds: at once, then at least once per interval.
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
                tracing::warn!(engine, node, reason, "the engine refused the connection; retrying");
                refused = Some(failure);
            } else {
                tracing::debug!(engine, node, reason, "still not connected");
            }
            pause = self.retry_interval.mul_f64(0.5 + jitter() / 2.0);
        }
    }

    /// Awaits a future while there is no session. The next session subscribes to all wanted topics; until then the list
    /// of changes is only kept bounded.
    async fn meanwhile<T>(&self, awaited: impl Future<Output = T>) -> T {
        let tidy = async {
            loop {
                self.link.interest.changed().await;
                self.link.interest.take(Instant::now());
            }
        };
        tokio::select! {
            output = awaited => output,
            () = tidy => unreachable!("the loop above never ends"),
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
            // Checked only here, so that messages being published are not abandoned.
            () = self.link.closing.cancelled(), if phase == Phase::Open => return Ok(()),
            () = self.link.interest.changed() => {}
            // The sender is in the link, so the channel never closes.
            _ = self.outgoing.recv_many(batch, BATCH) => {}
        }
        // Subscribe first, then publish: a reply to a message must not come before this node can receive it.
        let changes = self.link.interest.take(Instant::now());
        for topics in changes.added.chunks(SUBSCRIPTIONS) {
            session.subscribe(self.subjects(topics)).await?;
        }
        for topics in changes.removed.chunks(SUBSCRIPTIONS) {
            session.unsubscribe(self.subjects(topics)).await?;
        }
        if batch.is_empty() { Ok(()) } else { session.publish(batch).await }
    }

    /// Sends what was queued before the node was closed. Once the engine has it, answers challenges for a while.
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
        if !self.link.can_be_challenged() {
            return Ok(());
        }
        let answer = async {
            loop {
                self.step(session, batch, Phase::Closing).await?;
            }
        };
        timeout(ANSWER_AFTER_LAST, answer).await.unwrap_or(Ok(()))
    }

    fn subjects(&self, topics: &[Topic]) -> Vec<String> {
        topics.iter().map(|topic| self.link.topic_subject(topic)).collect()
    }

    fn discard(&mut self) {
        // Dropping a message counts it as unsent.
        while self.outgoing.try_recv().is_ok() {}
    }
}

impl<E: Engine> Drop for Driver<E> {
    fn drop(&mut self) {
        self.link.connected.send_replace(false);
        self.link.interest.close();
        self.link.closed.cancel();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    Closing,
}

/// Resolves when a closed node must have stopped.
async fn overdue(link: &EngineLink) {
    link.closing.cancelled().await;
    sleep(MAX_CLOSE_TIME).await;
}

/// Periodically drops what has expired.
async fn tidy(link: &EngineLink) {
    let mut ticks = interval(TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        link.tidy();
    }
}

/// A random number from 0 to 1, so that not all nodes reconnect at the same moment.
fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
