//! A presence server in one file: join `room:anything`, and see who else is there.
//!
//! `cargo run -p rooms -- --listen 127.0.0.1:4100`, then connect any Phoenix client to
//! `ws://127.0.0.1:4100/socket` with a `user_id`.

use std::{
    future::{IntoFuture, pending},
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use adsum::{
    Assigns, Channel, Connect, Health, JoinError, Joined, Key, NoParams, Payload, Presence, PubSub, Ref,
    Refused, Reply, Serve, Socket, SocketBuilder, Sockets, Stop, Topic,
    operations::{self, Operations},
};
use clap::Parser;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// The state that the program's channels share.
#[derive(Clone)]
struct App {
    presence: Presence,
    /// Operators may disconnect sockets by their ids.
    has_ids: bool,
}

/// The user behind a socket; every channel of the socket can look it up.
#[derive(Clone)]
struct User(Key);

/// Accepts a socket that says who it is. (A real program would verify a token here.)
async fn connect(app: App, request: Connect) -> Result<Assigns, Refused> {
    #[derive(Deserialize)]
    struct Params {
        user_id: String,
    }
    let Params { user_id } = request.params()?;
    let assigns = if app.has_ids { Assigns::new().id(format!("users:{user_id}")) } else { Assigns::new() };
    Ok(assigns.with(User(user_id.into())))
}

/// `room:*`: everyone in it is tracked, and sees who else is.
struct Room {
    app: App,
    user: Key,
}

impl Channel for Room {
    type App = App;
    type Params = NoParams;
    type Info = ();

    async fn join(
        app: &App,
        topic: &Topic,
        _: NoParams,
        socket: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        if topic.as_str() == "room:denied" {
            return Err(JoinError::new(json!({"reason": "unauthorized"})));
        }
        let user = user(socket);
        app.presence.check_key(&user).map_err(JoinError::reason)?;
        Ok(Joined::new(Room { app: app.clone(), user }))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        let presence = &self.app.presence;
        presence.track(socket, self.user.clone(), online_now())?;
        presence.push_state(socket).await?;
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        let presence = &self.app.presence;
        match event {
            "update" => Ok(match payload.decode::<Map<_, _>>() {
                Ok(changes) => reply(presence.update_with(socket, self.user.clone(), |mut meta| {
                    meta.extend(changes);
                    meta
                })),
                Err(error) => refuse(error),
            }),
            "track" => Ok(match payload.decode() {
                Ok(meta) => reply(presence.track(socket, self.user.clone(), meta)),
                Err(error) => refuse(error),
            }),
            "untrack" => {
                presence.untrack(socket, &self.user);
                Ok(Reply::ok(json!({})))
            }
            "crash" => panic!("the client asked for it"),
            "stop" => Err(Stop::normal()),
            "stop_reply" => Err(Stop::shutdown().reply(Reply::ok(json!({})))),
            _ => talk(event, payload, socket),
        }
    }
}

/// `plain:*`: a channel without presence.
struct Plain;

impl Channel for Plain {
    type App = App;
    type Params = NoParams;
    type Info = ();

    async fn join(_: &App, _: &Topic, _: NoParams, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Plain))
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        talk(event, payload, socket)
    }
}

/// The events that both kinds of channel understand.
fn talk(event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
    match event {
        "echo" => Ok(Reply::ok(payload)),
        "fail" => Ok(Reply::error(payload)),
        "shout" => {
            socket.broadcast("shout", payload)?;
            Ok(Reply::none())
        }
        "shout_from" => {
            socket.broadcast_from("shout", payload)?;
            Ok(Reply::ok(json!({})))
        }
        _ => Err(Stop::unhandled(event)),
    }
}

fn user(socket: &Socket) -> Key {
    let User(id) = socket.assigns().get::<User>().expect("connect has put it there");
    id.clone()
}

fn online_now() -> Map<String, Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Map::from_iter([("online_at".to_owned(), now.as_secs().to_string().into())])
}

fn reply<E: std::fmt::Display>(tracked: Result<Ref, E>) -> Reply {
    match tracked {
        Ok(phx_ref) => Reply::ok(json!({"phx_ref": phx_ref})),
        Err(error) => refuse(error),
    }
}

fn refuse(error: impl std::fmt::Display) -> Reply {
    Reply::error(json!({"reason": error.to_string()}))
}

/// Good for trying out only: whoever reads this file knows it.
const PUBLIC_SECRET: &str = "a secret for trying out, known to everybody";

