//! Each example as its head comment says, over a real connection.

// A test that can't go on fails.
#![allow(clippy::unwrap_used)]

use std::{process::Stdio, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::ClientRequestBuilder, http::Uri},
};

/// Far longer than anything here takes: a test that gets there has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// Starts an example, and says where it listens. It ends with the test.
async fn start(program: &str) -> (Child, String) {
    start_with(program, []).await
}

async fn start_with<const N: usize>(program: &str, arguments: [&str; N]) -> (Child, String) {
    let mut command = Command::new(program);
    command.arg("127.0.0.1:0").args(arguments).env("SECRET", "a secret of the cluster");
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let address = line.strip_prefix("listening on ").unwrap().to_owned();
    (child, address)
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(address: &str, vsn: &str) -> Self {
        Self::connect_as(address, &format!("vsn={vsn}"), "").await.unwrap()
    }

    /// `None` if it is refused.
    async fn connect_as(address: &str, params: &str, cookie: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).await.unwrap();
        let url: Uri = format!("ws://{address}/socket/websocket?{params}").parse().unwrap();
        let request = ClientRequestBuilder::new(url).with_header("cookie", cookie);
        client_async(request, stream).await.ok().map(|(client, _)| Self(client))
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn message(&mut self) -> Message {
        timeout(DEADLINE, self.0.next()).await.unwrap().unwrap().unwrap()
    }

    async fn frame(&mut self) -> Value {
        serde_json::from_str(self.message().await.to_text().unwrap()).unwrap()
    }

    /// The next frame of an event.
    async fn event(&mut self, event: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame[3] == event {
                return frame[4].clone();
            }
        }
    }
}

#[tokio::test]
async fn channel() {
    let (_example, address) = start(env!("CARGO_BIN_EXE_channel")).await;
    let mut ada = Client::connect(&address, "2.0.0").await;
    ada.send(json!(["1", "1", "document:7", "phx_join", {"name": "Ada"}])).await;
    assert_eq!(ada.event("presence_state").await["Ada"]["metas"][0]["line"], 1);

    let mut bob = Client::connect(&address, "2.0.0").await;
    bob.send(json!(["1", "1", "document:7", "phx_join", {"name": ""}])).await;
    assert_eq!(bob.event("phx_reply").await["response"], json!({"reason": "a name, please"}));
    bob.send(json!(["2", "2", "document:7", "phx_join", {"name": "Bob"}])).await;
    let state = bob.event("presence_state").await;
    assert_eq!(
        (&state["Ada"]["metas"][0]["line"], &state["Bob"]["metas"][0]["line"]),
        (&json!(1), &json!(1))
    );
    ada.send(json!(["1", "2", "document:7", "move", {"line": 12}])).await;
    while bob.event("presence_diff").await["joins"]["Ada"]["metas"][0]["line"] != 12 {}
    ada.send(json!(["1", "3", "document:7", "move", {"line": "x"}])).await;
    while ada.event("phx_reply").await["status"] != "error" {}
    drop(ada);
    while bob.event("presence_diff").await["leaves"]["Ada"].is_null() {}
}

