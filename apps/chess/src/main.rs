//! The program: reads its settings, opens the database, serves the site until it is told to stop.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use adsum::PubSub;
use chess::{Db, Hall, Origin, Sessions, Settings, Site, serve_operators, site};
use clap::Parser;
use tokio::net::{TcpListener, TcpSocket};
use tracing_subscriber::EnvFilter;

/// How many connections wait to be accepted.
const BACKLOG: u32 = 1024;

/// A chess site: choose a name, see who is here, play.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The port to listen on; 0 takes any free one.
    #[arg(long, env = "PORT", default_value_t = 4000)]
    port: u16,

    /// The address to listen on; 0.0.0.0 lets other machines in.
    #[arg(long, env = "LISTEN_HOST", default_value = "127.0.0.1")]
    host: IpAddr,

    /// The site's address for browsers, such as `https://chess.example`: pages of other origins get no connection, and
    /// with https cookies are kept for TLS. For a site behind a proxy. The site works at the root of a host only.
    #[arg(long, env = "ORIGIN")]
    origin: Option<Origin>,

    /// The database: an `SQLite` file, made if it is missing, or `postgres://user:password@host/database`.
    #[arg(long, env = "DATABASE_URL", default_value = "chess.db", hide_env_values = true)]
    database_url: String,

    /// How many connections to a `PostgreSQL` server are opened at most.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    database_connections: u32,

    /// By what the nodes of the site know each other: 32 random bytes or more. Without it the database keeps one.
    #[arg(long, env = "SECRET", hide_env_values = true)]
    secret: Option<String>,

    /// The engine that connects the nodes of the site: `local` for one alone, `nats://host:4222` or `redis://host:6379`. All nodes
    /// have the same database and secret.
    #[arg(long, env = "PUBSUB", default_value = "local", hide_env_values = true)]
    pubsub: String,

    /// The name of this node, which no other node of the site may have, and which it keeps. Needed with PUBSUB.
    #[arg(long, env = "NODE")]
    node: Option<String>,

    /// Serves a page for operators on this port of 127.0.0.1, for this machine alone; 0 takes any free one.
    #[arg(long, env = "DASHBOARD", value_name = "PORT")]
    dashboard: Option<u16>,

    /// The listener for /metrics, /health/live and /health/ready: a port of this machine such as 9100, or an address.
    /// Nowhere, unless it is given.
    #[arg(long, env = "METRICS_ADDR", value_name = "ADDR", value_parser = adsum::operations::address)]
    metrics: Option<SocketAddr>,

    /// Says on /health/ready that the node isn't ready while it doesn't reach the engine.
    #[arg(long, env = "NEEDS_ENGINE")]
    needs_engine: bool,

    #[command(flatten)]
    settings: Settings,

    /// The folder of the pages.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/web"))]
    web: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chess: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let port = reserve(SocketAddr::new(options.host, options.port))?;
    let address = port.local_addr()?;
    let db = Db::open(&options.database_url, options.database_connections).await?;
    let secret = match options.secret {
        Some(secret) => secret,
        None => db.secret(&Hall::random_secret()).await?,
    };
    let pubsub = pubsub(&options.pubsub, options.node.as_deref(), secret.as_bytes()).await?;
    let sessions = Sessions::new(db.clone(), options.settings.session_lifetime());
    let hall = Hall::open(pubsub, db.clone(), options.settings).await?;
    let _operations = serve_operators(&hall, options.metrics, options.needs_engine).await?;
    let hosts = own_hosts(address, options.origin.as_ref());
    let site = site(
        Site { db: db.clone(), sessions, hall: hall.clone(), origin: options.origin, hosts },
        &options.web,
    )?;
    if let Err(error) = hall.ready().await {
        tracing::warn!(%error, "the site opens nonetheless");
    }

    // Only now: a balancer takes a node that listens for one that is ready.
    let listener = port.listen(BACKLOG).map_err(|error| cannot_listen(address, &error))?;
    let address = address_to_open(address);
    let dashboard = match options.dashboard {
        Some(port) => Some(listen_for_operators(port).await?),
        None => None,
    };
    let dashboard = async {
        match dashboard {
            Some(listener) => hall.serve_dashboard(listener).await,
            None => std::future::pending().await,
        }
    };
    let say_so = async {
        println!("chess is on {address}");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        // First: from then on it ends well when it is told to.
        served = hall.serve(listener, site) => served?,
        served = dashboard => served?,
        () = say_so => {}
    }
    // Its tasks ask the database.
    drop(hall);
    db.close().await;
    Ok(())
}

/// Connects this node to the others. Programs that don't know the secret are kept out.
async fn pubsub(url: &str, node: Option<&str>, secret: &[u8]) -> Result<PubSub, Box<dyn Error>> {
    let builder = match url.split_once("://") {
        None if url == "local" => return Ok(PubSub::local()),
        Some(("nats" | "tls", _)) => PubSub::nats(url),
        Some(("redis" | "rediss", _)) => PubSub::redis(url),
        _ => return Err("PUBSUB is local, or a URL that begins with nats:// or redis://".into()),
    };
    let node = node.ok_or("PUBSUB connects several nodes: give each a name of its own in NODE")?;
    Ok(builder.node(node).secret(secret).namespace("chess").start().await?)
}

/// The names of the site where only this machine reaches it, since any site's name may be made to point here
/// (DNS rebinding). Behind a proxy, which `--origin` says, the proxy knows what names there are.
fn own_hosts(address: SocketAddr, origin: Option<&Origin>) -> Vec<String> {
    if origin.is_some() || !address.ip().is_loopback() {
        return Vec::new();
    }
    ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec()
}

/// Takes a port without listening on it yet, so that one that is taken is found out before anything else happens.
fn reserve(address: SocketAddr) -> Result<TcpSocket, String> {
    let reserve = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(cfg!(unix))?;
        socket.bind(address)?;
        Ok(socket)
    };
    reserve().map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> String {
    format!("cannot listen on {address}: {error}. Choose another port with PORT=, such as PORT=4001")
}

async fn listen_for_operators(port: u16) -> Result<TcpListener, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| {
        format!("cannot listen on port {port}: {error}. Choose another port with DASHBOARD=")
    })?;
    if let Ok(address) = listener.local_addr() {
        println!("the dashboard is on http://{address}/");
    }
    Ok(listener)
}

fn address_to_open(address: SocketAddr) -> String {
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        format!("http://localhost:{}", address.port())
    } else {
        format!("http://{address}")
    }
}
