//! What NATS alone has.

use adsum_pubsub::{PubSub, StartError};

use crate::{
    engines::{becomes, hear},
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
            { user: fewer, password: p, permissions: { publish: "adsum.>", subscribe: "adsum.t.>" } }
        ] }"#,
    );
    let server = Server::with(Kind::Nats, &["--config", config.path()]);
    let node = |name| server.builder(name).user("enough", "p").start();
    let (a, b) = (node("a").await.unwrap(), node("b").await.unwrap());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;

    let error = server.builder("c").user("fewer", "p").start().await.unwrap_err();
    assert!(matches!(error, StartError::Refused { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("permission"), "{error}");
}

#[tokio::test]
async fn a_token_in_the_url_is_used() {
    let server = Server::with(Kind::Nats, &["--auth", "t0ken"]);
    let node = |login| PubSub::nats(server.url_of(login)).node("a").secret(SECRET).start();
    assert!(*node("t0ken@").await.unwrap().connected().borrow());
    assert!(matches!(node("other@").await.unwrap_err(), StartError::Refused { .. }));
}

/// A certificate that nobody but itself has signed, and its key.
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
