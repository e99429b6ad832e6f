//! Log lines that clients can cause. A program of its own, since the limits are per process.

// A test that can't continue fails.
#![allow(clippy::unwrap_used)]

use std::{error::Error, io, sync::Arc};

use adsum_channels::{
    Acceptor, Channel, Client, JoinError, Joined, Outgoing, Payload, PubSub, Reply, Socket, SocketBuilder,
    Stop, Topic, Wire,
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    fails: Option<String>,
}

/// A typical channel: it handles some events, and fails with `?`.
struct Room;

impl Channel for Room {
    type App = ();
    type Params = Params;
    type Info = ();

    async fn join(_: &(), _: &Topic, params: Params, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        match params.fails {
            Some(text) if text == "panics" => panic!("{}", "p".repeat(SAID)),
            Some(text) => Err(Box::<dyn Error + Send + Sync>::from(text))?,
            None => Ok(Joined::new(Self)),
        }
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match event {
            "number" => Ok(Reply::ok(payload.decode::<u8>()?)),
            "panic" => panic!("{}", payload.decode::<String>()?),
            "boxed" => Err(Box::<dyn Error + Send + Sync>::from("no such game"))?,
            "refused" => Ok(Reply::ok(payload.decode_or_refuse::<Params>()?.fails)),
            "bytes" => {
                socket.broadcast("bytes", Payload::Binary(vec![1].into()))?;
                Ok(Reply::ok(json!({})))
            }
            _ => Err(Stop::unhandled(event)),
        }
    }
}

/// The length of the clients' texts.
const SAID: usize = 20_000;
/// How often each client sends them.
const TIMES: usize = 200;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn accept(acceptor: &Acceptor, query: &str) -> Client {
    acceptor.accept("test", request(query, None)).await.unwrap()
}

fn request(query: &str, origin: Option<&str>) -> http::request::Parts {
    let mut request = http::Request::get(format!("/?{query}")).header("host", "here.example");
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    request.body(()).unwrap().into_parts().0
}

/// Sends a message, and waits for this event in response.
async fn say(client: &mut Client, message: &str, answer: &str) {
    client.receive(Wire::Text(message.as_bytes())).unwrap();
    loop {
        match client.next().await {
            Outgoing::Text(text) if std::str::from_utf8(&text).unwrap().contains(answer) => return,
            Outgoing::Close(code) => panic!("closed with {code}"),
            _ => {}
        }
    }
}

const TEST_BEGINS: u32 = line!();

#[tokio::test(start_paused = true)]
async fn whatever_clients_do_the_log_stays_small() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // Panics are expected here, and the hook also prints them to standard error.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|at| at.line() > TEST_BEGINS) {
            hook(panic);
        }
    }));
    let acceptor =
        SocketBuilder::new(()).channel::<Room>("room:*").max_mailbox(2).into_acceptor(PubSub::local());
    let long = "é\\n".repeat(SAID / 4);
    let mut client = accept(&acceptor, "vsn=2.0.0").await;
    let mut old = accept(&acceptor, "vsn=1.0.0").await;
    say(
        &mut old,
        r#"{"topic":"room:b","event":"phx_join","ref":"1","join_ref":"1","payload":{}}"#,
        "phx_reply",
    )
    .await;
    say(&mut client, r#"["b","1","room:b","phx_join",{}]"#, "phx_reply").await;
    for _ in 0..TIMES {
        for event in [format!(r#""{long}",{{}}"#), format!(r#""panic","{long}""#), r#""number","x""#.into()] {
            say(&mut client, r#"["1","1","room:a","phx_join",{}]"#, "phx_reply").await;
            say(&mut client, &format!(r#"["1","2","room:a",{event}]"#), "phx_error").await;
        }
        for params in [format!(r#"{{"fails":"{long}"}}"#), r#"{"fails":"panics"}"#.into(), "[]".into()] {
            say(&mut client, &format!(r#"["2","2","room:c","phx_join",{params}]"#), "phx_reply").await;
        }
        say(&mut client, r#"["1","1","room:a","phx_join",{}]"#, "phx_reply").await;
        say(&mut client, r#"["1","2","room:a","refused",{"fails":7}]"#, "malformed payload").await;
        say(&mut client, r#"["1","3","room:a","boxed",{}]"#, "phx_error").await;
        // More events than its mailbox holds, before the channel runs.
        say(&mut client, r#"["1","1","room:a","phx_join",{}]"#, "phx_reply").await;
        for _ in 0..3 {
            client.receive(Wire::Text(br#"["1","2","room:a","number",1]"#)).unwrap();
        }
        say(&mut client, r#"["1","2","room:a","number",1]"#, "overloaded").await;
        say(&mut client, r#"["b","2","room:b","bytes",{}]"#, "phx_reply").await;
        let version = format!("vsn={}", "9".repeat(SAID));
        assert!(acceptor.accept("test", request(&version, None)).await.is_err());
        let origin = format!("https://{}.example", "o".repeat(SAID));
        assert!(acceptor.accept("test", request("vsn=2.0.0", Some(&origin))).await.is_err());
        assert!(client.receive(Wire::Text(long.as_bytes())).is_err());
    }
    let text = String::from_utf8(written.0.lock().clone()).unwrap();
    let of_room = ["topic=room:a", "channel=\"log::Room\""];
    for (kind, said) in [
        ("channel crashed", "event=number error=the data"),
        ("channel crashed", "event=boxed error=no such game"),
        ("channel panicked", "event=panic panic=é"),
        (
            "event refused",
            "event=refused error=the payload is not a valid log::Params: at fails, line 1, column 10",
        ),
        ("join crashed", ""),
        ("channel overloaded", ""),
        ("could not send a broadcast", ""),
        ("isn't supported", ""),
        ("origin", ""),
    ] {
        let lines = || text.lines().filter(|line| line.contains(kind));
        let names = |line: &str| of_room.iter().chain([&said]).all(|part| line.contains(part));
        let is_told = lines().any(|line| said.is_empty() || names(line));
        assert!(is_told, "{kind}, {said}: {:?}", lines().take(4).collect::<Vec<_>>());
        let lines = lines().count();
        assert!(lines <= 100, "{kind} is logged {lines} times");
    }
    let longest = text.lines().map(str::len).max().unwrap();
    assert!(longest < 2_000, "a line has {longest} bytes");
    // The clients sent 30 MB.
    assert!(text.len() < 300_000, "{} bytes", text.len());
}
