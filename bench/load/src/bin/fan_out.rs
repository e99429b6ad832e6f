//! One topic, and the cores that its broadcasts use: a server with one worker thread, then with two, and so on.
//!
//! One broadcast is under way at a time (or `--depth`), to clients that cost next to nothing: a thread throws away what the kernel has
//! received for each of them, without copying it, a few times a second. Printed are deliveries a second by the clock,
//! and the CPU time of each thread of the server. `--members 200 --topics 20` makes it many topics of one burst.

#![allow(clippy::cast_precision_loss, reason = "figures are for people: they are far below 2^52")]

use std::{
    error::Error,
    fs, io,
    io::{Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use adsum::{
    Assigns, Channel, Connect, JoinError, Joined, Json, NoParams, PubSub, Refused, Socket, SocketBuilder,
    Topic,
};
use adsum_pubsub::metrics::table;
use clap::Parser;
use socket2::SockRef;
use tokio::{net::TcpListener, runtime};

#[path = "../wire.rs"]
#[allow(dead_code, reason = "the load tool uses more of it")]
mod wire;

const EVENT: &str = "news";
/// `recv` takes bytes off the socket without copying them. On every Linux.
const MSG_TRUNC: i32 = 0x20;
/// The bytes that are thrown away at once.
const ROOM: usize = 1 << 20;
/// The pause of the receiver between two rounds over all clients.
const ROUND: Duration = Duration::from_millis(200);
/// How often it is looked whether a broadcast has been written to all.
const GLANCE: Duration = Duration::from_micros(200);
const WARM: Duration = Duration::from_millis(500);

#[derive(Parser)]
#[command(about = "The cores that the broadcasts of one topic use")]
struct Options {
    /// How many worker threads the server has at most; it begins with one
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// How many clients are in each topic
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// How many topics there are, to which a task broadcasts in turn
    #[arg(long, default_value_t = 1)]
    topics: usize,
    /// How many broadcasts to each topic are under way
    #[arg(long, default_value_t = 1)]
    depth: u64,
    /// The bytes of a payload
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// For how many seconds each number of workers is measured
    #[arg(long, default_value_t = 5)]
    secs: u64,
}

#[derive(Clone, Copy)]
struct App;

struct Room;

impl Channel for Room {
    type App = App;
    type Params = NoParams;
    type Info = ();

    async fn join(_: &App, _: &Topic, _: NoParams, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self))
    }
}

async fn connect(_: App, _: Connect) -> Result<Assigns, Refused> {
    Ok(Assigns::new())
}

/// Connects a client and has it join a topic.
fn join(addr: SocketAddr, topic: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    let head = format!(
        "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    let mut request = head.into_bytes();
    wire::write_masked(
        &mut request,
        wire::TEXT,
        format!(r#"["1","1","{topic}","phx_join",{{}}]"#).as_bytes(),
    );
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    let mut room = [0; 1024];
    while !answer.windows(9).any(|window| window == b"phx_reply") {
        match stream.read(&mut room)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&room[..read]),
        }
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Throws away what the clients have received, until told to end, and returns how many bytes it was.
fn receive(clients: &[TcpStream], end: &AtomicBool) -> usize {
    let mut room = vec![MaybeUninit::uninit(); ROOM];
    let mut bytes = 0;
    loop {
        let last = end.load(Relaxed);
        for client in clients {
            bytes += SockRef::from(client).recv_with_flags(&mut room, MSG_TRUNC).unwrap_or(0);
        }
        if last {
            return bytes;
        }
        thread::sleep(ROUND);
    }
}

/// The CPU time of this process's threads whose names begin so, in seconds and in the order of their names.
fn cpu(name: &str) -> Vec<f64> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut threads: Vec<(String, f64)> = tasks
        .filter_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((name, times.split_whitespace().next()?.parse::<f64>().ok()? / 1e9))
        })
        .filter(|(thread, _)| thread.starts_with(name))
        .collect();
    threads.sort_by(|(a, _), (b, _)| a.cmp(b));
    threads.into_iter().map(|(_, seconds)| seconds).collect()
}

