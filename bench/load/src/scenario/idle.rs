use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::Stage;
use crate::{
    client::{Client, Greeting},
    server::rounded,
    world::wait_for,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many connections
    #[arg(long, default_value_t = 9000)]
    users: usize,
    /// In channels without presence
    #[arg(long)]
    plain: bool,
    /// For how many seconds
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let (world, n) = (&stage.world, self.users);
        let clients: Vec<_> = (0..n)
            .map(|user| {
                let (topic, greeting) = if self.plain {
                    (stage.plain(user), Greeting::Reply)
                } else {
                    (stage.room(user), Greeting::State)
                };
                Client::new(user as u32, user, topic, greeting, 1)
            })
            .collect();
        world.measure();
        let before = stage.usage();
        stage.join_all(&clients).await;
        let joined = stage.usage();
        let all = self.plain || wait_for(stage.common.timeout, || world.complete.get() == n).await;
        sleep(Duration::from_secs_f64(self.secs)).await;
        let idle = stage.usage();
        let own = json!({
            "users": n,
            "presence": !self.plain,
            "kb_per_connection": rounded((idle.memory as f64 - before.memory as f64) / n as f64),
            "joins_per_s": (n as f64 / joined.seconds_since(&before)).round(),
            "cpu_us_per_join": joined.cpu_per(&before, n),
            "idle_cpu_us": idle.cpu_per(&joined, 1),
        });
        stage.result("idle", all, (&before, &idle), own)
    }
}
