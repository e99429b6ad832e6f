//! A client that asks for the state of a room, by a transport that is no more than calls.

use adsum::{
    Acceptor, Channel, Client, JoinError, Joined, NoParams, Outgoing, Payload, Presence, PubSub, Reply,
    Socket, SocketBuilder, Stop, Topic, Wire,
};

use crate::parts::{full, measured, meta, pass, runtime};

/// Pushes the state to who asks for it.
struct Room(Presence);

impl Channel for Room {
    type App = Presence;
    type Params = NoParams;
    type Info = ();

    async fn join(
        presence: &Presence,
        _: &Topic,
        _: NoParams,
        _: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self(presence.clone())))
    }

    async fn handle_in(&mut self, _: &str, _: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        self.0.push_state(socket).await?;
        Ok(Reply::none())
    }
}

/// The cost of the next state after one key has changed: the other keys are encoded already.
pub(crate) fn state() {
    let runtime = runtime();
    let pubsub = PubSub::local();
    let (presence, mut others, acceptor, mut client) = runtime.block_on(async {
        let presence = Presence::builder(pubsub.clone()).start();
        let others = full(&presence);
        let acceptor = SocketBuilder::new(presence.clone()).channel::<Room>("room").into_acceptor(pubsub);
        let mut client = connect(&acceptor).await;
        client.receive(Wire::Text(br#"["1","1","room","phx_join",{}]"#)).expect("it is a message");
        until(&mut client, "phx_reply").await;
        ask(&mut client).await;
        (presence, others, acceptor, client)
    });
    for _ in 0..10 {
        runtime.block_on(async {
            others[0].update("room", "00000000", meta()).expect("it is tracked");
            until(&mut client, "presence_diff").await;
            pass().await;
        });
        measured(|| runtime.block_on(ask(&mut client)));
    }
    drop((presence, acceptor));
}

async fn connect(acceptor: &Acceptor) -> Client {
    let (request, ()) = http::Request::get("/?vsn=2.0.0").body(()).expect("it is a request").into_parts();
    acceptor.accept("calls", request).await.expect("everyone is let in")
}

async fn ask(client: &mut Client) {
    client.receive(Wire::Text(br#"["1","2","room","state",{}]"#)).expect("it is a message");
    until(client, "presence_state").await;
}

/// Takes what there is for the client until this event came.
async fn until(client: &mut Client, event: &str) {
    loop {
        let Outgoing::Text(text) = client.next().await else { panic!("nothing but text is sent here") };
        // The event stands before the payload.
        let head = &text[..text.len().min(64)];
        if String::from_utf8_lossy(head).contains(event) {
            return;
        }
    }
}
