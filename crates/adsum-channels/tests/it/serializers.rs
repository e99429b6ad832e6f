//! Custom serializers that wrap a built-in one.

use adsum_channels::{
    Address, BadMessage, ClientMessage, Frame, Message, Payload, Serializer, Unsendable, V1, V2, Wire,
};
use adsum_pubsub::LocalNetwork;
use serde_json::json;
use tokio_tungstenite::tungstenite;

use crate::server::{Server, Transport};

/// A version with binary broadcasts under a user's event: `4 | length of the name | name | data`. A leading `*` in
/// a message stands for a ref that is too long.
struct UserEvents<S>(S);

impl<S: Serializer> Serializer for UserEvents<S> {
    fn decode<'m>(&self, message: Wire<'m>) -> Result<ClientMessage<'m>, BadMessage> {
        match message {
            Wire::Text([b'*', text @ ..]) => {
                let mut read = self.0.decode(Wire::Text(text))?;
                read.reference = "7".repeat(65).into();
                Ok(read)
            }
            message => self.0.decode(message),
        }
    }

    fn push(&self, to: Address<'_>, event: &str, payload: &Payload) -> Result<Frame, Unsendable> {
        self.0.push(to, event, payload)
    }

    fn reply(&self, to: Address<'_>, status: &str, response: &Payload) -> Result<Frame, Unsendable> {
        self.0.reply(to, status, response)
    }

    fn broadcast(&self, message: &Message) -> Result<Frame, Unsendable> {
        match (message.event().strip_prefix("user:"), message.payload()) {
            (Some(name), Payload::Binary(data)) => {
                let len = u8::try_from(name.len()).expect("a short name");
                Ok(Frame::binary([&[4, len], name.as_bytes(), data].concat()))
            }
            _ => self.0.broadcast(message),
        }
    }
}

#[tokio::test]
async fn bytes_keep_the_name_of_their_event_on_every_node() {
    let network = LocalNetwork::new();
    let [a, b] = ["a", "b"].map(|name| network.node(name));
    // One node uses the built-in version 2.
    let plain = Server::start_on(a, Transport::Tcp, |socket| socket).await;
    let named = Server::start_on(b, Transport::Tcp, |socket| {
        socket.serializer(2, 0, UserEvents(V2)).serializer(1, 0, UserEvents(V1))
    })
    .await;
    let mut at_plain = plain.client().await;
    let mut at_named = named.client().await;
    let mut first_version = named.connect("user_id=u", &[]).await.unwrap();
    at_plain.join("room:a", "1").await;
    at_named.join("room:a", "1").await;
    first_version
        .send(r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1","join_ref":"1"}"#)
        .await;
    assert_eq!(first_version.frame().await["payload"]["status"], "ok");

    let bytes = Payload::Binary(vec![0, 255].into());
    plain.pubsub.broadcast("room:a", "user:phx_close", bytes).unwrap();
    plain.pubsub.broadcast("room:a", "said", json!({})).unwrap();
    let expected: [&[u8]; 2] = [b"\x04\x09phx_close\0\xff", b"\x02\x06\x0eroom:auser:phx_close\0\xff"];
    for (client, expected) in [&mut at_named, &mut at_plain].into_iter().zip(expected) {
        assert_eq!(client.message().await, tungstenite::Message::binary(expected));
        client.expect(r#"[null,null,"room:a","said",{}]"#).await;
    }
    assert_eq!(first_version.message().await, tungstenite::Message::binary(expected[0]));
    first_version.expect(r#"{"topic":"room:a","event":"said","payload":{},"ref":null}"#).await;
}

#[tokio::test]
async fn a_ref_is_bounded_whatever_the_serializer_lets_through() {
    let server = Server::start_with(Transport::Tcp, |socket| socket.serializer(2, 0, UserEvents(V2))).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send(r#"*["1","2","room:a","echo",{}]"#).await;
    client.expect_close(1011).await;
}
