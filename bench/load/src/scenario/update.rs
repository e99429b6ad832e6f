use serde_json::{Value, json};

use super::{Schedule, Stage, users_below};
use crate::world::{World, wait_for};

/// How many listeners are present at a time, on their way in: a room of thousands would be a state of each.
const ENTERING: usize = 500;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many users are in the room
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// How many of them are present; the others untrack themselves, and listen. All, if it isn't said
    #[arg(long)]
    present: Option<usize>,
    /// Updates a second, of one user after the other
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// For how many seconds
    #[arg(long, default_value_t = 10.0)]
    secs: f64,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let (world, n) = (&stage.world, self.users);
        let present = self.present.unwrap_or(n).min(n);
        let all = stage.members(0..n, present);
        let (members, listeners) = all.split_at(present);
        for entering in listeners.chunks(ENTERING) {
            stage.join_all(entering).await;
            for listener in entering {
                listener.push("t", "untrack", "{}");
            }
            wait_for(stage.common.timeout, || entering.iter().all(|listener| listener.sees() == 0)).await;
        }
        stage.join_all(members).await;
        let full = wait_for(stage.common.timeout, || all.iter().all(|client| client.sees() == present)).await;
        world.measure();
        let updates = (self.rate * self.secs) as usize;
        let before = stage.usage();
        let schedule = Schedule::start(self.rate);
        for i in 0..updates {
            schedule.due(i).await;
            let member = &members[i % present];
            // It is seen as a join of the same user.
            World::note(&world.joined, member.user, world.now());
            member.push("u", "update", &format!(r#"{{"n":{i}}}"#));
        }
        let expected = (updates * (n - 1)) as u64;
        let seen = wait_for(stage.common.timeout, || world.latencies.join.len() >= expected).await;
        let after = stage.usage();
        let correct = full
            && seen
            && world.latencies.join.len() == expected
            && stage.verify(&all, &users_below(present));
        let own = json!({
            "users": n,
            "present": present,
            "rate": self.rate,
            "updates": updates,
            "cpu_us_per_update": after.cpu_per(&before, updates),
            "frames_per_event": after.frames_per(&before, updates),
        });
        stage.result("update", correct, (&before, &after), own)
    }
}
