//! Two regions, each with its own NATS server, and one link between the servers, which breaks.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use adsum::{ClusterOptions, Inbox, NoFetch, Owner, Presence, PubSub};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    metrics::value,
    server::{File, Kind, Server},
    support::{diff, meta},
};

const DEADLINE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

/// A link that can be cut: its connections end, and no new ones get through until it is restored.
struct RegionLink(watch::Sender<bool>);

impl RegionLink {
    async fn to(port: u16) -> (Self, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_whole, whole) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut whole = whole.clone();
                if !*whole.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = whole.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        (Self(is_whole), address.port())
    }

    fn cut(&self) {
        self.0.send_replace(false);
    }

    fn mend(&self) {
        self.0.send_replace(true);
    }
}

struct Node {
    presence: Presence,
    pubsub: PubSub,
    owner: Owner<NoFetch>,
    /// The messages to a client in the room.
    room: Inbox,
}

impl Node {
    async fn start(server: &Server, region: &str, name: &str, engine_grace: Duration) -> Self {
        let pubsub = server.builder(name).region(region).start().await.unwrap();
        let cluster = ClusterOptions::default().engine_grace(engine_grace);
        let room = pubsub.subscribe("room");
        let presence = Presence::builder(pubsub.clone()).cluster(cluster).start();
        let owner = presence.owner();
        Self { presence, pubsub, owner, room }
    }

    async fn keys(&self) -> BTreeSet<String> {
        self.presence.list("room").await.keys().map(ToString::to_string).collect()
    }

    /// Waits until the room has this many keys, and all messages about them were sent.
    async fn lists(&mut self, keys: usize) {
        let listed = async {
            while self.presence.key_count("room") != keys {
                sleep(SECOND / 50).await;
            }
        };
        timeout(DEADLINE, listed).await.unwrap_or_else(|_| panic!("{keys} keys are listed"));
        sleep(SECOND / 2).await;
        while self.room.try_recv().is_some() {}
    }
}

/// Two nodes in each region, and ten presences on each of them.
struct Regions {
    link: RegionLink,
    nodes: [Node; 4],
    _servers: [Server; 2],
    _config: [File; 2],
}

impl Regions {
    async fn start(engine_grace: Duration) -> Self {
        let leaf_port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        let (link, through) = RegionLink::to(leaf_port).await;
        // Servers tell each other their addresses, but the link must stay their only connection.
        let hub = File::new(&format!(
            "leafnodes {{ host: 127.0.0.1, port: {leaf_port}, advertise: \"127.0.0.1:{through}\" }}"
        ));
        let eu = Server::with(Kind::Nats, &["--config", hub.path()]);
        let leaf = File::new(&format!(
            "leafnodes {{ reconnect: 1, remotes: [ {{ url: \"nats-leaf://127.0.0.1:{through}\" }} ] }}"
        ));
        let us = Server::with(Kind::Nats, &["--config", leaf.path()]);
        let mut nodes = [
            Node::start(&eu, "eu", "a", engine_grace).await,
            Node::start(&eu, "eu", "b", engine_grace).await,
            Node::start(&us, "us", "c", engine_grace).await,
            Node::start(&us, "us", "d", engine_grace).await,
        ];
        for (index, node) in nodes.iter_mut().enumerate() {
            for n in 0..10 {
                node.owner.track("room", format!("{index}-{n}"), meta(n)).unwrap();
            }
        }
        for node in &mut nodes {
            node.lists(40).await;
        }
        Self { link, nodes, _servers: [eu, us], _config: [hub, leaf] }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_broken_for_ten_seconds_is_seen_by_no_client() {
    let mut regions = Regions::start(ClusterOptions::default().engine_grace).await;
    regions.link.cut();
    let began = Instant::now();
    // It is really cut.
    sleep(SECOND).await;
    regions.nodes[2].owner.track("room", "behind", meta(1)).unwrap();
    for node in &mut regions.nodes[2..] {
        node.lists(41).await;
    }
    while began.elapsed() < 10 * SECOND {
        let seen = regions.nodes.each_ref().map(|node| node.presence.key_count("room"));
        assert_eq!(seen, [40, 40, 41, 41], "after {:?}", began.elapsed());
        sleep(SECOND / 10).await;
    }
    regions.link.mend();
    for node in &mut regions.nodes[..2] {
        let change = timeout(DEADLINE, diff(&mut node.room)).await.unwrap();
        assert!(change["joins"].as_object().unwrap().keys().eq(["behind"]), "{change}");
        assert!(change["leaves"].as_object().unwrap().is_empty(), "{change}");
    }
    // Longer than a node may be silent, and longer than it takes to prove that the link is back.
    sleep(4 * SECOND).await;
    for node in &mut regions.nodes {
        assert_eq!(node.keys().await.len(), 41);
    }
    for node in &mut regions.nodes[..2] {
        assert!(node.room.try_recv().is_none(), "nothing more is told");
    }
    for node in &regions.nodes {
        let broken = value(&node.pubsub, "adsum_region_links_broken_total", &["presence"]);
        assert!(broken >= 1.0, "{broken}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_broken_for_longer_than_its_grace_is_one_diff_and_one_when_it_is_back() {
    let grace = 3 * SECOND;
    let mut regions = Regions::start(grace).await;
    regions.link.cut();
    let began = Instant::now();
    for node in &mut regions.nodes {
        let change = timeout(DEADLINE, diff(&mut node.room)).await.unwrap();
        let leaves = change["leaves"].as_object().unwrap();
        assert!(change["joins"].as_object().unwrap().is_empty() && leaves.len() == 20, "{change}");
        assert!(leaves.values().all(|left| left["metas"][0]["phx_reason"] == "unreachable"), "{change}");
        assert!(began.elapsed() >= 2 * SECOND + grace, "{:?}", began.elapsed());
    }
    sleep(2 * SECOND).await;
    assert!(regions.nodes.iter_mut().all(|node| node.room.try_recv().is_none()), "nothing more is told");
    regions.link.mend();
    for node in &mut regions.nodes {
        let change = timeout(DEADLINE, diff(&mut node.room)).await.unwrap();
        assert!(change["leaves"].as_object().unwrap().is_empty(), "{change}");
        assert_eq!(change["joins"].as_object().unwrap().len(), 20, "{change}");
    }
    sleep(2 * SECOND).await;
    assert!(regions.nodes.iter_mut().all(|node| node.room.try_recv().is_none()), "nothing more is told");
}
