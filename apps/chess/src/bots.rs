//! Somebody to play with: bots, each a task whose presence in the lobby is the task's own.

mod search;

use std::{collections::HashMap, sync::Arc, time::Duration};

use adsum::{NodeState, Owner};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use self::search::{Strength, choose, is_lost};
use crate::{
    Db, Name, Problem,
    channels::now_seconds,
    db::CreateError,
    games::{Command, Table},
    ids::random_bytes,
    node::{LOBBY, Node, Roster, game_topic, user_topic},
    protocol::{Color, Device, Meta, NewMove, Status, User},
};

/// The bots and how well they play.
const BOTS: [(&str, Strength); 2] = [
    ("Pawnelope", Strength { depth: 1, nodes: 2_000, careless: 80 }),
    ("Castellan", Strength { depth: 4, nodes: 20_000, careless: 0 }),
];

/// How long a bot stays at a game that is over, for a rematch, if the other stays too.
const STAYS: Duration = Duration::from_mins(10);

/// How long a bot whose game failed waits until it goes on.
const PAUSE: Duration = Duration::from_secs(1);

/// A bot takes at most this part of its clock for one move.
const PART_OF_CLOCK: i64 = 20;

/// A program that plays.
#[derive(Debug, Clone)]
pub(crate) struct Bot {
    user: User,
    strength: Strength,
}

/// Makes sure that all bots have a user each. One whose name a person has is left out.
pub(crate) async fn enlist(db: &Db) -> Result<Vec<Bot>, sqlx::Error> {
    let mut bots = Vec::new();
    for (name, strength) in BOTS {
        let name = Name::parse(name).expect("the bots' names are names");
        match db.bot(&name).await {
            Ok(user) => bots.push(Bot { user, strength }),
            Err(CreateError::Taken) => tracing::warn!(%name, "a person has this bot's name; it stays away"),
            Err(CreateError::Database(error)) => return Err(error),
        }
    }
    Ok(bots)
}

/// How often a node looks whether it is the one that runs the bots.
const LOOK: Duration = Duration::from_secs(1);

/// Whether this node is the one that runs the bots: of those that are up, the first by name. While nodes don't hear each
/// other several may be; of a move that two make, one is stored.
async fn runs_bots(node: &Node) -> bool {
    let nodes = node.presence.nodes().await;
    nodes
        .iter()
        .filter(|other| other.state == NodeState::Up)
        .min_by_key(|other| &other.name)
        .is_some_and(|first| first.is_self)
}

impl Bot {
    /// Runs for as long as this node is the one to run the bots.
    pub(crate) async fn stand_by(self, node: Arc<Node>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = async || {
            looks.tick().await;
            runs_bots(&node).await
        };
        while !look().await {}
        let is_anothers = async { while look().await {} };
        tokio::select! {
            () = self.run(node.clone()) => {}
            () = is_anothers => {}
        }
    }

    /// Waits in the lobby and plays. Should this panic, the bot has left; it is back when this runs again.
    async fn run(self, node: Arc<Node>) {
        let mut owner = node.presence.owner();
        let mut inbox = node.pubsub.subscribe(user_topic(self.user.id));
        let mut tasks = JoinSet::new();
        let mut games: HashMap<String, AbortHandle> = HashMap::new();
        let sweep = node.settings.sweep_interval();
        loop {
            games.retain(|_, task| !task.is_finished());
            match node.db.games_of(self.user.id).await {
                Ok(running) => {
                    self.show(&mut owner, running.len());
                    for game in running {
                        let (node, bot) = (node.clone(), self.clone());
                        games.entry(game).or_insert_with_key(|game| {
                            let game = game.clone();
                            tasks.spawn(async move { bot.play(node, game).await })
                        });
                    }
                }
                Err(error) => {
                    tracing::error!(%error, bot = self.user.name, "a bot can't see its games; retrying");
                }
            }
            tokio::select! {
                // Something concerns it: it looks what.
                _ = inbox.recv() => {}
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, bot = self.user.name, "a bot's game failed; it goes on");
                    sleep(PAUSE).await;
                },
                () = sleep(sweep) => {}
            }
            while inbox.try_recv().is_some() {}
        }
    }

    fn show(&self, owner: &mut Owner<Roster>, games: usize) {
        let online_at =
            owner.meta(LOBBY, self.user.id.to_string()).map_or_else(now_seconds, |meta: Meta| meta.online_at);
        let meta = Meta { games: Some(u32::try_from(games).unwrap_or(u32::MAX)), ..meta(online_at) };
        if let Err(error) = owner.set(LOBBY, self.user.id.to_string(), meta) {
            tracing::error!(%error, bot = self.user.name, "a bot can't be shown in the lobby");
        }
    }

    /// Plays one game to its end, and waits for a rematch for as long as the other does.
    async fn play(self, node: Arc<Node>, game: String) {
        let topic = game_topic(&game);
        let mut inbox = node.pubsub.subscribe(topic.as_str());
        let mut owner = node.presence.owner();
        let mut over_since = None;
        let mut served = None;
        loop {
            while inbox.try_recv().is_some() {}
            match node.table(&game).await {
                Ok(table) => {
                    // So that a move that it doesn't hear of is told again.
                    served.get_or_insert_with(|| node.served.game(&node.pubsub, &table));
                    let Some(color) = table.side_of(self.user.id) else { return };
                    let meta = Meta { color: Some(color), ..meta(now_seconds()) };
                    if owner.meta(topic.as_str(), self.user.id.to_string()).is_none() {
                        drop(owner.track(topic.as_str(), self.user.id.to_string(), meta));
                    }
                    if table.ending.is_some() {
                        let since = *over_since.get_or_insert_with(Instant::now);
                        let other_stays = node.is_in(&topic, table.player(color.other()).id);
                        if !other_stays || since.elapsed() > STAYS {
                            return;
                        }
                    } else if let Err(problem) = self.answer(&node, &table, color).await {
                        tracing::debug!(%problem, game, "a bot was too late");
                        sleep(PAUSE).await;
                    }
                }
                Err(problem) => tracing::error!(%problem, game, "a bot can't see its game; retrying"),
            }
            drop(timeout(node.settings.sweep_interval(), inbox.recv()).await);
        }
    }

    /// Does what there is to do: answers an offer of a draw, or moves.
    async fn answer(&self, node: &Arc<Node>, table: &Table, color: Color) -> Result<(), Problem> {
        let user = self.user.id;
        if table.draw_offer == Some(color.other()) {
            let command = if is_lost(&table.played, color) { Command::Draw } else { Command::DeclineDraw };
            node.act(&table.id, user, &command, Instant::now()).await?;
            return Ok(());
        }
        if table.running() != Some(color) {
            return Ok(());
        }
        let began = Instant::now();
        let ply = table.played.ply();
        let Some(text) = self.think(node, table).await else { return Ok(()) };
        let left = table.clock.left(color, Some(color), table.now);
        sleep(Self::pause(node, left).saturating_sub(began.elapsed())).await;
        node.act(&table.id, user, &Command::Move(NewMove { ply, text }), Instant::now()).await?;
        Ok(())
    }

    /// Finds a move, when it is this bot's turn to think.
    async fn think(&self, node: &Node, table: &Table) -> Option<String> {
        let _permit = node.thinkers.acquire().await.ok()?;
        let (played, strength) = (table.played.clone(), self.strength);
        let seed = u64::from_le_bytes(random_bytes());
        tokio::task::spawn_blocking(move || choose(&played, strength, seed)).await.ok()?
    }

    /// How long a move takes, so that people can follow it.
    fn pause(node: &Node, left_ms: i64) -> Duration {
        let shortest = node.settings.bot_ms;
        let [byte] = random_bytes();
        let pause = shortest + 2 * shortest * u64::from(byte) / 255;
        Duration::from_millis(pause.min((left_ms / PART_OF_CLOCK).max(0).cast_unsigned()))
    }
}

