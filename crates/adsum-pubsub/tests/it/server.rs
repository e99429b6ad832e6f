//! Real engines, each a process for one test.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use adsum_pubsub::{NodeBuilder, PubSub};

use crate::spy::Spy;

pub(crate) const SECRET: &str = "a secret of the cluster";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Nats,
    Redis,
}

/// An engine that runs until it is dropped.
pub(crate) struct Server {
    kind: Kind,
    port: u16,
    /// The port of NATS's monitoring endpoint.
    monitor: u16,
    /// A configuration file.
    config: Option<String>,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        Self::with(kind, &[])
    }

    /// An engine that accepts only this user. Its own URL contains no user.
    pub(crate) fn with_login(kind: Kind, user: &str, password: &str) -> Self {
        match kind {
            Kind::Nats => Self::with(kind, &["--user", user, "--pass", password]),
            Kind::Redis => {
                let password = format!(">{password}");
                let rule = ["--user", user, "on", &password, "&adsum.*", "+@pubsub", "+@connection"];
                Self::with(kind, &[&rule[..], &["--user", "default", "off"]].concat())
            }
        }
    }

    /// An engine that accepts TLS only, with a certificate for `localhost`.
    pub(crate) fn with_tls(kind: Kind, certificate: &File, key: &File) -> Self {
        let (certificate, key) = (certificate.path(), key.path());
        match kind {
            Kind::Nats => Self::with(kind, &["--tls", "--tlscert", certificate, "--tlskey", key]),
            Kind::Redis => {
                let files = ["--tls-cert-file", certificate, "--tls-key-file", key];
                let trust = ["--tls-ca-cert-file", certificate, "--tls-auth-clients", "no"];
                let mut server = Self::absent(kind);
                let port = server.port.to_string();
                let arguments = [&files[..], &trust, &["--port", "0", "--tls-port", &port]].concat();
                server.arguments = arguments.into_iter().map(str::to_owned).collect();
                server.run();
                server
            }
        }
    }

    /// A Redis of a cluster that has no slots, nor other members yet.
    pub(crate) fn in_redis_cluster(config: &File) -> Self {
        let mut server = Self::absent(Kind::Redis);
        // Redis has no monitoring endpoint; members of a cluster talk over this port.
        let port = server.monitor.to_string();
        let arguments =
            ["--cluster-enabled", "yes", "--cluster-config-file", config.path(), "--cluster-port", &port];
        server.arguments = arguments.map(str::to_owned).to_vec();
        server.run();
        server
    }

    /// Joins two members of a Redis Cluster, and returns once one of them knows that they are.
    pub(crate) fn meet(&self, other: &Self) {
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {}\r\n", other.port, other.monitor);
        ask(self.port, &meet, Some("+OK"));
        while !ask(self.port, "CLUSTER INFO\r\n", Some("\r\n\r\n")).contains("cluster_known_nodes:2") {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A Sentinel that follows no server.
    pub(crate) fn sentinel(config: &File) -> Self {
        let mut server = Self::absent(Kind::Redis);
        server.config = Some(config.path().to_owned());
        server.arguments = vec!["--sentinel".to_owned()];
        server.run();
        server
    }

    pub(crate) fn with(kind: Kind, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = Self::absent(kind);
        server.arguments = arguments;
        server.run();
        server
    }

    /// A server that is not started yet.
    pub(crate) fn absent(kind: Kind) -> Self {
        let (port, monitor) = (free_port(), free_port());
        Self { kind, port, monitor, config: None, arguments: Vec::new(), process: None }
    }

    /// Starts it, again after a [`kill`](Self::kill), on the same port.
    pub(crate) fn run(&mut self) {
        let name = match self.kind {
            Kind::Nats => "nats-server",
            Kind::Redis => "redis-server",
        };
        let mut command = Command::new(binary(name));
        // Redis takes a file as its first argument only.
        command.args(&self.config).args(["--port", &self.port.to_string()]);
        match self.kind {
            Kind::Nats => command.args(["--addr", "127.0.0.1", "--http_port", &self.monitor.to_string()]),
            Kind::Redis => command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]),
        };
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{name} can't be started ({error}): `make deps` installs what the tests need")
        });
        let child = self.process.insert(child);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{name} exited: {status}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Pauses the process or resumes it: to others it looks like a network failure.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        self.url_of("")
    }

    /// Its URL, with a login such as `user:password@`.
    pub(crate) fn url_of(&self, login: &str) -> String {
        let scheme = match self.kind {
            Kind::Nats => "nats",
            Kind::Redis => "redis",
        };
        format!("{scheme}://{login}127.0.0.1:{}", self.port)
    }

    pub(crate) fn tls_url(&self) -> String {
        let scheme = match self.kind {
            Kind::Nats => "tls",
            Kind::Redis => "rediss",
        };
        format!("{scheme}://localhost:{}", self.port)
    }

    /// A node with this name and the secret that all tests share.
    pub(crate) fn builder(&self, name: &str) -> NodeBuilder {
        connect(self.kind, &self.url()).node(name).secret(SECRET)
    }

    pub(crate) async fn node(&self, name: &str) -> PubSub {
        self.builder(name).start().await.unwrap()
    }

    /// The subjects of a namespace that have subscribers.
    pub(crate) fn subjects(&self, namespace: &str) -> Vec<String> {
        let answer = match self.kind {
            Kind::Nats => ask(self.monitor, "GET /connz?subs=1 HTTP/1.0\r\n\r\n", None),
            Kind::Redis => {
                ask(self.port, &format!("PUBSUB CHANNELS {namespace}.*\r\nPING\r\n"), Some("+PONG"))
            }
        };
        let is_end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let subjects = answer.split(is_end).filter(|word| {
            word.strip_prefix(namespace)
                .is_some_and(|rest| rest.starts_with(".t.") || rest.starts_with(".n."))
        });
        subjects.map(str::to_owned).collect()
    }

    /// Publishes a line of text, as anybody who reaches the engine can.
    pub(crate) fn publish(&self, subject: &str, text: &str) {
        match self.kind {
            Kind::Nats => {
                let publish = format!("CONNECT {{}}\r\nPUB {subject} {}\r\n{text}\r\nPING\r\n", text.len());
                ask(self.port, &publish, Some("PONG"));
            }
            Kind::Redis => {
                ask(self.port, &format!("PUBLISH {subject} {text}\r\n"), Some("\r\n"));
            }
        }
    }

    /// Has Redis run a command.
    pub(crate) fn command(&self, command: &str) {
        ask(self.port, &format!("{command}\r\n"), Some("+OK"));
    }

    /// Listens to all messages on the engine, as anybody who reaches it can.
    pub(crate) fn spy(&self) -> Spy {
        Spy::start(self.kind, self.port)
    }

    /// Nodes that reach only each other.
    pub(crate) async fn cluster(&self, names: &[&str]) -> Vec<PubSub> {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("cluster-{}", CLUSTERS.fetch_add(1, Ordering::Relaxed));
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(self.builder(name).namespace(&namespace).start().await.unwrap());
        }
        nodes
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn connect(kind: Kind, url: &str) -> NodeBuilder {
    match kind {
        Kind::Nats => PubSub::nats(url),
        Kind::Redis => PubSub::redis(url),
    }
}

/// A file that is removed when this is dropped.
pub(crate) struct File(String);

impl File {
    pub(crate) fn new(text: &str) -> Self {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let name = format!("adsum-{}-{}", std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path.into_os_string().into_string().unwrap())
    }

    pub(crate) fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Debian installs servers outside the `PATH` of a user.
fn binary(name: &str) -> String {
    let path = format!("/usr/sbin/{name}");
    if Path::new(&path).exists() { path } else { name.to_owned() }
}

/// Sends a text, and reads until the stream ends or the answer contains `end`.
fn ask(port: u16, question: &str, end: Option<&str>) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(question.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    while end.is_none_or(|end| !answer.contains(end)) {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            assert!(end.is_none(), "the connection was closed: {answer}");
            break;
        }
        answer.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    answer
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
