//! Plays many games at once on the chess site: random legal moves, on one node or two, of which one is killed now and then.
//! Every game has to end, and a referee that shares no code with the site replays each from its PGN to its result.

#![allow(clippy::cast_precision_loss, reason = "figures are for people: they are far below 2^52")]

mod game;
mod http;
mod player;
mod referee;
mod site;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::{
    game::{Figures, Kind, Played},
    site::Site,
};

/// How many games begin at once: all would be one storm of joins.
const BEGIN_AT_ONCE: usize = 25;

/// How long a killed node stays away.
const AWAY: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(about = "Plays many games at once on the chess site, and measures")]
struct Options {
    /// The program to measure.
    #[arg(long)]
    chess: PathBuf,
    /// The NATS server that connects two nodes.
    #[arg(long, default_value = "/usr/sbin/nats-server")]
    nats_server: PathBuf,
    /// How many nodes: one on an `SQLite` file, or two on a `PostgreSQL` server of this tool's own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    nodes: u8,
    /// Another database for them.
    #[arg(long)]
    database: Option<String>,
    /// How many games between two clients are played at once.
    #[arg(long, default_value_t = 500)]
    games: usize,
    /// How many games against the site's bots are played beside them.
    #[arg(long, default_value_t = 4)]
    bot_games: usize,
    /// How long a client thinks about a move at most, in milliseconds; half of that on average.
    #[arg(long, default_value_t = 500)]
    think: u64,
    /// How often one of two nodes is killed, in turn.
    #[arg(long, default_value_t = 0)]
    kills: u32,
    /// The pause before each kill, in seconds.
    #[arg(long, default_value_t = 15)]
    kill_pause: u64,
    /// How long all of it may take, in seconds.
    #[arg(long, default_value_t = 1_800)]
    patience: u64,
    /// Print all figures as JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let patience = Duration::from_secs(options.patience);
    match tokio::time::timeout(patience, run(&options)).await {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => fails(&error.to_string()),
        Err(_) => fails(&format!("not all games ended within {} s", options.patience)),
    }
}

fn fails(why: &str) -> ExitCode {
    eprintln!("games: {why}");
    ExitCode::FAILURE
}

/// Whether all was as it should be.
async fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let site = Arc::new(
        Site::start(&options.chess, &options.nats_server, options.nodes, options.database.clone()).await?,
    );
    let figures = Arc::new(Figures::default());
    let places = Arc::new(Semaphore::new(BEGIN_AT_ONCE));
    let mut games = JoinSet::new();
    for number in 0..options.games + options.bot_games {
        let (site, figures, places) = (site.clone(), figures.clone(), places.clone());
        let kind = if number < options.games { Kind::People } else { Kind::AgainstBot };
        let think = Duration::from_millis(options.think);
        games.spawn(async move { game::play(&site, &figures, &places, number, kind, think).await });
    }
    figures.all_began(options.games + options.bot_games).await;
    let (began, cpu, moves) = (Instant::now(), site.cpu(), figures.moves());
    let kills =
        tokio::spawn(kill_in_turn(site.clone(), options.kills, Duration::from_secs(options.kill_pause)));

    let mut played: Vec<Played> = Vec::new();
    let mut wrong: Vec<String> = Vec::new();
    let mut busy = None;
    while let Some(game) = games.join_next().await {
        match game? {
            Ok(game) => played.push(game),
            Err(error) => wrong.push(error),
        }
        // Measured while nine in ten games are under way: at the end few are left.
        if busy.is_none() && played.len() + wrong.len() > (options.games + options.bot_games) / 10 {
            busy = Some((began.elapsed(), site.cpu() - cpu, figures.moves() - moves));
        }
    }
    let killed = kills.await??;
    let (elapsed, cpu, moves) = busy.unwrap_or_default();
    for game in &played {
        if let Err(error) = referee::check(&site, game).await {
            wrong.push(format!("game {}: {error}", game.id));
        }
    }
    let flags =
        played.iter().filter(|game| game.reason == "time" || game.reason == "time_insufficient").count();
    let latency = figures.latency();
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
    let result = json!({
        "games": played.len(),
        "wrong": wrong.len(),
        "flags": flags,
        "nodes": options.nodes,
        "kills": killed,
        "plies": played.iter().map(|game| game.acknowledged.len()).sum::<usize>(),
        "moves_per_second": moves as f64 / elapsed.as_secs_f64().max(1e-9),
        "to_opponent_ms": { "p50": ms(0.5), "p99": ms(0.99), "max": latency.max() as f64 / 1e3 },
        "cpu_us_per_move": cpu * 1e6 / (moves as f64).max(1.0),
        "reconnects": figures.reconnects(),
        "resent": figures.resent(),
        "reasons": reasons(&played),
    });
    for error in wrong.iter().take(20) {
        eprintln!("games: {error}");
    }
    if options.json {
        println!("{result}");
    } else {
        print(&result);
    }
    site.end().await;
    Ok(wrong.is_empty() && flags == 0 && killed == options.kills)
}

/// Kills one node after the other, and starts it again.
async fn kill_in_turn(site: Arc<Site>, kills: u32, pause: Duration) -> Result<u32, std::io::Error> {
    for kill in 0..kills {
        sleep(pause).await;
        let node = kill as usize % site.nodes();
        site.kill(node).await?;
        sleep(AWAY).await;
        site.start_node(node).await?;
    }
    Ok(kills)
}

fn reasons(played: &[Played]) -> std::collections::BTreeMap<&str, usize> {
    let mut reasons = std::collections::BTreeMap::new();
    for game in played {
        *reasons.entry(&*game.reason).or_insert(0) += 1;
    }
    reasons
}

fn print(result: &serde_json::Value) {
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or_default();
    let to_opponent = &result["to_opponent_ms"];
    println!("{} games, {} half-moves, on {} nodes", result["games"], result["plies"], result["nodes"]);
    println!("ended by {}", result["reasons"]);
    println!(
        "{:.0} moves a second, {:.0} us CPU of the nodes a move",
        number(&result["moves_per_second"]),
        number(&result["cpu_us_per_move"])
    );
    println!(
        "from a move to the opponent p50 {:.1} ms, p99 {:.1} ms, at most {:.0} ms",
        number(&to_opponent["p50"]),
        number(&to_opponent["p99"]),
        number(&to_opponent["max"])
    );
    println!(
        "{} kills, {} reconnects, {} moves sent again",
        result["kills"], result["reconnects"], result["resent"]
    );
    println!("{} wrong, {} flags", result["wrong"], result["flags"]);
}
