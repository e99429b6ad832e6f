use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use super::{Schedule, Stage, finish, wrong_views};
use crate::{
    client::{Client, Greeting},
    world::{World, wait_for},
};

/// How many listeners are present at a time, on their way in: a room of thousands would be a state of each.
const ENTERING: usize = 500;
/// A server is saturated once a change is seen later than this, in microseconds.
const SATURATED: u64 = 100_000;
/// How much more each step of the search for saturation asks for, and for how many seconds.
const STEP: (f64, f64) = (1.5, 2.0);
/// How many steps there are at most.
const STEPS: usize = 12;

const PAUSE: Duration = Duration::from_secs(1);

/// Of three changes in a room one is a leave, one a join and one an update.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many users are in each room
    #[arg(long, default_value_t = 20)]
    users: usize,
    /// How many of them are present; the others untrack themselves, and listen. All, if it isn't said
    #[arg(long)]
    present: Option<usize>,
    /// How many rooms there are
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// Changes a second in all rooms; several rates are measured one after the other
    #[arg(long, value_delimiter = ',', default_value = "100")]
    rates: Vec<f64>,
    /// For how many seconds each, and three changes at least
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    /// Then ask for more until a change in a hundred is seen after 100 ms
    #[arg(long)]
    saturate: bool,
}

/// Those present in a room, oldest first.
type Room = RefCell<VecDeque<Rc<Client>>>;

struct Rooms {
    present: Vec<Room>,
    listeners: Vec<Vec<Rc<Client>>>,
    next_user: Cell<u32>,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let first = stage.usage();
        let rooms = self.enter(stage).await;
        let full = self.is_settled(stage, &rooms).await;
        // Until the budget has recovered from the joins, and none of them is under way.
        sleep(PAUSE).await;
        let mut loads = Vec::new();
        for rate in &self.rates {
            loads.push(self.load(stage, &rooms, *rate, self.secs).await);
        }
        let mut saturated_at = Value::Null;
        if self.saturate {
            let (factor, secs) = STEP;
            let mut rate = self.rates.iter().copied().fold(1.0, f64::max);
            for _ in 0..STEPS {
                let load = self.load(stage, &rooms, rate * factor, secs).await;
                let slowest = ["join", "leave", "update"].map(|kind| load[kind]["p99"].as_u64().unwrap_or(0));
                if slowest.iter().any(|p99| *p99 > SATURATED) || load["kept"] != true {
                    saturated_at = rate.into();
                    break;
                }
                rate *= factor;
            }
        }
        let settled = self.is_settled(stage, &rooms).await;
        let own = json!({
            "users": self.users,
            "rooms": self.rooms,
            "loads": loads,
            "saturated_at": saturated_at,
        });
        stage.result("mix", full && settled, (&first, &stage.usage()), own)
    }

    async fn enter(&self, stage: &Stage) -> Rc<Rooms> {
        let present = self.present.unwrap_or(self.users).min(self.users);
        let client = |n: usize| {
            let room = n % self.rooms;
            Client::new(n as u32, room, stage.room(room), Greeting::State, present)
        };
        let clients: Vec<_> = (0..self.users * self.rooms).map(client).collect();
        let (members, listeners) = clients.split_at(present * self.rooms);
        for entering in listeners.chunks(ENTERING) {
            stage.join_all(entering).await;
            for listener in entering {
                listener.push("t", "untrack", "{}");
            }
            wait_for(stage.common.timeout, || entering.iter().all(|listener| listener.sees() == 0)).await;
        }
        stage.join_all(members).await;
        let of_room = |clients: &[Rc<Client>], room| -> Vec<_> {
            clients.iter().filter(|client| client.room == room).cloned().collect()
        };
        Rc::new(Rooms {
            present: (0..self.rooms).map(|room| RefCell::new(of_room(members, room).into())).collect(),
            listeners: (0..self.rooms).map(|room| of_room(listeners, room)).collect(),
            next_user: Cell::new(clients.len() as u32),
        })
    }

    /// Makes changes at a rate, and measures how they arrive.
    async fn load(&self, stage: &Stage, rooms: &Rc<Rooms>, rate: f64, secs: f64) -> Value {
        let world = &stage.world;
        world.measure();
        let changes = ((rate * secs) as usize).max(3);
        let before = stage.usage();
        let schedule = Schedule::start(rate);
        let mut under_way = Vec::with_capacity(changes);
        for change in 0..changes {
            schedule.due(change).await;
            under_way.extend(rooms.change(stage, change));
        }
        let kept = schedule.lateness(changes) < 0.2;
        finish(under_way).await;
        // An update leaves everybody's view alike until the first has seen it.
        sleep(PAUSE).await;
        let settled = self.is_settled(stage, rooms).await;
        let after = stage.usage();
        let latencies = &world.latencies;
        json!({
            "rate": rate,
            "changes": changes,
            "kept": kept,
            "correct": settled,
            "join": latencies.join.json(),
            "leave": latencies.leave.json(),
            "update": latencies.update.json(),
            "cpu_us_per_change": after.cpu_per(&before, changes),
            "frames_per_change": after.frames_per(&before, changes),
        })
    }

    /// Whether all who are in a room see the same, and those who are present.
    async fn is_settled(&self, stage: &Stage, rooms: &Rooms) -> bool {
        let is_right = |room: usize| {
            let mut clients: Vec<_> = rooms.present[room].borrow().iter().cloned().collect();
            let users = clients.iter().map(|client| client.user).collect();
            clients.extend(rooms.listeners[room].iter().cloned());
            wrong_views(&clients, &users) == 0
        };
        let mut right = 0;
        wait_for(stage.common.timeout, || {
            while right < self.rooms && is_right(right) {
                right += 1;
            }
            right == self.rooms
        })
        .await
    }
}

impl Rooms {
    /// The change of this number: of three, one is a leave, one a join and one an update.
    fn change(self: &Rc<Self>, stage: &Stage, number: usize) -> Option<JoinHandle<()>> {
        let room = number / 3 % self.present.len();
        let (world, common) = (stage.world.clone(), stage.common.clone());
        let mut present = self.present[room].borrow_mut();
        match number % 3 {
            0 => {
                // The first of each room stays.
                // While those who join are late there is nobody else.
                let oldest = present.remove(1)?;
                World::note(&world.left, oldest.user, world.now());
                Some(tokio::task::spawn_local(async move {
                    oldest.leave().await;
                    oldest.connection().close();
                }))
            }
            1 => {
                let user = self.next_user.replace(self.next_user.get() + 1);
                let target = present.len() + 1;
                let newcomer = Client::new(user, room, stage.room(room), Greeting::State, target);
                let rooms = self.clone();
                Some(tokio::task::spawn_local(async move {
                    if newcomer.connect(&world, &common).await {
                        newcomer.join(&world).await;
                        rooms.present[room].borrow_mut().push_back(newcomer);
                    }
                }))
            }
            _ => {
                let first = &present[0];
                World::note(&world.updated, first.user, world.now());
                first.push("u", "update", &format!(r#"{{"n":{number}}}"#));
                None
            }
        }
    }
}
