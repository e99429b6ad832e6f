//! Whether one client that sends as fast as it can keeps the others waiting.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Stage;
use crate::{
    Common,
    client::{Client, Greeting},
    wire,
    world::wait_for,
};

/// How often each of the others asks.
const PERIOD: Duration = Duration::from_millis(50);
const WARM_UP: Duration = Duration::from_millis(500);
/// How many frames are written in one call.
const AT_ONCE: usize = 4096;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many others ask for echoes
    #[arg(long, default_value_t = 5)]
    users: usize,
    /// The frames that the flooder sends
    #[arg(long, value_enum, default_value_t = Kind::Empty)]
    kind: Kind,
    /// For how many seconds
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Continuations without content, of a message that never ends
    Empty,
    Ping,
    Heartbeat,
}

impl Kind {
    /// The bytes that begin the flood, and those that are sent again and again.
    fn frames(self) -> (Vec<u8>, Vec<u8>) {
        // Without FIN, and with a mask of zeros.
        let unfinished = |opcode: u8| vec![opcode, 0x80, 0, 0, 0, 0];
        let mut frame = Vec::new();
        let begin = match self {
            Self::Empty => {
                frame = unfinished(0);
                unfinished(wire::TEXT)
            }
            Self::Ping => {
                wire::write_masked(&mut frame, wire::PING, b"");
                Vec::new()
            }
            Self::Heartbeat => {
                wire::write_masked(&mut frame, wire::TEXT, br#"[null,"1","phoenix","heartbeat",{}]"#);
                Vec::new()
            }
        };
        (begin, frame.repeat(AT_ONCE))
    }
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let (world, n) = (&stage.world, self.users);
        let clients: Vec<_> =
            (0..n).map(|user| Client::new(user as u32, 0, stage.plain(user), Greeting::Reply, 0)).collect();
        stage.join_all(&clients).await;
        // Each echo is asked for by itself.
        world.stopped.set(true);
        let flood = match Flood::start(&stage.common, self.kind) {
            Ok(flood) => flood,
            Err(error) => {
                world.error(format!("can't flood: {error}"));
                return Value::Null;
            }
        };
        sleep(WARM_UP).await;
        world.measure();
        let before = stage.usage();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..(self.secs / PERIOD.as_secs_f64()) as usize {
            ticks.tick().await;
            for client in clients.iter().filter(|client| client.echoes_under_way() == 0) {
                client.start_echoes(world, 1);
            }
        }
        // With what the kernel has taken for a server that reads more slowly.
        let (after, sent) = (stage.usage(), flood.sent());
        let all_answered =
            wait_for(stage.common.timeout, || clients.iter().all(|client| client.echoes_under_way() == 0))
                .await;
        let own = json!({
            "users": n,
            "flood_frames": sent,
        });
        stage.result("flood", all_answered && sent > 0, (&before, &after), own)
    }
}

/// Two threads of their own: one writes and one reads, so that neither waits for the others here.
struct Flood {
    frames: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Flood {
    fn start(common: &Common, kind: Kind) -> io::Result<Self> {
        let mut stream = TcpStream::connect(common.addr)?;
        let Common { addr, path, .. } = common;
        write!(
            stream,
            "GET {path}?user_id=flood&vsn=2.0.0 HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        )?;
        let mut answer = [0; 512];
        let read = stream.read(&mut answer)?;
        if !answer[..read].starts_with(b"HTTP/1.1 101") {
            return Err(io::Error::other("refused"));
        }
        let mut reader = stream.try_clone()?;
        // It ends with the connection.
        thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
        let (frames, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (written, ends) = (frames.clone(), ended.clone());
        thread::spawn(move || {
            let (begin, flood) = kind.frames();
            let mut result = stream.write_all(&begin);
            // A server that closes this connection has made an end of it, too.
            while result.is_ok() && !ends.load(Ordering::Relaxed) {
                result = stream.write_all(&flood);
                written.fetch_add(AT_ONCE as u64, Ordering::Relaxed);
            }
        });
        Ok(Self { frames, ended })
    }

    fn sent(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
