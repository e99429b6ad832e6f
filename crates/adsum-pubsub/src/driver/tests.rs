//! The driver with an engine that a test can stop and disconnect.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::{
    adapter::QueueLimits,
    envelope::{Control, Envelopes},
    message::Message,
    metrics::table,
    payload::Payload,
    replay::Origin,
    tasks,
};

/// A request of the driver to the engine.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Dial(Instant),
    Subscribe(String),
    Unsubscribe(String),
    Settle,
    Publish(String),
}

/// An engine that is unreachable for a number of attempts.
#[derive(Clone, Default)]
struct Fake {
    asked: Arc<Mutex<Vec<Asked>>>,
    absent: Arc<Mutex<u32>>,
    /// A topic to join while the subscriptions are sent.
    late: Arc<Mutex<Option<Topic>>>,
    lost: Arc<Mutex<Lost>>,
    /// Accepts no message.
    stuck: Arc<AtomicBool>,
    /// How long it takes to settle.
    settles_in: Arc<Mutex<Duration>>,
}

struct FakeSession {
    fake: Fake,
    link: Arc<EngineLink>,
    lost: Lost,
}

impl Engine for Fake {
    type Session = FakeSession;

    async fn dial(&self, link: &Arc<EngineLink>) -> Result<FakeSession, Failure> {
        self.asked.lock().push(Asked::Dial(Instant::now()));
        let mut absent = self.absent.lock();
        if *absent > 0 {
            *absent -= 1;
            return Err(Failure::away("absent"));
        }
        let lost = Lost::default();
        *self.lost.lock() = lost.clone();
        Ok(FakeSession { fake: self.clone(), link: link.clone(), lost })
    }
}

impl FakeSession {
    fn ask(&self, asked: impl IntoIterator<Item = Asked>) {
        self.fake.asked.lock().extend(asked);
    }
}

impl EngineSession for FakeSession {
    fn lost(&self) -> &Lost {
        &self.lost
    }

    async fn subscribe(&mut self, subjects: Vec<String>) -> Result<(), Failure> {
        self.ask(subjects.into_iter().map(Asked::Subscribe));
        Ok(())
    }

    async fn unsubscribe(&mut self, subjects: Vec<String>) -> Result<(), Failure> {
        self.ask(subjects.into_iter().map(Asked::Unsubscribe));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        self.ask([Asked::Settle]);
        if let Some(topic) = self.fake.late.lock().take() {
            self.link.interest.join(&topic);
        }
        let settles_in = *self.fake.settles_in.lock();
        sleep(settles_in).await;
        Ok(())
    }

    async fn publish(&mut self, outgoing: &mut Vec<Outgoing>) -> Result<(), Failure> {
        if self.fake.stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        for Outgoing { subject, room, .. } in outgoing.drain(..) {
            self.ask([Asked::Publish(subject)]);
            room.sent();
        }
        Ok(())
    }

    async fn proceed(&mut self) -> Failure {
        std::future::pending().await
    }
}

const RETRY: Duration = Duration::from_secs(1);

/// A driver that has not run yet.
fn driver(fake: &Fake) -> (Arc<EngineLink>, Driver<Fake>) {
    with_envelopes(fake, Envelopes::new("ns", "a", Origin::default(), []))
}

fn with_envelopes(fake: &Fake, envelopes: Envelopes) -> (Arc<EngineLink>, Driver<Fake>) {
    let limits = QueueLimits { messages: 4, bytes: 1 << 20 };
    let (link, outgoing) = EngineLink::new("Fake", "ns", None, envelopes, Duration::from_secs(10), limits);
    let driver = Driver { engine: fake.clone(), link: link.clone(), outgoing, retry_interval: RETRY };
    (link, driver)
}

/// Starts a driver without a session, as after a start without an engine.
fn start(fake: &Fake) -> (Arc<EngineLink>, tasks::Task) {
    let (link, driver) = driver(fake);
    (link, tasks::spawn("driver", driver.run(None)))
}

/// Starts a driver with a session, as after a start with an engine.
async fn start_connected(fake: &Fake) -> (Arc<EngineLink>, tasks::Task) {
    connect(driver(fake)).await
}

async fn connect((link, driver): (Arc<EngineLink>, Driver<Fake>)) -> (Arc<EngineLink>, tasks::Task) {
    let session = driver.open().await.unwrap();
    link.connected.send_replace(true);
    (link, tasks::spawn("driver", driver.run(Some(session))))
}

fn message(topic: &str) -> Message {
    Message::new(topic, "e", Payload::Binary(bytes::Bytes::new()))
}

async fn connected(link: &EngineLink, expected: bool) {
    link.connected.subscribe().wait_for(|connected| *connected == expected).await.unwrap();
}

