//! One game, from the invite to its end, through nodes that are killed.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};

use crate::{
    player::{Heard, Lost, Player, Position},
    site::Site,
};

/// The clocks: long enough for any random game at any pace that is measured.
const INITIAL_MS: u64 = 1_800_000;
const INCREMENT_MS: u64 = 1_000;

/// The pause before a connection is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a game is tried to be begun, while the nodes get to know its players.
const BEGIN_TRIES: u32 = 100;

/// How long an answer, or the move of somebody else, may take until the connection counts as lost.
const ANSWER: Duration = Duration::from_secs(30);

/// The two sides of a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two clients.
    People,
    /// A client and one of the site's bots.
    AgainstBot,
}

/// A game that has ended.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) id: String,
    /// Of a player.
    pub(crate) cookie: String,
    /// The moves that were answered as stored, each with its ply.
    pub(crate) acknowledged: Vec<(u32, String)>,
    pub(crate) reason: String,
}

/// The figures of all games.
#[derive(Debug)]
pub(crate) struct Figures {
    began: AtomicUsize,
    has_begun: Notify,
    moves: AtomicU64,
    reconnects: AtomicU64,
    resent: AtomicU64,
    /// From a move to the opponent, in microseconds.
    latency: Mutex<Histogram<u64>>,
}

impl Default for Figures {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3).expect("three digits are in its range");
        Self {
            began: AtomicUsize::default(),
            has_begun: Notify::new(),
            moves: AtomicU64::default(),
            reconnects: AtomicU64::default(),
            resent: AtomicU64::default(),
            latency: Mutex::new(latency),
        }
    }
}

impl Figures {
    /// Waits until so many games have begun, or failed to.
    pub(crate) async fn all_began(&self, games: usize) {
        while self.began.load(Relaxed) < games {
            self.has_begun.notified().await;
        }
    }

    fn begins(&self) {
        self.began.fetch_add(1, Relaxed);
        self.has_begun.notify_one();
    }

    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Relaxed)
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Relaxed)
    }

    pub(crate) fn resent(&self) -> u64 {
        self.resent.load(Relaxed)
    }

    pub(crate) fn latency(&self) -> Histogram<u64> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn heard_after(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros.max(1));
    }
}

/// Two players, or one and a bot.
struct Table<'s> {
    site: &'s Site,
    figures: &'s Figures,
    /// White and Black; `None` for a bot.
    players: [Option<Player>; 2],
    /// The topic.
    game: String,
    position: Position,
}

/// Plays one game to its end.
pub(crate) async fn play(
    site: &Site,
    figures: &Figures,
    places: &Semaphore,
    number: usize,
    kind: Kind,
    think: Duration,
) -> Result<Played, String> {
    let begun = {
        let _place = places.acquire().await.map_err(|error| error.to_string())?;
        begin(site, figures, number, kind).await
    };
    figures.begins();
    begun?.finish(think).await
}

async fn begin<'s>(
    site: &'s Site,
    figures: &'s Figures,
    number: usize,
    kind: Kind,
) -> Result<Table<'s>, String> {
    let player = async |name: &str, node| {
        let mut player = Player::new(site, &format!("{name} {number}"), node)
            .await
            .map_err(|error| format!("{name} {number}: {error}"))?;
        player.sees_lobby = kind == Kind::AgainstBot;
        while player.connect(site).await.is_err() {
            sleep(PAUSE).await;
        }
        Ok::<_, String>(player)
    };
    // The two are on different nodes.
    let mut white = player("White", number).await?;
    let mut black = if kind == Kind::People { Some(player("Black", number + 1).await?) } else { None };
    let opponent = match &black {
        Some(black) => black.id.clone(),
        None => find_bot(&mut white, number).await?,
    };
    let invite =
        json!({ "to": opponent, "color": "white", "initial_ms": INITIAL_MS, "increment_ms": INCREMENT_MS });
    let own = white.topic();
    let mut refused = Value::Null;
    for _ in 0..BEGIN_TRIES {
        match lost(white.push(&own, "invite", invite.clone()).await)? {
            Ok(made) => {
                let game = match &mut black {
                    None => made["game"].clone(),
                    Some(black) => {
                        let theirs = black.topic();
                        let accepted =
                            lost(black.push(&theirs, "accept", json!({ "id": made["id"] })).await)?;
                        accepted.map_err(|problem| format!("no game began: {problem}"))?["game"].clone()
                    }
                };
                let game = format!("game:{}", game.as_str().ok_or("a game without an id")?);
                let mut players = [Some(white), black];
                let mut position = None;
                for player in players.iter_mut().flatten() {
                    position = Some(player.join(&game).await.map_err(|Lost| "the join failed")?);
                }
                let position = position.ok_or("nobody plays")?;
                return Ok(Table { site, figures, players, game, position });
            }
            // The node doesn't know the other yet.
            Err(problem) => refused = problem,
        }
        sleep(PAUSE).await;
    }
    Err(format!("no game began: {refused}"))
}