struct Measured {
    deliveries: u64,
    /// The time of the calls that broadcast, by the clock. To a large topic they only queue the message.
    calls: f64,
    seconds: f64,
    workers: Vec<f64>,
    receiver: f64,
}

fn measure(options: &Options, workers: usize) -> Result<Measured, Box<dyn Error>> {
    let number = AtomicUsize::new(0);
    let name = move || format!("worker-{}", number.fetch_add(1, Relaxed));
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name_fn(name)
        .enable_all()
        .build()?;
    let pubsub = PubSub::local();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let addr = listener.local_addr()?;
    let socket = SocketBuilder::new(App).connect(connect).channel::<Room>("room:*");
    let _entered = runtime.enter();
    let site = axum::Router::new().nest("/socket", socket.into_router(pubsub.clone()));
    runtime.spawn(adsum::serve(listener, site).into_future());

    let topics: Vec<Topic> = (0..options.topics).map(|n| Topic::from(format!("room:{n}"))).collect();
    let places = topics.iter().flat_map(|topic| (0..options.members).map(move |_| topic));
    let clients = places.map(|topic| join(addr, topic)).collect::<Result<Vec<_>, _>>()?;
    let end = Arc::new(AtomicBool::new(false));
    let receiver = {
        let end = end.clone();
        thread::Builder::new().name("receiver".to_owned()).spawn(move || receive(&clients, &end))?
    };

    let sent = pubsub.metrics().counter(&table::MESSAGES_SENT, &[]);
    let each = (options.topics * options.members) as u64;
    let payload = Json::encode(&"x".repeat(options.bytes))?;
    let calls = Arc::new(AtomicU64::new(0));
    let run = |time: Duration| {
        let (began, before) = (Instant::now(), sent.get());
        let mut due = before;
        while began.elapsed() < time {
            let (pubsub, topics, payload, calls) =
                (pubsub.clone(), topics.clone(), payload.clone(), calls.clone());
            runtime.spawn(async move {
                let began = Instant::now();
                for topic in topics {
                    // There is no engine that could be full.
                    let _ = pubsub.broadcast(topic, EVENT, payload.clone());
                }
                calls.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
            });
            due += each;
            while sent.get() + (options.depth - 1) * each < due {
                thread::sleep(GLANCE);
            }
        }
        while sent.get() < due {
            thread::sleep(GLANCE);
        }
        (due - before, began.elapsed().as_secs_f64())
    };
    run(WARM);
    calls.store(0, Relaxed);
    let (before, before_receiver) = (cpu("worker-"), cpu("receiver"));
    let (deliveries, seconds) = run(Duration::from_secs(options.secs));
    let used = |now: Vec<f64>, before: &[f64]| now.iter().zip(before).map(|(now, then)| now - then).collect();
    let workers: Vec<f64> = used(cpu("worker-"), &before);
    let receivers: Vec<f64> = used(cpu("receiver"), &before_receiver);
    end.store(true, Relaxed);
    let bytes = receiver.join().map_err(|_| "the receiver panicked")?;
    if (bytes as u64) < deliveries * options.bytes as u64 {
        return Err(format!("{bytes} bytes came for {deliveries} deliveries").into());
    }
    runtime.shutdown_background();
    Ok(Measured {
        deliveries,
        calls: calls.load(Relaxed) as f64 / 1e9,
        seconds,
        workers,
        receiver: receivers.iter().sum(),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    println!(
        "| worker threads | deliveries a second | CPU of a delivery | of it the broadcast | CPU of each thread | receiver |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for workers in 1..=options.workers {
        let Measured { deliveries, calls, seconds, workers: used, receiver } = measure(&options, workers)?;
        let share = |cpu: f64| format!("{:.0} %", 100.0 * cpu / seconds);
        println!(
            "| {workers} | {:.0} | {:.2} us | {:.3} us | {} | {} |",
            deliveries as f64 / seconds,
            used.iter().sum::<f64>() * 1e6 / deliveries as f64,
            calls * 1e6 / deliveries as f64,
            used.iter().map(|&cpu| share(cpu)).collect::<Vec<_>>().join(", "),
            share(receiver),
        );
    }
    Ok(())
}
