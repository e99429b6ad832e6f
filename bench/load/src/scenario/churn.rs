use std::{
    cell::{Cell, RefCell},
    collections::{HashSet, VecDeque},
    rc::Rc,
    time::Duration,
};

use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Schedule, Stage, finish, wrong_views};
use crate::{
    client::{Client, Greeting},
    world::{World, wait_for},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many users at a time
    #[arg(long, default_value_t = 500)]
    users: usize,
    /// In how many rooms
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// How many leave, and are followed by another, in a second
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// For how many seconds
    #[arg(long, default_value_t = 10.0)]
    secs: f64,
    /// How they leave
    #[arg(long, value_enum, default_value_t = Leave::Topic)]
    leave: Leave,
}

#[derive(Clone, Copy, ValueEnum)]
enum Leave {
    /// The topic, then the connection is closed
    Topic,
    /// By a close frame
    Close,
    /// The connection is just gone
    Vanish,
}

/// Between the joins, of which a storm is made, and the churn, which is measured.
const PAUSE: Duration = Duration::from_millis(250);

/// The members of a room, oldest first.
type Room = RefCell<VecDeque<Rc<Client>>>;

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let (world, rooms, each) = (&stage.world, self.rooms, self.users / self.rooms);
        let members: Vec<_> = (0..each * rooms)
            .map(|n| Client::new(n as u32, n % rooms, stage.room(n % rooms), Greeting::State, each))
            .collect();
        stage.join_all(&members).await;
        let full =
            wait_for(stage.common.timeout, || members.iter().all(|member| member.sees() == each)).await;
        let of_room = |room| members.iter().filter(move |member| member.room == room).cloned();
        let live: Rc<Vec<Room>> =
            Rc::new((0..rooms).map(|room| RefCell::new(of_room(room).collect())).collect());
        sleep(PAUSE).await;
        world.measure();

        let next_user = Rc::new(Cell::new(members.len() as u32));
        drop(members);
        let events = (self.rate * self.secs) as usize;
        let before = stage.usage();
        let schedule = Schedule::start(self.rate);
        let mut pairs = Vec::with_capacity(events);
        for event in 0..events {
            schedule.due(event).await;
            let (world, common, live) = (world.clone(), stage.common.clone(), live.clone());
            let user = next_user.replace(next_user.get() + 1);
            let room = event % rooms;
            let newcomer = Client::new(user, room, stage.room(room), Greeting::State, each);
            pairs.push(tokio::task::spawn_local(async move {
                // The first of each room stays, and the next oldest goes.
                let Some(oldest) = live[room].borrow_mut().remove(1) else {
                    return world.error("a room ran empty");
                };
                World::note(&world.left, oldest.user, world.now());
                match self.leave {
                    Leave::Topic => {}
                    Leave::Close => oldest.connection().close(),
                    Leave::Vanish => oldest.connection().vanish(),
                }
                let leaves = async {
                    if matches!(self.leave, Leave::Topic) {
                        oldest.leave().await;
                        oldest.connection().close();
                    }
                };
                let joins = async {
                    if newcomer.connect(&world, &common).await {
                        newcomer.join(&world).await;
                        live[room].borrow_mut().push_back(newcomer);
                    }
                };
                tokio::join!(leaves, joins);
            }));
        }
        let finished =
            tokio::time::timeout(std::time::Duration::from_secs_f64(stage.common.timeout), finish(pairs))
                .await
                .is_ok();
        let after = stage.usage();
        let rooms_of_members = live.iter().map(|room| room.borrow().iter().cloned().collect::<Vec<_>>());
        let right =
            rooms_of_members.map(|members| (members.iter().map(|member| member.user).collect(), members));
        let right: Vec<(HashSet<u32>, _)> = right.collect();
        // All rooms are as large as before, so only who is in them tells.
        let settled = wait_for(stage.common.timeout, || {
            right.iter().all(|(users, members)| wrong_views(members, users) == 0)
        })
        .await;
        let own = json!({
            "users": each * rooms,
            "rooms": rooms,
            "rate": self.rate,
            "achieved_rate": (events as f64 / after.seconds_since(&before)).round(),
            "cpu_us_per_pair": after.cpu_per(&before, events),
            "frames_per_event": after.frames_per(&before, events),
        });
        stage.result("churn", full && finished && settled, (&before, &after), own)
    }
}
