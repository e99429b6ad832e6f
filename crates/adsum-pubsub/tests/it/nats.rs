//! Behaviour that is specific to NATS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use adsum_pubsub::{Message, Payload, PubSub, StartError, Subscriber, SubscriberId};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::{task::block_in_place, time::timeout};

use crate::{
    counters,
    engines::{DEADLINE, becomes, eventually, hear},
    server::{File, Kind, SECRET, Server},
};

#[tokio::test]
async fn one_server_of_several_is_enough() {
    let (mut one, mut other) = (Server::absent(Kind::Nats), Server::start(Kind::Nats));
    let servers = format!("{}, {}", one.url(), other.url());
    let node = |name| PubSub::nats(&servers).node(name).secret(SECRET).start();
    let (a, b) = (node("a").await.unwrap(), node("b").await.unwrap());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;

    other.kill();
    becomes(&mut a.connected(), false).await;
    becomes(&mut b.connected(), false).await;
    one.run();
    becomes(&mut a.connected(), true).await;
    becomes(&mut b.connected(), true).await;
    hear(&a, &mut inbox).await;
}

#[tokio::test]
async fn a_server_that_takes_too_little_is_refused() {
    let config = File::new("max_payload: 100000");
    let server = Server::with(Kind::Nats, &["--config", config.path()]);
    let error = server.builder("a").start().await.unwrap_err();
    assert!(matches!(error, StartError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("max_payload is 100000"), "{error}");
}

#[tokio::test]
async fn permissions_under_the_namespace_are_enough_and_fewer_are_refused() {
    let config = File::new(
        r#"authorization { users: [
            { user: enough, password: p, permissions: { publish: "adsum.>", subscribe: "adsum.>" } }
            { user: deaf, password: p, permissions: { publish: "adsum.>", subscribe: "adsum.t.>" } }
            { user: mute, password: p, permissions: { publish: "other.>", subscribe: "adsum.>" } }
        ] }"#,
    );
    let server = Server::with(Kind::Nats, &["--config", config.path()]);
    let node = |name| server.builder(name).user("enough", "p").start();
    let (a, b) = (node("a").await.unwrap(), node("b").await.unwrap());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;

    for user in ["deaf", "mute"] {
        let error = server.builder("c").user(user, "p").start().await.unwrap_err();
        assert!(matches!(error, StartError::Refused { .. }), "{user}: {error}");
        assert!(error.to_string().to_lowercase().contains("permission"), "{user}: {error}");
    }
}

#[tokio::test]
async fn a_token_in_the_url_is_used() {
    let server = Server::with(Kind::Nats, &["--auth", "t0ken"]);
    let node = |login| PubSub::nats(server.url_of(login)).node("a").secret(SECRET).start();
    assert!(*node("t0ken@").await.unwrap().connected().borrow());
    assert!(matches!(node("other@").await.unwrap_err(), StartError::Refused { .. }));
}

/// A token about `subject`, signed by its issuer, in the form that NATS expects.
fn jwt(issuer: &KeyPair, subject: &KeyPair, mut nats: Value) -> String {
    nats["version"] = json!(2);
    let claims = json!({
        "jti": "1", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": "adsum", "nats": nats,
    });
    let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(json!({"typ": "JWT", "alg": "ed25519-nkey"})), encode(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// The credentials of a user of an account, as the NATS tools write them.
fn credentials(account: &KeyPair) -> File {
    let user = KeyPair::new_user();
    let nats = json!({"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
    let (jwt, seed) = (jwt(account, &user, nats), user.seed().unwrap());
    File::new(&format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    ))
}

#[tokio::test]
async fn a_file_of_credentials_is_shown_and_one_of_another_account_is_refused() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
    });
    let of_operator = jwt(&operator, &operator, json!({"type": "operator"}));
    let of_account = jwt(&operator, &account, json!({"type": "account", "limits": limits}));
    let config = File::new(&format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_account} }}",
        account.public_key()
    ));
    let server = Server::with(Kind::Nats, &["--config", config.path()]);
    let file = credentials(&account);
    let node = |name| server.builder(name).credentials_file(file.path()).start();
    let (a, b) = (node("a").await.unwrap(), node("b").await.unwrap());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;

    let other = credentials(&KeyPair::new_account());
    for builder in [server.builder("c"), server.builder("c").credentials_file(other.path())] {
        let error = builder.start().await.unwrap_err();
        assert!(matches!(error, StartError::Refused { .. }), "{error}");
    }
    let broken = File::new("nothing of use");
    let error = server.builder("c").credentials_file(broken.path()).start().await.unwrap_err();
    assert!(error.to_string().contains("credentials"), "{error}");
}

const LAGGED: &str = "adsum_lagged_messages_total";

