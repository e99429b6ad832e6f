//! A room that asks for more than the server can send, and clients that echo meanwhile.

use std::{rc::Rc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{
    client::{Client, Greeting},
    scenario::{Schedule, Stage},
};

/// How many of the hot room are present, and update their metas one after the other.
pub(super) const PRESENT: usize = 10;
/// How many clients ask for an echo, and how often.
const ECHOES: usize = 5;
const PERIOD: Duration = Duration::from_millis(50);

/// Its tasks end with it.
pub(super) struct Hot(Vec<JoinHandle<()>>);

impl Hot {
    /// Has the present members of the room update their metas at a rate, and other clients echo.
    pub(super) async fn start(stage: &Stage, present: Vec<Rc<Client>>, first_user: u32, rate: f64) -> Self {
        let updates = tokio::task::spawn_local(async move {
            let schedule = Schedule::start(rate);
            for n in 0.. {
                schedule.due(n).await;
                present[n % present.len()].push("u", "update", &format!(r#"{{"n":{n}}}"#));
            }
        });
        let plain = |n: usize| Client::new(first_user + n as u32, 0, stage.plain(n), Greeting::Reply, 0);
        let echoing: Vec<_> = (0..ECHOES).map(plain).collect();
        stage.join_all(&echoing).await;
        // Each echo is asked for by itself.
        stage.world.stopped.set(true);
        let world = stage.world.clone();
        let echoes = tokio::task::spawn_local(async move {
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                for client in echoing.iter().filter(|client| client.echoes_under_way() == 0) {
                    client.start_echoes(&world, 1);
                }
            }
        });
        Self(vec![updates, echoes])
    }
}

impl Drop for Hot {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
