//! A server of one very large topic: presences of tasks inside, and clients who are told how many there are.
//!
//! `large_server` serves `large:main` to clients, for the scenario `large` of `load`. `large_server --watched` has no
//! clients: a plain topic of the same size is followed by subscribers inside, and what that takes is printed.

#![allow(clippy::cast_precision_loss, reason = "figures are for people: they are far below 2^52")]

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use adsum::{
    Assigns, Change, Channel, Connect, JoinError, Joined, NoFetch, NoParams, Owner, Payload, Presence,
    PubSub, Ref, Refused, Reply, Socket, SocketBuilder, Stop, Topic,
};
use clap::Parser;
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{sync::Mutex, time::sleep_until};

#[path = "../process.rs"]
mod process;

const COUNTED: &str = "large:main";
const WATCHED: &str = "watched:main";
/// How many owners the presences are spread over, as over the tasks of a program.
const OWNERS: usize = 1000;
const PAGE: usize = 100;
/// The diffs that wait for a subscriber at most.
const INBOX: usize = 64;
/// How long the lists may take to be what they should.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Parser)]
#[command(about = "A server of one very large topic")]
struct Options {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:4100")]
    listen: SocketAddr,
    /// How many presences there are
    #[arg(long, default_value_t = 100_000)]
    presences: usize,
    /// Follow a plain topic from inside, print what it takes, and end
    #[arg(long)]
    watched: bool,
    /// How many subscribers get the diffs, with --watched
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// How many of them also keep the whole list
    #[arg(long, default_value_t = 10)]
    lists: usize,
    /// Changes a second, with --watched
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// For how many seconds, with --watched
    #[arg(long, default_value_t = 10)]
    secs: u32,
}

type Owners = Vec<Owner<NoFetch>>;

struct App {
    presence: Presence,
    owners: Mutex<Owners>,
}

struct LargeTopic(Arc<App>);

impl Channel for LargeTopic {
    type App = Arc<App>;
    type Params = NoParams;
    type Info = ();

    async fn join(app: &Arc<App>, _: &Topic, _: NoParams, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self(app.clone())))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        Ok(self.0.presence.push_state(socket).await?)
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, _: &mut Socket) -> Result<Reply, Stop> {
        #[derive(Deserialize)]
        struct Run {
            rate: u32,
            secs: u32,
        }
        let Ok(Run { rate, secs }) = payload.decode() else { return Err(Stop::unhandled(event)) };
        let mut owners = self.0.owners.lock().await;
        Ok(Reply::ok(run(&self.0.presence, &mut owners, COUNTED, rate, secs).await))
    }
}

fn meta() -> Map<String, Value> {
    Map::from_iter([("online_at".to_owned(), "1795520148".into())])
}

fn fill(presence: &Presence, topic: &str, presences: usize) -> Owners {
    let mut owners: Owners = (0..OWNERS).map(|_| presence.owner()).collect();
    for n in 0..presences {
        owners[n % OWNERS].track(topic, format!("u{n}"), meta()).expect("each key is new");
    }
    owners
}

/// Has users come for half of the time and go again for the other half, and reads pages meanwhile.
async fn run(presence: &Presence, owners: &mut Owners, topic: &str, rate: u32, secs: u32) -> Value {
    let presences = presence.count(topic);
    let changes = (rate * secs / 2) as usize * 2;
    let start = tokio::time::Instant::now();
    let mut late = Duration::ZERO;
    let mut pages =
        Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("three digits are in its range");
    let mut last: Option<String> = None;
    for n in 0..changes {
        let due = start + Duration::from_secs(1) * n as u32 / rate;
        late = late.max(due.elapsed());
        sleep_until(due).await;
        let up = n < changes / 2;
        let key = format!("v{}", if up { n } else { changes - 1 - n });
        let owner = &mut owners[n.min(changes - 1 - n) % OWNERS];
        if up {
            owner.track(topic, key, meta()).expect("each key is new");
        } else {
            owner.untrack(topic, &key);
        }
        if n % 50 == 0 {
            let started = Instant::now();
            let page = presence.page(topic, last.as_deref(), PAGE).await;
            pages.saturating_record((started.elapsed().as_micros() as u64).max(1));
            last = page.last().map(|(key, _)| key.to_string());
        }
    }
    json!({
        "presences": presences,
        "peak": presences + changes / 2,
        "changes": changes,
        "page_us": {
            "p50": pages.value_at_quantile(0.5),
            "p99": pages.value_at_quantile(0.99),
            "max": pages.max(),
        },
        "late_us": late.as_micros() as u64,
    })
}

