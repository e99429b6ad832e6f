//! Each example as its head comment says, over a real connection.

// A test that can't go on fails.
#![allow(clippy::unwrap_used)]

use std::{process::Stdio, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Far longer than anything here takes: a test that gets there has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// Starts an example, and says where it listens. It ends with the test.
async fn start(program: &str) -> (Child, String) {
    let mut command = Command::new(program);
    let mut child = command.arg("127.0.0.1:0").stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let address = line.strip_prefix("listening on ").unwrap().to_owned();
    (child, address)
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(address: &str, vsn: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/socket/websocket?vsn={vsn}");
        Self(client_async(url, stream).await.unwrap().0)
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
