//! Connecting: accepted and refused clients.

use std::{collections::HashMap, sync::Arc};

use adsum_channels::{Assigns, Connect, PubSub, Refusal, Refused, Rejected, SocketBuilder};
use axum::{
    Extension,
    extract::{FromRef, FromRequestParts, Path, Request, State},
    middleware::{self, Next},
};
use http::{StatusCode, request::Parts};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_tungstenite::client_async;

use crate::{
    client::{Client, Stream},
    room::{App, Greeting, Room},
    server::{Server, Transport},
};

async fn a_refused_client_gets_an_empty_403(transport: Transport) {
    let server = Server::start(transport).await;
    let refused = Err((403, Vec::new()));
    assert_eq!(server.connect("vsn=2.0.0", &[]).await.map(drop), refused);
    assert_eq!(server.connect("vsn=2.0.0&user_id=u", &[("x-unwanted", "1")]).await.map(drop), refused);
}

#[derive(Debug, thiserror::Error)]
#[error("too many")]
struct TooMany;

async fn a_program_answers_those_who_are_refused(transport: Transport) {
    let server = Server::start_with(transport, |socket| {
        let connect = async |_, request: Connect| match request.query() {
            query if query.ends_with("many") => Err(Refused::from(TooMany)),
            _ => Err(Refused::new("for no reason")),
        };
        socket.connect(connect).subprotocols(["chat"]).on_refused(|refusal, request| {
            let agent = request.user_agent().unwrap_or_default();
            match refusal {
                Refusal::Program(refused) if refused.reason().is::<TooMany>() => {
                    (StatusCode::TOO_MANY_REQUESTS, format!("{refusal}, {agent}"))
                }
                Refusal::Version(vsn) => (StatusCode::NOT_IMPLEMENTED, vsn.clone()),
                Refusal::Origin => (StatusCode::FORBIDDEN, "origin".to_owned()),
                Refusal::Subprotocol => (StatusCode::FORBIDDEN, "subprotocol".to_owned()),
                _ => (StatusCode::UNAUTHORIZED, refusal.to_string()),
            }
        })
    })
    .await;
    for (query, header, status, body) in [
        ("vsn=2.0.0&many", ("user-agent", "Lynx"), 429, "too many, Lynx"),
        ("vsn=2.0.0", ("user-agent", "Lynx"), 401, "for no reason"),
        ("vsn=9.0.0", ("user-agent", "Lynx"), 501, "9.0.0"),
        ("vsn=2.0.0", ("origin", "https://evil.example"), 403, "origin"),
        ("vsn=2.0.0", ("sec-websocket-protocol", "graphql"), 403, "subprotocol"),
    ] {
        let refused = server.connect(query, &[header]).await.map(drop);
        assert_eq!(refused, Err((status, body.into())), "{query} {header:?}");
    }
}

async fn a_subprotocol_is_chosen_of_those_that_are_offered(transport: Transport) {
    let server = Server::start_with(transport, |socket| {
        socket.subprotocols(["chat.v2", "chat.v1"]).connect(async |_, request: Connect| {
            assert!(request.query().ends_with(request.subprotocol().expect("one is chosen")));
            Ok(Assigns::new())
        })
    })
    .await;
    let offer = |value| [("sec-websocket-protocol", value)];
    for (offered, chosen) in
        [("chat.v1", "chat.v1"), ("x, chat.v1,chat.v2", "chat.v2"), ("phoenix", "phoenix")]
    {
        let query = format!("vsn=2.0.0&chosen={chosen}");
        // The client fails unless one of its offers is chosen.
        let mut client = server.connect(&query, &offer(offered)).await.ok().unwrap();
        client.expect_nothing().await;
    }
    assert_eq!(server.connect("vsn=2.0.0&x=", &offer("chat.v3")).await.map(drop), Err((403, Vec::new())));
}

#[derive(Clone, PartialEq, Debug)]
struct CookieSession(u32);

#[derive(Clone)]
struct Site {
    name: &'static str,
}

async fn with_session(
    State(site): State<Site>,
    mut request: Request,
    next: Next,
) -> axum::response::Response {
    assert_eq!(site.name, "site");
    request.extensions_mut().insert(CookieSession(7));
    next.run(request).await
}

struct Database(Arc<str>);

