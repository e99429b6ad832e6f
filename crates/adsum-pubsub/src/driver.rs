//! The task that talks to an engine: it connects, keeps the subscriptions and sends what is queued, and starts
//! over when the engine is lost.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use crate::link::{Link, Outgoing};

/// How many messages are taken out of the queue at once. Engines write them in one go.
const BATCH: usize = 128;

/// How many subscriptions are asked for at once.
const SUBSCRIPTIONS: usize = 512;

/// Something that carries messages between nodes.
pub(crate) trait Engine: Send + Sync + 'static {
    type Session: Session;

    /// Connects, once.
    fn dial(&self, link: &Arc<Link>) -> impl Future<Output = Result<Self::Session, DialError>> + Send;
}

/// One connection to an engine. It ends when it is dropped.
///
/// What arrives goes to [`Link::receive`]. Nothing here waits for the engine's answer unless it says so; what is
/// asked for takes effect in its order.
pub(crate) trait Session: Send + 'static {
    /// Resolves once the connection is lost, with the reason.
    fn lost(&self) -> &Lost;

    fn subscribe(&mut self, subjects: Vec<String>) -> impl Future<Output = Result<(), String>> + Send;

    fn unsubscribe(&mut self, subjects: Vec<String>) -> impl Future<Output = Result<(), String>> + Send;

    /// Waits until the engine has all subscriptions that were asked for.
    fn settle(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    fn publish(&mut self, outgoing: Vec<Outgoing>) -> impl Future<Output = Result<(), String>> + Send;

    /// Moves on what was asked for before, and never ends but in an error. Cancel safe.
    fn proceed(&mut self) -> impl Future<Output = String> + Send {
        std::future::pending()
    }
}

/// Why an engine could not be connected to.
#[derive(Debug)]
pub(crate) enum DialError {
    /// It isn't there now, or not reached.
    Away(String),
    /// It is there, and doesn't take this node as it is configured.
    Refused(String),
}

/// Tells that a connection is lost, and why: the first reason counts.
#[derive(Clone, Default)]
pub(crate) struct Lost(watch::Sender<Option<String>>);

impl Lost {
    pub(crate) fn tell(&self, reason: impl ToString) {
        self.0.send_if_modified(|lost| {
            let is_first = lost.is_none();
            lost.get_or_insert_with(|| reason.to_string());
            is_first
        });
    }

    pub(crate) fn told(&self) -> impl Future<Output = String> + Send + 'static {
        let mut lost = self.0.subscribe();
        async move {
            let reason = lost.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
            reason.unwrap_or_else(|| "the client has ended".to_owned())
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
    pub(crate) async fn run(mut self, first: Option<E::Session>) {
        let mut first = first;
        let mut was_away = first.is_none();
        loop {
            let mut session = match first.take() {
                Some(session) => session,
                None => self.dial().await,
            };
            let lost = session.lost().told();
            let reason = tokio::select! {
                reason = lost => reason,
                reason = self.serve(&mut session, was_away) => reason,
            };
            drop(session);
            self.link.connected.send_replace(false);
            self.discard();
            was_away = true;
            tracing::warn!(
                engine = self.link.engine,
                reason,
                "the other nodes can't be reached; this one goes on by itself, and tries to connect again"
            );
        }
    }

    /// Tries until it is connected: at once, then at least once in every interval.
    async fn dial(&mut self) -> E::Session {
        let connect = async {
            let mut pause = self.retry_interval.mul_f64(jitter() / 10.0);
            loop {
                sleep(pause).await;
                match self.engine.dial(&self.link).await {
                    Ok(session) => return session,
                    Err(DialError::Away(reason) | DialError::Refused(reason)) => {
                        tracing::debug!(engine = self.link.engine, reason, "still not connected");
                    }
                }
                pause = self.retry_interval.mul_f64(0.5 + jitter() / 2.0);
            }
        };
        // What is wanted is asked for when there is a session; until then it is only kept in bounds.
        let tidy = async {
            loop {
                self.link.interest.changed().await;
                self.link.interest.take(Instant::now());
            }
        };
        tokio::select! {
            session = connect => session,
            () = tidy => unreachable!("the loop above has no end"),
        }
    }

    /// Serves a session until it fails, and says why it has.
    async fn serve(&mut self, session: &mut E::Session, was_away: bool) -> String {
        if let Err(reason) = self.begin(session).await {
            return reason;
        }
        // What was queued while the connection went is stale by now.
        self.discard();
        self.link.connected.send_replace(true);
        if was_away {
            tracing::info!(engine = self.link.engine, "the other nodes can be reached again");
        }
        loop {
            match self.step(session).await {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(reason) => return reason,
            }
        }
    }

    async fn begin(&mut self, session: &mut E::Session) -> Result<(), String> {
        session.subscribe(vec![self.link.node_subject(self.link.node())]).await?;
        for topics in self.link.interest.take_all().chunks(SUBSCRIPTIONS) {
            session.subscribe(topics.iter().map(|topic| self.link.topic_subject(topic)).collect()).await?;
        }
        session.settle().await
    }

    async fn step(&mut self, session: &mut E::Session) -> ControlFlow<String> {
        let mut batch = Vec::with_capacity(BATCH);
        tokio::select! {
            reason = session.proceed() => return ControlFlow::Break(reason),
            () = self.link.interest.changed() => {}
            // The sender is in the link, so there is always one.
            _ = self.outgoing.recv_many(&mut batch, BATCH) => {}
        }
        // First what this node wants, then what it sends: a message must not be answered before its sender can
        // hear the answer.
        let result = async {
            let changes = self.link.interest.take(Instant::now());
            let subjects = |topics: &[crate::Topic]| {
                topics.iter().map(|topic| self.link.topic_subject(topic)).collect::<Vec<_>>()
            };
            for topics in changes.added.chunks(SUBSCRIPTIONS) {
                session.subscribe(subjects(topics)).await?;
            }
            for topics in changes.removed.chunks(SUBSCRIPTIONS) {
                session.unsubscribe(subjects(topics)).await?;
            }
            if batch.is_empty() { Ok(()) } else { session.publish(batch).await }
        };
        match result.await {
            Ok(()) => ControlFlow::Continue(()),
            Err(reason) => ControlFlow::Break(reason),
        }
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