fn meta(online_at: u64) -> Meta {
    Meta::new(online_at, Device::Bot, Status::Here)
}

#[cfg(test)]
mod tests {
    use adsum::{Change, LeaveReason, PubSub};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Settings, rules::Played, tasks::keep};

    /// Prints how the bots do against each other, and how long they think.
    #[test]
    #[ignore = "it measures, for the README"]
    fn the_bots_play_each_other() {
        let (mut points, mut moves, mut longest) = ([0, 0], [0_u32, 0], [Duration::ZERO; 2]);
        let mut thought = [Duration::ZERO; 2];
        for game in 0..40_u64 {
            let mut played = Played::new();
            while played.ending().is_none() && played.ply() < 400 {
                let bot = (u64::from(played.ply()) + game) as usize % 2;
                let began = std::time::Instant::now();
                let seed = game * 1_000 + u64::from(played.ply());
                let text = choose(&played, BOTS[bot].1, seed).unwrap();
                let took = began.elapsed();
                thought[bot] += took;
                longest[bot] = longest[bot].max(took);
                moves[bot] += 1;
                played.play(&text).unwrap();
            }
            match played.ending().and_then(|ending| ending.winner) {
                Some(winner) => points[(usize::from(winner == Color::Black) + game as usize) % 2] += 2,
                None => points = points.map(|points| points + 1),
            }
        }
        for bot in 0..2 {
            let (name, points) = (BOTS[bot].0, points[bot]);
            println!(
                "{name}: {points} half points of 80, {:?} a move, at most {:?}",
                thought[bot] / moves[bot],
                longest[bot]
            );
        }
    }

    #[tokio::test]
    async fn a_bot_whose_task_panics_has_left_at_once_and_comes_back() {
        let db = Db::open("sqlite::memory:", 1).await.unwrap();
        let bot = enlist(&db).await.unwrap().remove(0);
        let node = Arc::new(Node::new(db, PubSub::local(), Settings::default()));
        let mut watch = node.presence.watch(LOBBY);
        let mut next = async || match watch.next().await {
            Some(Change::Diff(diff)) => Some(diff),
            Some(Change::State(_)) | None => None,
        };
        assert!(next().await.is_none());
        let (panic, told) = oneshot::channel::<()>();
        let (mut told, key) = (Some(told), bot.user.id.to_string());
        let mut tasks = JoinSet::new();
        keep(&mut tasks, "bot", move || {
            let (run, told) = (bot.clone().run(node.clone()), told.take());
            async move {
                match told {
                    Some(told) => {
                        let panic = async {
                            told.await.unwrap();
                            panic!("on purpose")
                        };
                        tokio::join!(run, panic).0;
                    }
                    None => run.await,
                }
            }
        });
        assert!(next().await.unwrap().joins.contains_key(&*key));
        panic.send(()).unwrap();
        let gone = next().await.unwrap();
        assert_eq!(gone.leaves[&*key].metas[0].reason, Some(LeaveReason::Crashed));
        assert!(next().await.unwrap().joins.contains_key(&*key));
    }
}