impl FromRef<Site> for Database {
    fn from_ref(site: &Site) -> Self {
        Self(site.name.into())
    }
}

async fn middleware_and_extractors_work_on_the_request(transport: Transport) {
    let configure = |socket: SocketBuilder<Arc<App>>| {
        socket.connect(async |_, mut request: Connect| {
            assert_eq!(request.extension(), Some(&CookieSession(7)));
            let Extension(session) = request.extract::<Extension<CookieSession>>().await?;
            let Extension(layered) = request.extract::<Extension<u8>>().await?;
            let site = Site { name: "extracted" };
            let State(Database(name)) = request.extract_with::<State<Database>, _>(&site).await?;
            assert_eq!((session, layered, &*name), (CookieSession(7), 1, "extracted"));
            // A missing extension refuses the client.
            let Extension(_) = request.extract::<Extension<u64>>().await?;
            Ok(Assigns::new())
        })
    };
    let layers = |router: axum::Router| {
        router
            .layer(Extension(1u8))
            .layer(middleware::from_fn_with_state(Site { name: "site" }, with_session))
    };
    let server = Server::start_within(PubSub::local(), transport, configure, layers).await;
    let (status, _) = server.connect("vsn=2.0.0", &[]).await.map(drop).unwrap_err();
    assert_eq!(status, 500, "axum's response to a missing extension");
    let layers = |router| layers(router).layer(Extension(1u64));
    let server = Server::start_within(PubSub::local(), transport, configure, layers).await;
    server.connect("vsn=2.0.0", &[]).await.ok().unwrap().expect_nothing().await;
}

/// An extractor like that of tower-sessions, whose rejection is a response and not an error.
struct SignedIn;

impl<S: Sync> FromRequestParts<S> for SignedIn {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Err((StatusCode::UNAUTHORIZED, "sign in first"))
    }
}

async fn an_extractor_answers_those_whom_it_rejects(transport: Transport) {
    let connect = async |_, mut request: Connect| {
        request.extract::<SignedIn>().await?;
        Ok(Assigns::new())
    };
    let server = Server::start_with(transport, |socket| socket.connect(connect)).await;
    let refused = server.connect("vsn=2.0.0", &[]).await.map(drop);
    assert_eq!(refused, Err((401, b"sign in first".to_vec())));

    let server = Server::start_with(transport, |socket| {
        socket.connect(connect).on_refused(|refusal, _| {
            let Refusal::Program(refused) = refusal else { panic!("{refusal}") };
            assert!(refused.reason().is::<Rejected>() && refusal.to_string().contains("SignedIn"));
            (StatusCode::IM_A_TEAPOT, refused.take_response().expect("it is kept"))
        })
    })
    .await;
    assert_eq!(server.connect("vsn=2.0.0", &[]).await.map(drop), Err((418, b"sign in first".to_vec())));
}

async fn boxed_errors_and_texts_refuse_a_client(transport: Transport) {
    fn lookup() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err("no such user")?
    }
    let connect = async |_, _| {
        lookup()?;
        Ok(Assigns::new())
    };
    let server = Server::start_with(transport, |socket| socket.connect(connect)).await;
    assert_eq!(server.connect("vsn=2.0.0", &[]).await.map(drop), Err((403, Vec::new())));
}

/// The router by itself is a service, also for requests with hyper's bodies.
#[tokio::test]
async fn a_router_is_a_plain_service() {
    let router: axum::Router = SocketBuilder::new(()).into_router(PubSub::local());
    // Keeps a clone: dropping the last one closes its sockets.
    let service = TowerToHyperService::new(router.clone());
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(theirs), service).with_upgrades());
    let ours: Box<dyn Stream> = Box::new(ours);
    let (stream, _) = client_async("ws://localhost/websocket?vsn=2.0.0", ours).await.unwrap();
    Client(stream).expect_nothing().await;
    drop(router);
}

