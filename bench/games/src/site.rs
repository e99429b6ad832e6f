//! The site: its nodes, and what they need, started and ended by this tool.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::Mutex,
    time::sleep,
};

/// The clock ticks of `/proc/PID/stat`, on every Linux.
const TICKS: f64 = 100.0;

/// How often a server that starts is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// A site that runs.
pub(crate) struct Site {
    chess: PathBuf,
    database: String,
    pubsub: String,
    ports: Vec<u16>,
    nodes: Vec<Mutex<Node>>,
    /// Ended with this.
    _servers: Vec<Child>,
    folder: PathBuf,
}

#[derive(Default)]
struct Node {
    process: Option<Child>,
    /// The CPU time of its processes that were killed, in seconds.
    spent: f64,
}

impl Site {
    pub(crate) async fn start(
        chess: &Path,
        nats_server: &Path,
        nodes: u8,
        database: Option<String>,
    ) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("games-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut servers = Vec::new();
        let mut pubsub = "local".to_owned();
        let mut own = folder.join("chess.db").display().to_string();
        if nodes > 1 {
            let port = free_port().await?;
            let nats = Command::new(nats_server)
                .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            servers.push(nats);
            answers(port).await;
            pubsub = format!("nats://127.0.0.1:{port}");
            if database.is_none() {
                let (server, address) = postgres(&folder).await?;
                servers.push(server);
                own = address;
            }
        }
        let mut ports = Vec::new();
        for _ in 0..nodes {
            ports.push(free_port().await?);
        }
        let site = Self {
            chess: chess.to_owned(),
            database: database.unwrap_or(own),
            pubsub,
            nodes: ports.iter().map(|_| Mutex::default()).collect(),
            ports,
            _servers: servers,
            folder,
        };
        for node in 0..site.nodes() {
            site.start_node(node).await?;
        }
        Ok(site)
    }

    pub(crate) fn nodes(&self) -> usize {
        self.ports.len()
    }

    pub(crate) fn port(&self, node: usize) -> u16 {
        self.ports[node % self.ports.len()]
    }

    /// Starts a node at its port, and waits until it listens.
    pub(crate) async fn start_node(&self, node: usize) -> io::Result<()> {
        let mut process = Command::new(&self.chess)
            .env("PORT", self.ports[node].to_string())
            .env("DATABASE_URL", &self.database)
            .env("DATABASE_CONNECTIONS", "20")
            .env("PUBSUB", &self.pubsub)
            .env("NODE", format!("node-{node}"))
            // A node that is killed, and a database that is slow, are worth hundreds of warnings here.
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned()))
            // Bots wait for people to follow; here nobody does.
            .env("BOT_MS", "50")
            .envs(["MAX_NAMES", "MAX_OFFERS", "MAX_COMMANDS"].map(|limit| (limit, "0")))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = process.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let mut lines = BufReader::new(said).lines();
        lines.next_line().await?.ok_or_else(|| io::Error::other("the site didn't start"))?;
        self.nodes[node].lock().await.process = Some(process);
        Ok(())
    }

    /// Ends a node without a word.
    pub(crate) async fn kill(&self, node: usize) -> io::Result<()> {
        let mut node = self.nodes[node].lock().await;
        if let Some(mut process) = node.process.take() {
            node.spent += process.id().map_or(0.0, cpu_of);
            process.kill().await?;
        }
        Ok(())
    }

    /// The CPU time of all nodes, in seconds. A node that is just killed or started is left out.
    pub(crate) fn cpu(&self) -> f64 {
        let of = |node: &Node| node.spent + node.process.as_ref().and_then(Child::id).map_or(0.0, cpu_of);
        self.nodes.iter().filter_map(|node| node.try_lock().ok()).map(|node| of(&node)).sum()
    }

    /// Ends all of it.
    pub(crate) async fn end(&self) {
        for node in 0..self.nodes() {
            drop(self.kill(node).await);
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The database server, where there is one, removes what is its own as it ends.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Seconds of CPU time, of the process and of the kernel for it.
fn cpu_of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}

async fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

async fn answers(port: u16) {
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        sleep(LOOK).await;
    }
}

/// A `PostgreSQL` server that ends when its standard input does, and waits for the disk as it does by default.
async fn postgres(folder: &Path) -> io::Result<(Child, String)> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    versions.sort();
    let bin = versions.pop().ok_or_else(|| io::Error::other("PostgreSQL isn't installed"))?;
    let port = free_port().await?;
    // Neither program runs as root.
    let script = format!(
        "cd /; if [ $(id -u) = 0 ]; then chown postgres {folder}; as='runuser -u postgres --'; fi\n\
         $as {bin}/initdb --no-sync --auth=trust --username=postgres --pgdata={folder}/data >/dev/null || exit 1\n\
         $as {bin}/postgres -D {folder}/data -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
         -c max_connections=200 >{folder}/log 2>&1 &\n\
         cat >/dev/null; kill $!; wait; rm -rf {folder}",
        folder = folder.display(),
        bin = bin.display(),
    );
    let server = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).process_group(0).spawn()?;
    let log = folder.join("log");
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("ready to accept connections") {
        sleep(LOOK).await;
    }
    Ok((server, format!("postgres://postgres@127.0.0.1:{port}/postgres")))
}