/// Resident memory in KB and CPU in seconds, of this process.
fn used() -> (u64, f64) {
    let me = std::process::id();
    (process::memory(me), process::cpu(me))
}

/// The list that a subscriber keeps: its length now, and its maximum.
#[derive(Default)]
struct Listed {
    now: AtomicUsize,
    most: AtomicUsize,
}

async fn watched(options: &Options) -> Option<Value> {
    let pubsub = PubSub::local();
    let presence = Presence::builder(pubsub.clone()).start();
    let (empty, _) = used();
    let mut owners = fill(&presence, WATCHED, options.presences);
    let (filled, _) = used();

    let mut tasks = tokio::task::JoinSet::new();
    let diffs = Arc::new(AtomicUsize::new(0));
    for _ in 0..options.subscribers {
        let (mut inbox, diffs) = (pubsub.inbox(INBOX), diffs.clone());
        inbox.subscribe(WATCHED);
        tasks.spawn(async move {
            while let Ok(_diff) = inbox.recv().await {
                diffs.fetch_add(1, Relaxed);
            }
        });
    }
    let lists: Vec<_> = (0..options.lists).map(|_| Arc::new(Listed::default())).collect();
    for listed in &lists {
        let (mut watch, listed) = (presence.watch(WATCHED), listed.clone());
        tasks.spawn(async move {
            let mut refs = HashSet::new();
            while let Some(change) = watch.next().await {
                fold(&mut refs, change);
                listed.now.store(refs.len(), Relaxed);
                listed.most.fetch_max(refs.len(), Relaxed);
            }
        });
    }
    let all_list = |n| lists.iter().all(|listed| listed.now.load(Relaxed) == n);
    let ready = wait_for(|| all_list(options.presences)).await;

    let (_, before) = used();
    let mut result = run(&presence, &mut owners, WATCHED, options.rate, options.secs).await;
    let back = wait_for(|| all_list(options.presences)).await;
    let (memory, after) = used();
    let peak = result["peak"].as_u64()? as usize;
    // At the turn, who came and went within one interval is in no diff.
    let turn = options.rate as usize / 10;
    let peaked = lists.iter().all(|listed| (peak - turn..=peak).contains(&listed.most.load(Relaxed)));
    let changes = result["changes"].as_u64()?;
    let result_of_all = json!({
        "scenario": "watched",
        "correct": ready && back && peaked && (diffs.load(Relaxed) > 0) == (options.subscribers > 0),
        "subscribers": options.subscribers,
        "lists": options.lists,
        "diffs_per_subscriber": diffs.load(Relaxed) / options.subscribers.max(1),
        "server_rss_kb": memory,
        "bytes_per_presence": (filled - empty) * 1024 / options.presences.max(1) as u64,
        "cpu_us_per_change": (after - before) * 1e6 / changes as f64,
    });
    if let (Value::Object(result), Value::Object(more)) = (&mut result, result_of_all) {
        result.extend(more);
    }
    Some(result)
}

fn fold(refs: &mut HashSet<Ref>, change: Change<NoFetch>) {
    match change {
        Change::State(topics) => {
            let entries = topics.into_values().flat_map(HashMap::into_values);
            *refs = entries.flat_map(|entry| entry.metas).map(|meta| meta.reference).collect();
        }
        Change::Diff(diff) => {
            refs.extend(diff.joins.into_values().flat_map(|entry| entry.metas).map(|meta| meta.reference));
            for entry in diff.leaves.into_values() {
                for meta in entry.metas {
                    refs.remove(&meta.reference);
                }
            }
        }
    }
}

async fn wait_for(holds: impl Fn() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

async fn connect(_: Arc<App>, _: Connect) -> Result<Assigns, Refused> {
    Ok(Assigns::new())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    if options.watched {
        let result = watched(&options).await.ok_or("this needs /proc")?;
        println!("{result}");
        // The lists needn't be taken apart one by one.
        std::process::exit(i32::from(result["correct"] != true));
    }
    let presence = Presence::builder(PubSub::local()).counted("large:*").start();
    let owners = Mutex::new(fill(&presence, COUNTED, options.presences));
    let socket = SocketBuilder::new(Arc::new(App { presence: presence.clone(), owners }))
        .connect(connect)
        .channel::<LargeTopic>("large:*");
    let site = axum::Router::new().nest("/socket", socket.into_router(&presence));
    let listener = tokio::net::TcpListener::bind(options.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, site).await?;
    Ok(())
}