/// Waits until all tasks are idle.
async fn quiet() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn it_tries_at_least_once_in_every_interval() {
    let fake = Fake::default();
    *fake.absent.lock() = 20;
    let start_time = Instant::now();
    let (link, _task) = start(&fake);
    connected(&link, true).await;

    let asked = fake.asked.lock();
    let dials = asked.iter().filter_map(|asked| if let Asked::Dial(at) = asked { Some(*at) } else { None });
    let times: Vec<Instant> = [start_time].into_iter().chain(dials).collect();
    assert_eq!(times.len(), 22);
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] <= RETRY, "{times:?}");
    }
    // And not more often than necessary. Only the first attempt is immediate.
    for pair in times[1..].windows(2) {
        assert!(pair[1] - pair[0] >= RETRY / 2, "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn interest_is_given_up_while_there_is_no_engine() {
    let fake = Fake::default();
    *fake.absent.lock() = u32::MAX;
    let (link, _task) = start(&fake);
    for n in 0..20 {
        let topic = Topic::from(format!("t:{n}"));
        link.interest.join(&topic);
        link.interest.leave(&topic);
    }
    quiet().await;
    assert_eq!(link.interest.len(), 20);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(link.interest.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_right_after_the_start_goes_out() {
    let fake = Fake::default();
    let (link, _task) = start_connected(&fake).await;
    // The driver has not been polled yet.
    link.send(None, &message("first")).unwrap();
    quiet().await;
    assert_eq!(fake.asked.lock().last(), Some(&Asked::Publish(link.topic_subject("first"))));
}

#[tokio::test(start_paused = true)]
async fn frames_queued_before_it_is_closed_go_out() {
    let fake = Fake::default();
    let (link, mut task) = start_connected(&fake).await;
    for topic in ["1", "2", "3"] {
        link.send(None, &message(topic)).unwrap();
    }
    link.closing.cancel();
    task.ended().await;
    let published = ["1", "2", "3"].map(|topic| Asked::Publish(link.topic_subject(topic)));
    let expected = [&published[..], &[Asked::Settle]].concat();
    assert!(fake.asked.lock().ends_with(&expected), "{:?}", fake.asked.lock());
    assert!(link.closed.is_cancelled() && !*link.connected.borrow());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_takes_nothing_is_not_waited_for_at_the_end() {
    let fake = Fake::default();
    let (link, mut task) = start_connected(&fake).await;
    fake.stuck.store(true, Ordering::Relaxed);
    link.send(None, &message("t")).unwrap();
    link.closing.cancel();
    let began = Instant::now();
    task.ended().await;
    assert_eq!(began.elapsed(), CLOSE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn challenges_are_answered_after_a_slow_end() {
    const SLOW: Duration = Duration::from_millis(900);
    let fake = Fake::default();
    let envelopes = |node, origin| Envelopes::new("ns", node, origin, [&b"a secret of the cluster"[..]]);
    let (a, b) = (Origin::default(), [1; 16]);
    let (link, mut task) = connect(with_envelopes(&fake, envelopes("a", a))).await;
    link.send(None, &message("last")).unwrap();
    *fake.settles_in.lock() = SLOW;
    link.closing.cancel();
    let began = Instant::now();
    sleep(CLOSE_TIMEOUT).await;
    // The engine delivers the message as late as it confirms it.
    let challenge = Control::Challenge { of: a, nonce: [2; 16] };
    link.receive(&envelopes("b", b).write_control("a", &challenge).unwrap());
    task.ended().await;
    assert_eq!(fake.asked.lock().last(), Some(&Asked::Publish(link.node_subject("b"))));
    assert_eq!(began.elapsed(), SLOW + ANSWER_AFTER_LAST);
}

#[tokio::test(start_paused = true)]
async fn a_message_in_hand_when_a_session_is_lost_counts_as_unsent() {
    let fake = Fake::default();
    let (link, _task) = start_connected(&fake).await;
    fake.stuck.store(true, Ordering::Relaxed);
    link.send(None, &message("in hand")).unwrap();
    quiet().await;
    link.send(None, &message("queued")).unwrap();
    fake.stuck.store(false, Ordering::Relaxed);
    fake.lost.lock().tell(Failure::away("cut"));
    connected(&link, false).await;
    connected(&link, true).await;
    link.send(None, &message("sent")).unwrap();
    quiet().await;
    let unsent = link.metrics().counter(&table::UNSENT_MESSAGES, &[link.engine, "disconnected"]);
    assert_eq!(unsent.get(), 2);
    let published = |topic| Asked::Publish(link.topic_subject(topic));
    let asked = fake.asked.lock();
    assert!(asked.contains(&published("sent")) && !asked.contains(&published("queued")));
}

#[tokio::test(start_paused = true)]
async fn all_interest_is_known_before_it_counts_as_connected() {
    let fake = Fake::default();
    *fake.absent.lock() = 1;
    let (link, _task) = start(&fake);
    link.interest.join(&"before".into());
    *fake.late.lock() = Some("late".into());
    connected(&link, true).await;
    let subscribed = |topic| Asked::Subscribe(link.topic_subject(topic));
    let node = Asked::Subscribe(link.node_subject("a"));
    assert_eq!(fake.asked.lock()[2..5], [node.clone(), subscribed("before"), Asked::Settle]);

    // A topic that came too late for that is subscribed to next, before any message is sent.
    link.send(None, &message("x")).unwrap();
    quiet().await;
    assert_eq!(fake.asked.lock()[5..], [subscribed("late"), Asked::Publish(link.topic_subject("x"))]);

    fake.asked.lock().clear();
    fake.lost.lock().tell(Failure::away("cut"));
    connected(&link, false).await;
    assert!(link.send(None, &message("x")).is_err());
    connected(&link, true).await;
    let mut asked = fake.asked.lock().split_off(1);
    asked[1..3].sort_by_key(|asked| *asked == subscribed("late"));
    assert_eq!(asked, [node, subscribed("before"), subscribed("late"), Asked::Settle]);
}

#[tokio::test(start_paused = true)]
async fn interest_ends_a_while_after_it_was_last_wanted() {
    let fake = Fake::default();
    let (link, _task) = start(&fake);
    connected(&link, true).await;
    link.interest.join(&"t".into());
    quiet().await;
    link.interest.leave(&"t".into());
    sleep(Duration::from_secs(9)).await;
    let last = |fake: &Fake| fake.asked.lock().last().cloned();
    assert_eq!(last(&fake), Some(Asked::Subscribe(link.topic_subject("t"))));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(last(&fake), Some(Asked::Unsubscribe(link.topic_subject("t"))));
}
