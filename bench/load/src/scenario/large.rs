use serde::Deserialize;
use serde_json::{Value, json};

use super::Stage;
use crate::{
    client::{Client, Greeting},
    world::wait_for,
};

/// The topic of `large_server` that is counted.
const TOPIC: &str = "large:main";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many clients see the counts
    #[arg(long, default_value_t = 1000)]
    users: usize,
    /// Changes a second: for half of the time users come, for the other half they go
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// For how many seconds
    #[arg(long, default_value_t = 10)]
    secs: u32,
}

/// The report of `large_server` once its changes are over.
#[derive(Deserialize)]
struct Report {
    presences: u64,
    peak: u64,
    changes: usize,
    /// Microseconds, of a page of 100.
    page_us: Value,
    late_us: u64,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let world = &stage.world;
        let clients: Vec<_> = (0..self.users)
            .map(|user| Client::new(user as u32, 0, TOPIC.to_owned(), Greeting::Count, 0))
            .collect();
        stage.join_all(&clients).await;
        world.measure();
        let before = stage.usage();
        let started = world.now();
        let asked = json!({"rate": self.rate, "secs": self.secs}).to_string();
        let answer = clients[0].ask("run", &asked).await;
        let after = stage.usage();
        let Ok(report) = serde_json::from_str::<Report>(&answer) else {
            world.error(format!("large_server says {answer}"));
            return stage.result("large", false, (&before, &after), json!({}));
        };
        let settled = wait_for(stage.common.timeout, || {
            clients
                .iter()
                .all(|client| client.counts.borrow().last().is_some_and(|&(_, n)| n == report.presences))
        })
        .await;
        let mut counts = 0;
        for client in &clients {
            for &(at, count) in client.counts.borrow().iter().filter(|(at, _)| *at > started) {
                counts += 1;
                if let Some(age) = self.age(&report, count, at - started) {
                    world.latencies.count.record(age);
                }
                if count < report.presences || count > report.peak {
                    world.error(format!("{count} were counted, of {} to {}", report.presences, report.peak));
                }
            }
        }
        let own = json!({
            "users": self.users,
            "rate": self.rate,
            "presences": report.presences,
            "counts_per_client": counts / self.users.max(1),
            "page_us": report.page_us,
            "schedule_late_us": report.late_us,
            "cpu_us_per_change": after.cpu_per(&before, report.changes),
        });
        stage.result("large", settled && counts > 0, (&before, &after), own)
    }

    /// How long ago a count that came at this time, in nanoseconds of the run, was the right one. A count on the
    /// way up is seen again on the way down: the later of both that has been counts.
    fn age(&self, report: &Report, count: u64, at: u64) -> Option<u64> {
        let step = 1_000_000_000 / u64::from(self.rate);
        let up = count.checked_sub(report.presences)? * step;
        let down = u64::from(self.secs) * 1_000_000_000 - up;
        [down, up].into_iter().find_map(|since| at.checked_sub(since))
    }
}