async fn it_may_be_mounted_below_any_path(transport: Transport) {
    let configure = |socket: SocketBuilder<Arc<App>>| {
        socket.connect(async |_, mut request: Connect| {
            let Path(variables) = request.extract::<Path<HashMap<String, String>>>().await?;
            assert_eq!((&*variables["tenant"], &*variables["room"]), ("blue", "4 2"));
            Ok(Assigns::new())
        })
    };
    let layers = |router| axum::Router::new().nest("/app/{tenant}/rooms/{room}", router);
    let server = Server::start_within(PubSub::local(), transport, configure, layers).await;
    let upgrade = |path: &str| {
        format!(
            "GET {path}/socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let answer = server.request(&upgrade("/app/blue/rooms/4%202")).await;
    assert_eq!(answer, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(server.request(&upgrade("/app/blue")).await, "HTTP/1.1 404 Not Found");
}

async fn one_may_be_mounted_below_another(transport: Transport) {
    let greets = |greeting| {
        move |socket: SocketBuilder<Arc<App>>| {
            socket.channel_with::<Room>("greeting:*", Assigns::new().with(Greeting(greeting)))
        }
    };
    let (sender, _) = tokio::sync::mpsc::unbounded_channel();
    let app = App { log: sender, gate: Semaphore::new(0), senders: Mutex::default() };
    let admin = greets("admin")(SocketBuilder::new(Arc::new(app))).into_router(PubSub::local());
    let layers = |router: axum::Router| router.nest("/socket/admin", admin);
    let server = Server::start_within(PubSub::local(), transport, greets("user"), layers).await;
    for (path, greeting) in [("/socket", "user"), ("/socket/admin", "admin")] {
        let uri = format!("ws://localhost{path}/websocket?vsn=2.0.0&user_id=u");
        let mut client = Client(client_async(uri, server.stream().await).await.unwrap().0);
        client.join("greeting:a", "1").await;
        client.send(r#"["1","2","greeting:a","greeting",{}]"#).await;
        let reply = json!(["1", "2", "greeting:a", "phx_reply", {"response": greeting, "status": "ok"}]);
        client.expect(&reply.to_string()).await;
    }
}

async fn a_route_assigns_to_its_channels(transport: Transport) {
    let server = Server::start_with(transport, |socket| {
        socket.channel_with::<Room>("greeting:*", Assigns::new().with(Greeting("hello")))
    })
    .await;
    let mut client = server.client().await;
    for (topic, greeting) in [("greeting:a", r#""hello""#), ("room:a", "null")] {
        client.join(topic, "1").await;
        client.send(&format!(r#"["1","2","{topic}","greeting",{{}}]"#)).await;
        client
            .expect(&format!(r#"["1","2","{topic}","phx_reply",{{"response":{greeting},"status":"ok"}}]"#))
            .await;
        // The values assigned at connect are there as well.
        client.send(&format!(r#"["1","3","{topic}","whoami",{{}}]"#)).await;
        client.expect(&format!(r#"["1","3","{topic}","phx_reply",{{"response":"u","status":"ok"}}]"#)).await;
    }
}

async fn other_versions_are_refused(transport: Transport) {
    let server = Server::start(transport).await;
    for query in ["user_id=u&vsn=9.0.0", "user_id=u&vsn=x", "user_id=u&vsn="] {
        assert_eq!(server.connect(query, &[]).await.map(drop), Err((403, Vec::new())), "{query}");
    }
}

async fn a_client_that_names_no_version_speaks_the_first(transport: Transport) {
    let server = Server::start(transport).await;
    for query in ["user_id=u", "user_id=u&vsn=1.0.0"] {
        let mut client = server.connect(query, &[]).await.expect("the client is accepted");
        client.send(r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#).await;
        let ok = r#"{"response":{},"status":"ok"}"#;
        let reply = |n| format!(r#"{{"topic":"room:a","event":"phx_reply","payload":{ok},"ref":"{n}"}}"#);
        client.expect(&reply(1)).await;
        client.send(r#"{"topic":"room:a","event":"shout","payload":{"n":1},"ref":"2"}"#).await;
        client.expect(r#"{"topic":"room:a","event":"shout","payload":{"n":1},"ref":null}"#).await;
        client.send(r#"{"topic":"room:a","event":"phx_leave","payload":{},"ref":"3"}"#).await;
        client.expect(&reply(3)).await;
        client.expect(r#"{"topic":"room:a","event":"phx_close","payload":{},"ref":"1"}"#).await;
    }
}

async fn pages_of_other_origins_are_refused_unless_wanted(transport: Transport) {
    let evil: &[_] = &[("origin", "https://evil.example")];
    let query = "vsn=2.0.0&user_id=u";
    let server = Server::start(transport).await;
    assert_eq!(server.connect(query, evil).await.map(drop), Err((403, Vec::new())));
    for origin in ["http://localhost", "https://localhost"] {
        assert!(server.connect(query, &[("origin", origin)]).await.is_ok(), "{origin}");
    }
    let other_port = &[("origin", "http://localhost:4000")];
    assert_eq!(server.connect(query, other_port).await.map(drop), Err((403, Vec::new())));
    let open = Server::start_with(transport, SocketBuilder::any_origin).await;
    assert!(open.connect(query, evil).await.is_ok());
}

async fn requests_to_other_hosts_are_refused_where_ours_are_named(transport: Transport) {
    let query = "vsn=2.0.0&user_id=u";
    let ours = Server::start_with(transport, |socket| socket.host(["localhost", "127.0.0.1"])).await;
    assert!(ours.connect(query, &[]).await.is_ok());
    let theirs = Server::start_with(transport, |socket| socket.host(["example.org"]).any_origin()).await;
    let page = ("origin", "http://localhost");
    assert_eq!(theirs.connect(query, &[page]).await.map(drop), Err((403, Vec::new())));
    assert!(theirs.connect(query, &[page, ("host", "example.org")]).await.is_ok());
    // Not a browser, so DNS rebinding is impossible.
    assert!(theirs.connect(query, &[]).await.is_ok());
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Nested {
    user: HashMap<String, u32>,
    roles: Vec<String>,
}

async fn a_query_is_read_as_plug_reads_it(transport: Transport) {
    let server = Server::start_with(transport, |socket| {
        socket.connect(async |_, request: Connect| {
            let params: Nested = request.params()?;
            let roles = vec!["a".to_owned(), "b c".to_owned()];
            assert_eq!(params, Nested { user: HashMap::from([("id".to_owned(), 7)]), roles });
            Ok(Assigns::new())
        })
    })
    .await;
    let nested = "user[id]=7&roles[]=a&roles[]=b+c";
    for query in [
        // phoenix.js adds its version after a parameter of the program with the same name.
        format!("vsn=1.4.2&{nested}&vsn=2.0.0"),
        format!("vsn=2.0.0&user[id]=6&{nested}&vsn=2.0.0"),
        "user[id]=7&roles[0]=a&roles[1]=b%20c&vsn=2.0.0".to_owned(),
    ] {
        server.connect(&query, &[]).await.ok().unwrap().expect_nothing().await;
    }
    for query in ["user[id]=x&roles[]=a&vsn=2.0.0", "vsn[]=2.0.0&user[id]=7", "user=7&roles[]=a&vsn=2.0.0"] {
        assert_eq!(server.connect(query, &[]).await.map(drop), Err((403, Vec::new())), "{query}");
    }
    for broken in ["%FF", "%ZZ", "%2"] {
        let query = format!("{nested}&x={broken}&vsn=2.0.0");
        assert_eq!(server.connect(&query, &[]).await.map(drop), Err((400, Vec::new())), "{query}");
    }
}

async fn a_slash_too_many_does_no_harm(transport: Transport) {
    let server = Server::start(transport).await;
    for path in ["/websocket", "//websocket", "/websocket/", "//websocket/"] {
        let text = format!(
            "GET /socket{path}?vsn=2.0.0&user_id=u HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        assert_eq!(server.request(&text).await, "HTTP/1.1 101 Switching Protocols", "{path}");
    }
    let text = "GET /socket/nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(server.request(text).await, "HTTP/1.1 404 Not Found");
}

async fn version_one_is_read_from_binary_frames_too(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.connect("user_id=u", &[]).await.expect("the client is accepted");
    let join = r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#;
    client.send_message(tokio_tungstenite::tungstenite::Message::binary(join)).await;
    let ok = r#"{"response":{},"status":"ok"}"#;
    client.expect(&format!(r#"{{"topic":"room:a","event":"phx_reply","payload":{ok},"ref":"1"}}"#)).await;
}

async fn a_disconnect_said_during_the_upgrade_reaches_the_socket(transport: Transport) {
    let pubsub = PubSub::local();
    let told = pubsub.clone();
    let layers = move |router: axum::Router| {
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let told = told.clone();
            async move {
                // The client is admitted, but doesn't know yet.
                let response = next.run(request).await;
                told.broadcast("user:u", "disconnect", ()).unwrap();
                response
            }
        }))
    };
    let server = Server::start_within(pubsub, transport, |socket| socket, layers).await;
    server.client().await.expect_close(1001).await;
}

async fn a_token_is_sent_as_a_subprotocol(transport: Transport) {
    let server = Server::start(transport).await;
    let offered = &[("sec-websocket-protocol", "phoenix, base64url.bearer.phx.c2VjcmV0")];
    // The client fails unless `phoenix` is chosen.
    let mut client = server.connect("vsn=2.0.0&user_id=u", offered).await.expect("the client is accepted");
    client.join("room:a", "1").await;
    client.send(r#"["1","2","room:a","token",{}]"#).await;
    client.expect(r#"["1","2","room:a","phx_reply",{"response":"secret","status":"ok"}]"#).await;
}

async fn all_sockets_of_an_id_are_told_to_disconnect(transport: Transport) {
    let mut server = Server::start(transport).await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    one.join("room:a", "1").await;
    server.logged("join room:a").await;
    let mut other = server.connect("vsn=2.0.0&user_id=other", &[]).await.expect("the client is accepted");
    server.pubsub.broadcast("user:u", "unknown", ()).unwrap();
    one.expect_nothing().await;
    server.pubsub.disconnect("user:u").unwrap();
    one.expect_close(1001).await;
    two.expect_close(1001).await;
    other.expect_nothing().await;
    // The channels end with the socket.
    server.logged("terminate room:a Closed").await;
}

async fn a_request_without_an_upgrade_is_a_bad_request(transport: Transport) {
    let server = Server::start(transport).await;
    for method in ["GET", "POST", "DELETE"] {
        let text =
            format!("{method} /socket/websocket?vsn=2.0.0&user_id=u HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(server.request(&text).await, "HTTP/1.1 400 Bad Request", "{method}");
    }
}

async fn the_program_sees_the_whole_request(transport: Transport) {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let server = Server::start_with(transport, |socket| {
        socket.connect(async |_, request: Connect| {
            assert_eq!(request.uri().path(), "/socket/websocket");
            assert_eq!(request.query(), "vsn=2.0.0&a=1");
            assert_eq!(request.headers()["x-test"], "yes");
            assert_eq!(request.headers()["traceparent"], TRACE);
            assert!(request.peer().expect("the server says it").ip().is_loopback());
            Ok(Assigns::new())
        })
    })
    .await;
    let mut client =
        server.connect("vsn=2.0.0&a=1", &[("x-test", "yes"), ("traceparent", TRACE)]).await.ok().unwrap();
    client.expect_nothing().await;
}

async fn everybody_may_connect_where_nothing_is_said(transport: Transport) {
    let server = Server::start_with(transport, |_| {
        let (log, _) = tokio::sync::mpsc::unbounded_channel();
        SocketBuilder::new(Arc::new(App {
            log,
            gate: tokio::sync::Semaphore::new(0),
            senders: parking_lot::Mutex::default(),
        }))
    })
    .await;
    server.connect("vsn=2.0.0", &[]).await.ok().unwrap().expect_nothing().await;
}

over_both!(
    a_program_answers_those_who_are_refused,
    a_subprotocol_is_chosen_of_those_that_are_offered,
    middleware_and_extractors_work_on_the_request,
    it_may_be_mounted_below_any_path,
    one_may_be_mounted_below_another,
    an_extractor_answers_those_whom_it_rejects,
    boxed_errors_and_texts_refuse_a_client,
    a_route_assigns_to_its_channels,
    a_refused_client_gets_an_empty_403,
    other_versions_are_refused,
    a_client_that_names_no_version_speaks_the_first,
    a_token_is_sent_as_a_subprotocol,
    all_sockets_of_an_id_are_told_to_disconnect,
    pages_of_other_origins_are_refused_unless_wanted,
    a_request_without_an_upgrade_is_a_bad_request,
    the_program_sees_the_whole_request,
    everybody_may_connect_where_nothing_is_said,
    requests_to_other_hosts_are_refused_where_ours_are_named,
    a_query_is_read_as_plug_reads_it,
    a_slash_too_many_does_no_harm,
    version_one_is_read_from_binary_frames_too,
    a_disconnect_said_during_the_upgrade_reaches_the_socket,
);