#[tokio::test]
async fn serializer() {
    let (_example, address) = start(env!("CARGO_BIN_EXE_serializer")).await;
    let mut packed = Client::connect(&address, "3.0.0").await;
    let send = async |client: &mut Client, message: Value| {
        client.0.send(Message::binary(rmp_serde::to_vec(&message).unwrap())).await.unwrap();
    };
    let next = async |client: &mut Client| {
        rmp_serde::from_slice::<Value>(&client.message().await.into_data()).unwrap()
    };
    let ok = json!({"status": "ok", "response": {}});
    send(&mut packed, json!([null, "0", "phoenix", "heartbeat", {}])).await;
    assert_eq!(next(&mut packed).await, json!([null, "0", "phoenix", "phx_reply", ok]));
    send(&mut packed, json!(["1", "1", "chat:a", "phx_join", {}])).await;
    assert_eq!(next(&mut packed).await, json!(["1", "1", "chat:a", "phx_reply", ok]));
    let mut plain = Client::connect(&address, "2.0.0").await;
    plain.send(json!(["1", "1", "chat:a", "phx_join", {}])).await;
    assert_eq!(plain.frame().await, json!(["1", "1", "chat:a", "phx_reply", ok]));

    let said = json!([null, null, "chat:a", "say", {"text": "hello", "n": [1, -2, 0.5, null, true]}]);
    send(&mut packed, json!(["1", "2", "chat:a", "say", said[4]])).await;
    assert_eq!(next(&mut packed).await, said);
    assert_eq!(next(&mut packed).await, json!(["1", "2", "chat:a", "phx_reply", ok]));
    assert_eq!(plain.frame().await, said);
    plain.send(json!(["1", "2", "chat:a", "say", said[4]])).await;
    assert_eq!(next(&mut packed).await, said);

    send(&mut packed, json!("no message")).await;
    let Message::Close(Some(close)) = packed.message().await else { panic!("the socket is closed") };
    assert_eq!(u16::from(close.code), 1011);
}

