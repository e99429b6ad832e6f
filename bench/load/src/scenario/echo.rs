use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::Stage;
use crate::{
    client::{Client, Greeting},
    world::wait_for,
};

const WARM_UP: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many connections
    #[arg(long, default_value_t = 50)]
    users: usize,
    /// How many events of each are under way
    #[arg(long, default_value_t = 16)]
    depth: usize,
    /// For how many seconds
    #[arg(long, default_value_t = 10.0)]
    secs: f64,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let (world, n) = (&stage.world, self.users);
        let clients: Vec<_> =
            (0..n).map(|user| Client::new(user as u32, 0, stage.plain(user), Greeting::Reply, 0)).collect();
        stage.join_all(&clients).await;
        for client in &clients {
            client.start_echoes(world, self.depth);
        }
        sleep(WARM_UP).await;
        world.measure();
        let (before, first) = (stage.usage(), world.replies.get());
        sleep(Duration::from_secs_f64(self.secs)).await;
        let (after, last) = (stage.usage(), world.replies.get());
        world.measuring.set(false);
        world.stopped.set(true);
        // Those under way come still: all are answered.
        let all_answered =
            wait_for(stage.common.timeout, || clients.iter().all(|client| client.echoes_under_way() == 0))
                .await;
        let replies = last - first;
        let own = json!({
            "users": n,
            "depth": self.depth,
            "replies_per_s": (replies as f64 / after.seconds_since(&before)).round(),
            "cpu_us_per_reply": after.cpu_per(&before, replies as usize),
        });
        stage.result("echo", all_answered && replies > 0, (&before, &after), own)
    }
}