#[derive(Parser)]
#[command(about = "A small presence server")]
struct Options {
    /// The address to listen on; port 0 takes any free one
    #[arg(long, default_value = "127.0.0.1:4100")]
    listen: SocketAddr,
    /// A host under which clients reach this server; any, unless it listens on loopback alone
    #[arg(long)]
    host: Vec<String>,
    /// Gathers changes into one diff for a fixed time, in milliseconds, instead of as the load of the node demands; 0
    /// sends each by itself, as Phoenix does
    #[arg(long, value_name = "MS")]
    diff_interval: Option<u64>,
    /// How long a long poll is held open while nothing is to be said, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    longpoll_window: u64,
    /// Compresses messages whose payload has more than this many bytes, for clients that accept it; 512 is a good size
    #[arg(long, env = "COMPRESS", value_name = "BYTES")]
    compress: Option<usize>,
    /// The engine that connects the nodes of a cluster: `local` for none, `nats://host:4222` or `redis://host:6379`
    #[arg(long, env = "PUBSUB", default_value = "local")]
    pubsub: String,
    /// The name of this node, which no other node of the cluster may have
    #[arg(long, env = "NODE", default_value = "rooms")]
    node: String,
    /// How long presences stay after their connection is lost, for their clients to come back, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    linger: u64,
    /// Signs what nodes say to each other, and the tokens of long poll sessions: 20 bytes or more, the same on all
    /// nodes, and known to them alone
    #[arg(long, env = "SECRET", default_value = PUBLIC_SECRET, hide_env_values = true)]
    secret: String,
    /// Serves a page for operators on this port of 127.0.0.1, for this machine alone; 0 takes any free one
    #[arg(long, env = "DASHBOARD", value_name = "PORT")]
    dashboard: Option<u16>,
    /// The listener for /metrics, /health/live and /health/ready: a port of this machine such as 9100, or an address;
    /// nowhere, unless it is given
    #[arg(long, env = "METRICS_ADDR", value_name = "ADDR", value_parser = operations::address)]
    metrics: Option<SocketAddr>,
    /// Says on /health/ready that the node isn't ready while it doesn't reach the engine
    #[arg(long)]
    needs_engine: bool,
    /// How long to go on once told to end, while /health/ready says no, in milliseconds: as long as a balancer takes to
    /// notice
    #[arg(long, value_name = "MS", default_value_t = 0)]
    drain_delay: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    // The client of NATS writes a line for each message that is lost, which adsum counts and says once.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,async_nats=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rooms: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let pubsub = pubsub(&options).await?;
    let mut presence = Presence::builder(pubsub).name("rooms").linger(Duration::from_millis(options.linger));
    if let Some(interval) = options.diff_interval {
        presence = presence.diff_interval(Duration::from_millis(interval));
    }
    presence.check()?;
    let presence = presence.start();
    let _operations = match options.metrics {
        Some(address) => {
            Some(serve_operators(address, Health::new(&presence).needs_engine(options.needs_engine)).await?)
        }
        None => None,
    };
    if let Err(error) = presence.ready().await {
        eprintln!("rooms: {error}; clients are served nonetheless");
    }
    // A page of any site could let its name point to this machine, where no login keeps it out.
    let hosts = match &options.host[..] {
        [] if options.listen.ip().is_loopback() => vec!["localhost", "127.0.0.1", "[::1]"],
        hosts => hosts.iter().map(String::as_str).collect(),
    };
    let sockets = Sockets::new();
    let socket = SocketBuilder::new(App { presence: presence.clone(), has_ids: options.dashboard.is_some() })
        .connect(connect)
        .sockets(&sockets)
        .longpoll(&options.secret)?
        .longpoll_window(Duration::from_millis(options.longpoll_window))
        .host(hosts)
        .compress_over(options.compress)
        .channel::<Room>("room:*")
        .channel::<Plain>("plain:*");
    socket.check()?;
    let site = axum::Router::new().nest("/socket", socket.into_router(&presence));

    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| format!("can't listen on {}: {error}; try another --listen", options.listen))?;
    let dashboard = match options.dashboard {
        Some(port) => dashboard(port, &presence, &sockets).await?.into_future(),
        None => Box::pin(pending()),
    };
    println!("listening on {}", listener.local_addr()?);
    let drain_delay = Duration::from_millis(options.drain_delay);
    tokio::select! {
        // At SIGTERM or ctrl-c the clients are sent to whoever listens next, and nobody sees them leave.
        served = adsum::serve(listener, site).presence(&presence).drain_delay(drain_delay).into_future() => served?,
        served = dashboard => served?,
    }
    Ok(())
}

/// A page for operators, on a listener of its own that only this machine reaches.
async fn dashboard(port: u16, presence: &Presence, sockets: &Sockets) -> Result<Serve, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| format!("can't listen on port {port}: {error}; try another --dashboard"))?;
    if let Ok(address) = listener.local_addr() {
        println!("dashboard on http://{address}/");
    }
    let page = adsum::dashboard(presence).sockets(sockets).allow_disconnect().loopback_only().into_router();
    // It stays until the server has ended.
    Ok(adsum::serve(listener, page).until(pending()))
}

/// Answers operators, already while the node starts and still while it ends.
async fn serve_operators(
    address: SocketAddr,
    health: Health,
) -> Result<Operations, Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("can't listen on {address}: {error}; try another --metrics"))?;
    println!("metrics and health on {}", listener.local_addr()?);
    Ok(Operations::start(listener, health)?)
}

/// Joins the cluster that the options name.
async fn pubsub(options: &Options) -> Result<PubSub, Box<dyn std::error::Error>> {
    let node = match options.pubsub.split_once("://") {
        None if options.pubsub == "local" => return Ok(PubSub::local()),
        Some(("nats" | "tls", _)) => PubSub::nats(&options.pubsub),
        Some(("redis" | "rediss", _)) => PubSub::redis(&options.pubsub),
        _ => return Err("--pubsub is `local`, or a URL that begins with nats:// or redis://".into()),
    };
    if options.secret == PUBLIC_SECRET {
        tracing::warn!(
            "the secret is the public one, with which anybody who reaches the engine can speak for this cluster; \
             set --secret or SECRET to 20 random bytes or more, the same on all nodes"
        );
    }
    Ok(node.node(&options.node).secret(&*options.secret).namespace("rooms").start().await?)
}