#[tokio::test]
async fn transport() {
    let (_example, address) = start(env!("CARGO_BIN_EXE_transport")).await;
    let connect = async |params: &str| {
        let (read, mut write) = TcpStream::connect(&address).await.unwrap().into_split();
        write.write_all(format!("{params}\n").as_bytes()).await.unwrap();
        (BufReader::new(read).lines(), write)
    };
    let (mut lines, _write) = connect("vsn=7.0.0").await;
    let refused = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(refused.starts_with("refused: "), "{refused}");
    assert_eq!(lines.next_line().await.unwrap(), None);

    let (mut lines, mut write) = connect("vsn=2.0.0").await;
    for (sent, received) in [
        (
            r#"["1","1","chat:a","phx_join",{}]"#,
            vec![r#"["1","1","chat:a","phx_reply",{"response":{},"status":"ok"}]"#],
        ),
        (
            r#"["1","2","chat:a","say",{"text":"hello"}]"#,
            vec![
                r#"[null,null,"chat:a","say",{"text":"hello"}]"#,
                r#"["1","2","chat:a","phx_reply",{"response":{},"status":"ok"}]"#,
            ],
        ),
    ] {
        write.write_all(format!("{sent}\n").as_bytes()).await.unwrap();
        for line in received {
            assert_eq!(timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().as_deref(), Some(line));
        }
    }
    write.write_all(b"no message\n").await.unwrap();
    assert_eq!(timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap(), None);
}

/// Asks for a page. Its head and its body.
async fn http(address: &str, request: &str, headers: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn site() {
    let (_example, address) = start(env!("CARGO_BIN_EXE_site")).await;
    assert!(
        Client::connect_as(&address, "vsn=2.0.0", "user=1").await.is_none(),
        "nobody has signed this cookie"
    );
    let (mut clients, mut state) = (Vec::new(), Value::Null);
    for name in ["Ada", "Bob"] {
        let json = "content-type: application/json\r\n";
        let (head, _) = http(&address, "POST /session", json, &json!({"name": name}).to_string()).await;
        assert!(head.starts_with("HTTP/1.1 201"), "{head}");
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let mut client = Client::connect_as(&address, "vsn=2.0.0", &cookie).await.unwrap();
        client.send(json!(["1", "1", "room:lobby", "phx_join", {}])).await;
        // Ada's has come before Bob joins, so she is in his.
        state = client.event("presence_state").await;
        clients.push((client, cookie));
    }
    let [(mut ada, _), (mut bob, cookie)] = clients.try_into().ok().unwrap();
    assert_eq!((&state["1"]["name"], &state["2"]["name"]), (&json!("Ada"), &json!("Bob")));
    bob.send(json!(["1", "2", "room:lobby", "status", "away"])).await;
    while ada.event("presence_diff").await["joins"]["2"]["metas"][0]["status"] != "away" {}
    bob.send(json!(["1", "3", "room:lobby", "status", "asleep"])).await;
    while bob.event("phx_reply").await["status"] != "error" {}
    let (_, who) = http(&address, "GET /who", "", "").await;
    let who: Value = serde_json::from_str(&who).unwrap();
    assert_eq!((&who["1"]["name"], &who["2"]["metas"][0]["status"]), (&json!("Ada"), &json!("away")));

    http(&address, "DELETE /session", &format!("cookie: {cookie}\r\n"), "").await;
    while ada.event("presence_diff").await["leaves"]["2"].is_null() {}
    while !matches!(bob.message().await, Message::Close(_)) {}
}

#[tokio::test]
async fn lobby() {
    let (_example, address) = start(env!("CARGO_BIN_EXE_lobby")).await;
    assert!(Client::connect_as(&address, "vsn=2.0.0", "").await.is_none());
    let mut ada = Client::connect_as(&address, "vsn=2.0.0&user_id=7", "").await.unwrap();
    ada.send(json!(["1", "1", "lobby:chess", "phx_join", {}])).await;
    let state = ada.event("presence_state").await;
    assert_eq!(state["7"]["user"], json!({"name": "user 7"}));
    assert!(state["7"]["metas"][0]["online_at"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn jobs() {
    let output = timeout(DEADLINE, Command::new(env!("CARGO_BIN_EXE_jobs")).output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for line in ["report: 50 %", "report: done", "backup: failed"] {
        assert!(said.contains(line), "{line} in {said}");
    }
}

#[tokio::test]
async fn metrics() {
    let (_example, address) = start(env!("CARGO_BIN_EXE_metrics")).await;
    let mut client = Client::connect(&address, "2.0.0").await;
    client.send(json!(["1", "1", "room:a", "phx_join", {}])).await;
    client.event("presence_state").await;
    let (_, metrics) = http(&address, "GET /metrics", "", "").await;
    for line in [
        r#"adsum_sockets_opened_total{transport="websocket"} 1"#,
        r#"adsum_sockets{transport="websocket"} 1"#,
        r#"adsum_channels_joined_total{channel="room:*",result="joined"} 1"#,
        r#"adsum_presences{presence="presence",origin="own"} 1"#,
        r#"adsum_state_bytes_bucket{presence="presence",le="256"} 1"#,
        "# HELP adsum_sockets Open sockets.",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    for (path, said) in [("/health/live", "alive"), ("/health/ready", "ready")] {
        let (head, body) = http(&address, &format!("GET {path}"), "", "").await;
        assert!(head.starts_with("HTTP/1.1 200") && body.contains(said), "{head} {body}");
    }
}

#[tokio::test]
async fn node() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut nats = Command::new("nats-server");
    let nats = nats.env("PATH", "/usr/sbin:/usr/local/bin:/usr/bin:/bin");
    let _nats =
        nats.args(["--addr", "127.0.0.1", "--port", &port.to_string()]).kill_on_drop(true).spawn().unwrap();
    let url = format!("nats://127.0.0.1:{port}");
    let node = env!("CARGO_BIN_EXE_node");
    let ((_a, a), (_b, b)) = tokio::join!(start_with(node, [&*url, "a"]), start_with(node, [&*url, "b"]));
    let mut ada = Client::connect(&a, "2.0.0").await;
    ada.send(json!(["1", "1", "room:1", "phx_join", {"name": "Ada"}])).await;
    ada.event("presence_state").await;
    let mut bob = Client::connect(&b, "2.0.0").await;
    bob.send(json!(["1", "1", "room:1", "phx_join", {"name": "Bob"}])).await;
    while ada.event("presence_diff").await["joins"]["Bob"].is_null() {}
    drop(bob);
    while ada.event("presence_diff").await["leaves"]["Bob"].is_null() {}
}
