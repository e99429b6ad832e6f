//! A serializer: the protocol in `MessagePack`, as version 3. Clients of versions 1 and 2 are in the same rooms.
//!
//! `cargo run -p programs --bin serializer`, then with the packages `phoenix` and `@msgpack/msgpack`:
//!
//! ```js
//! const socket = new Socket("ws://127.0.0.1:4100/socket", {
//!   vsn: "3.0.0",
//!   encode: (m, done) => done(encode([m.join_ref, m.ref, m.topic, m.event, m.payload])),
//!   decode: (bytes, done) => {
//!     const [join_ref, ref, topic, event, payload] = decode(bytes)
//!     done({ join_ref, ref, topic, event, payload })
//!   },
//! })
//! ```

use adsum::{
    Address, BadMessage, Channel, ClientMessage, Frame, JoinResult, Joined, Json, Message, NoParams, Payload,
    PubSub, Reply, Serializer, Socket, SocketBuilder, Stop, Topic, Unsendable, Wire, read_string,
    write_string,
};
use serde_json::{Value, json};

struct MessagePack;

/// `[join_ref, ref, topic, event, payload]`, as version 2 has it.
type Parts = (Option<String>, Option<String>, String, String, Value);

impl Serializer for MessagePack {
    fn decode<'m>(&self, message: Wire<'m>) -> Result<ClientMessage<'m>, BadMessage> {
        let Wire::Binary(bytes) = message else { return Err(BadMessage::Other("not MessagePack".into())) };
        let (join_ref, reference, topic, event, payload): Parts = rmp_serde::from_slice(bytes)
            .map_err(|_| BadMessage::Other("no message in MessagePack".into()))?;
        // Refs and topics are handed on as JSON, so that they go back as they came.
        let json = |text: Option<String>| text.map_or("null".into(), |text| write_string(&text).into());
        Ok(ClientMessage {
            join_ref: json(join_ref),
            reference: json(reference),
            topic: json(Some(topic)),
            event: event.into(),
            payload: Payload::Json(Json::encode(&payload)?),
        })
    }

    fn push(&self, to: Address<'_>, event: &str, payload: &Payload) -> Result<Frame, Unsendable> {
        frame(to, event, value(payload)?)
    }

    fn reply(&self, to: Address<'_>, status: &str, response: &Payload) -> Result<Frame, Unsendable> {
        frame(to, "phx_reply", json!({"status": status, "response": value(response)?}))
    }

    fn broadcast(&self, message: &Message) -> Result<Frame, Unsendable> {
        let topic = &write_string(message.topic());
        let to = Address { join_ref: "null", reference: "null", topic };
        frame(to, message.event(), value(message.payload())?)
    }
}

fn value(payload: &Payload) -> Result<Value, Unsendable> {
    payload.decode().map_err(|_| Unsendable::Other("the payload is bytes, or nested too deeply".into()))
}

fn frame(to: Address<'_>, event: &str, payload: Value) -> Result<Frame, Unsendable> {
    let [join_ref, reference, topic] = [to.join_ref, to.reference, to.topic].map(read_string);
    let bytes = rmp_serde::to_vec(&(join_ref, reference, topic, event, payload));
    bytes.map(Frame::binary).map_err(|error| Unsendable::Other(error.to_string().into()))
}

/// Passes on what a client says to everybody.
struct Chat;

impl Channel for Chat {
    type App = ();
    type Params = NoParams;
    type Info = ();

    async fn join(_: &(), _: &Topic, _: NoParams, _: &mut Socket) -> JoinResult<Self> {
        Ok(Joined::new(Self))
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match event {
            "say" => socket.broadcast("say", payload)?,
            _ => return Err(Stop::unhandled(event)),
        }
        Ok(Reply::ok(json!({})))
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4100".to_owned());
    let socket = SocketBuilder::new(()).channel::<Chat>("chat:*").serializer(3, 0, MessagePack);
    let site = axum::Router::new().nest("/socket", socket.into_router(PubSub::local()));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    adsum::serve(listener, site).await
}
