use serde_json::{Value, json};

use super::{Schedule, Stage, users_below};
use crate::world::wait_for;

/// How many members are present, and update their metas one after the other. The others listen.
const PRESENT: usize = 10;
/// How many listeners are present at a time, on their way in.
const ENTERING: usize = 500;

/// A second process measures the rooms beside this one. Run it at a higher priority (`chrt -f 10` for this, `chrt -f 20` for
/// the other), since reading the hot room's messages takes a thread's time too.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many members the room has
    #[arg(long, default_value_t = 2000)]
    users: usize,
    /// How many updates a second it asks for
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// For how many seconds
    #[arg(long, default_value_t = 15.0)]
    secs: f64,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let members = stage.members(0..self.users.max(PRESENT), PRESENT);
        let (present, listeners) = members.split_at(PRESENT);
        for entering in listeners.chunks(ENTERING) {
            stage.join_all(entering).await;
            for listener in entering {
                listener.push("t", "untrack", "{}");
            }
            wait_for(stage.common.timeout, || entering.iter().all(|listener| listener.sees() == 0)).await;
        }
        stage.join_all(present).await;
        stage.world.measure();
        let before = stage.usage();
        let schedule = Schedule::start(self.rate);
        let updates = (self.rate * self.secs) as usize;
        for n in 0..updates {
            schedule.due(n).await;
            present[n % PRESENT].push("u", "update", &format!(r#"{{"n":{n}}}"#));
        }
        let after = stage.usage();
        let users = users_below(PRESENT);
        let settled = wait_for(stage.common.timeout, || super::wrong_views(&members, &users) == 0).await;
        let own = json!({
            "users": self.users,
            "updates": updates,
            "frames_per_update": after.frames_per(&before, updates),
        });
        stage.result("hot", settled, (&before, &after), own)
    }
}
