use serde_json::{Value, json};

use super::{Stage, millis, users_below};
use crate::world::wait_for;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many users
    #[arg(long, default_value_t = 1000)]
    users: usize,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let (world, n) = (&stage.world, self.users);
        let members = stage.members(0..n, n);
        world.measure();
        let (before, started) = (stage.usage(), world.now());
        stage.join_all(&members).await;
        let complete = wait_for(stage.common.timeout, || world.complete.get() == n).await;
        let after = stage.usage();
        let last = members.iter().map(|member| member.seen.borrow().complete_at).max().unwrap_or(0);
        let correct = complete && stage.verify(&members, &users_below(n));
        let own = json!({
            "users": n,
            "total_ms": millis(started, last),
            "cpu_us_per_join": after.cpu_per(&before, n),
        });
        stage.result("join", correct, (&before, &after), own)
    }
}