/// Blocks in `deliver` while it is stuck.
struct Stuck {
    is_stuck: AtomicBool,
    taken: AtomicUsize,
}

/// Releases it, so that a test that fails ends.
struct Release(Arc<Stuck>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.is_stuck.store(false, Ordering::Relaxed);
    }
}

impl Subscriber for Stuck {
    fn deliver(&self, _: &Arc<Message>) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        // Another thread takes the place of this one, or the runtime could lose what it waits for.
        block_in_place(|| {
            while self.is_stuck.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_queue_of_deliveries_is_bounded_in_bytes() {
    const MESSAGES: usize = 30;
    const BYTES: usize = 400_000;
    let server = Server::start(Kind::Nats);
    let a = server.node("a").await;
    // Room for five, of which one topic takes at most half.
    let b = server.builder("b").queue(100, 5 * BYTES + BYTES / 2).start().await.unwrap();
    let (mut after, mut other) = (b.subscribe("stuck"), b.subscribe("other"));
    hear(&a, &mut after).await;
    hear(&a, &mut other).await;

    let stuck = Arc::new(Stuck { is_stuck: AtomicBool::new(true), taken: AtomicUsize::new(0) });
    let release = Release(stuck.clone());
    let attachment = b.attach("stuck", SubscriberId::unique(), stuck.clone());
    let large = Payload::Binary(vec![0; BYTES].into());
    a.broadcast("stuck", "large", large.clone()).unwrap();
    eventually("one is being delivered", || stuck.taken.load(Ordering::Relaxed) == 1).await;
    for _ in 1..MESSAGES {
        a.broadcast("stuck", "large", large.clone()).unwrap();
    }
    // One connection delivers in order: once this has arrived, so has everything before it.
    hear(&a, &mut other).await;
    // Three wait behind it, about half of what may wait. The rest is dropped meanwhile, not kept.
    counters::reaches(&[b.metrics()], LAGGED, "NATS", MESSAGES as u64 - 4).await;
    drop(release);
    for _ in 0..4 {
        let message = timeout(DEADLINE, after.recv()).await.expect("it was kept").unwrap();
        assert_eq!(message.event(), "large");
    }
    drop(attachment);
    hear(&a, &mut after).await;
    assert_eq!(counters::value(&b.read_metrics(), LAGGED, "NATS"), MESSAGES as u64 - 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backlog_of_small_messages_loses_nothing_and_others_overtake_it() {
    const MESSAGES: usize = 10_000;
    let server = Server::start(Kind::Nats);
    let (a, b) = (server.node("a").await, server.node("b").await);
    let mut other = b.subscribe("other");
    let mut backlogged = b.inbox(MESSAGES);
    backlogged.subscribe("stuck");
    hear(&a, &mut other).await;
    hear(&a, &mut backlogged).await;

    let stuck = Arc::new(Stuck { is_stuck: AtomicBool::new(true), taken: AtomicUsize::new(0) });
    let release = Release(stuck.clone());
    let _attachment = b.attach("stuck", SubscriberId::unique(), stuck.clone());
    for n in 0..MESSAGES {
        a.broadcast("stuck", n.to_string(), ()).unwrap();
    }
    // One connection delivers in order, so these have come behind all of those.
    for _ in 0..10 {
        hear(&a, &mut other).await;
    }
    assert!(stuck.taken.load(Ordering::Relaxed) <= 1);
    drop(release);
    for n in 0..MESSAGES {
        let message = timeout(DEADLINE, backlogged.recv()).await.expect("none is lost").unwrap();
        assert_eq!(message.event(), n.to_string());
    }
    assert_eq!(counters::value(&b.read_metrics(), LAGGED, "NATS"), 0);
}

/// A self-signed certificate and its key.
fn certificate(name: &str) -> (File, File) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (File::new(&cert.pem()), File::new(&signing_key.serialize_pem()))
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_the_server_asks_for_one() {
    let ((of_server, server_key), (of_client, client_key)) = (certificate("localhost"), certificate("node"));
    let tls = ["--tls", "--tlscert", of_server.path(), "--tlskey", server_key.path()];
    let server =
        Server::with(Kind::Nats, &[&tls[..], &["--tlsverify", "--tlscacert", of_client.path()]].concat());
    let node = |name| PubSub::nats(server.tls_url()).node(name).secret(SECRET).ca_file(of_server.path());
    let shows = |name| node(name).client_certificate(of_client.path(), client_key.path()).start();
    let (a, b) = (shows("a").await.unwrap(), shows("b").await.unwrap());
    assert!(*a.connected().borrow() && *b.connected().borrow());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;

    let started = node("c").start().await;
    assert!(started.is_err() || !*started.unwrap().connected().borrow());
}