fn lost<T>(result: Result<T, Lost>) -> Result<T, String> {
    result.map_err(|Lost| "the connection was lost before the game began".to_owned())
}

async fn find_bot(player: &mut Player, number: usize) -> Result<String, String> {
    loop {
        if let Heard::Lobby(state) = lost(player.next().await)? {
            let all = state.as_object().ok_or("a lobby that is no object")?;
            let bots: Vec<&String> =
                all.iter().filter(|(_, entry)| entry["user"]["bot"] == true).map(|(id, _)| id).collect();
            return bots
                .get(number % bots.len().max(1))
                .map(|id| (*id).clone())
                .ok_or_else(|| "no bots".to_owned());
        }
    }
}

impl Table<'_> {
    async fn finish(mut self, think: Duration) -> Result<Played, String> {
        let mut acknowledged = Vec::new();
        loop {
            let ply = self.position.ply;
            if let Some(result) = &self.position.result {
                let cookie = self.players.iter().flatten().next().map(|player| player.cookie.clone());
                return Ok(Played {
                    id: self.game.trim_start_matches("game:").to_owned(),
                    cookie: cookie.unwrap_or_default(),
                    acknowledged,
                    reason: result.reason.clone(),
                });
            }
            let side = ply as usize % 2;
            if self.players[side].is_some() {
                sleep(think.mul_f64(f64::from(chance(1 << 16)) / f64::from(1 << 16))).await;
                let count = u32::try_from(self.position.legal.len()).unwrap_or(u32::MAX);
                let uci = self
                    .position
                    .legal
                    .get(chance(count) as usize)
                    .ok_or("no legal move, and no result")?
                    .clone();
                let sent = Instant::now();
                let is_first_try = self.make_move(side, ply, &uci).await?;
                acknowledged.push((ply, uci));
                // Everyone hears it; the one who moved hears the result or the bot's answer.
                let other = 1 - side;
                let heard_at =
                    self.hear(if self.players[other].is_some() { other } else { side }, ply + 1).await;
                if is_first_try && let Some(heard_at) = heard_at {
                    self.figures.heard_after(heard_at - sent);
                }
            } else {
                self.hear(1 - side, ply + 1).await;
            }
        }
    }

    /// Makes a move, and makes sure that it is stored. Whether that took one try.
    async fn make_move(&mut self, side: usize, ply: u32, uci: &str) -> Result<bool, String> {
        let mut tries = 0;
        loop {
            tries += 1;
            let game = self.game.clone();
            let player = self.players[side].as_mut().ok_or("a bot moves by itself")?;
            let answer =
                timeout(ANSWER, player.push(&game, "move", json!({ "ply": ply, "move": uci }))).await;
            match answer {
                Ok(Ok(Ok(moved))) if moved["uci"] == uci && moved["ply"] == ply => {
                    self.figures.moves.fetch_add(1, Relaxed);
                    return Ok(tries == 1);
                }
                // The database was away for a moment, with the node that was killed; the page would say so.
                Ok(Ok(Err(problem))) if problem["reason"] == "unavailable" => sleep(PAUSE).await,
                Ok(Ok(answer)) => return Err(format!("{game}: {uci} at {ply} was answered by {answer:?}")),
                Ok(Err(Lost)) | Err(_) => {
                    // Sent again whatever the position is: what is stored is answered, and played once.
                    self.back(side).await;
                    self.figures.resent.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Waits until a player has heard of so many half-moves, or of the end. When that was, unless the connection was lost.
    async fn hear(&mut self, side: usize, ply: u32) -> Option<Instant> {
        loop {
            let player = self.players[side].as_mut()?;
            match timeout(ANSWER, player.next()).await {
                Ok(Ok(Heard::Change(position, at))) => {
                    if position.ply >= ply || position.result.is_some() {
                        self.position = position;
                        return Some(at);
                    }
                }
                Ok(Ok(_)) => {}
                Ok(Err(Lost)) | Err(_) => {
                    let position = self.back(side).await;
                    if position.ply >= ply || position.result.is_some() {
                        self.position = position;
                        return None;
                    }
                }
            }
        }
    }

    /// Brings a player back whose connection was lost.
    async fn back(&mut self, side: usize) -> Position {
        self.figures.reconnects.fetch_add(1, Relaxed);
        loop {
            if let Some(player) = &mut self.players[side]
                && player.connect(self.site).await.is_ok()
                && let Ok(position) = player.join(&self.game).await
            {
                return position;
            }
            sleep(PAUSE).await;
        }
    }
}

/// A random number below another.
fn chance(below: u32) -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    u32::from_le_bytes(bytes) % below.max(1)
}
