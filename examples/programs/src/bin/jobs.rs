//! A job runner without sockets: each job is present while it runs, with its progress, and whoever watches hears how it
//! ends.

use std::time::Duration;

use adsum::{Change, LeaveReason, NoFetch, Owner, Presence, PresenceChange, PubSub, TopicDiff};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::sleep};

#[derive(Serialize, Deserialize)]
struct Progress {
    percent: u8,
}

type Jobs = NoFetch<Progress>;

async fn job(mut owner: Owner<Jobs>, name: &'static str) {
    owner.track("jobs", name, Progress { percent: 0 }).expect("a name is short");
    for percent in [25, 50, 75] {
        sleep(Duration::from_millis(20)).await; // the work
        assert!(name != "backup" || percent < 75, "the disk is full");
        owner.update("jobs", name, Progress { percent }).expect("it is tracked");
    }
    owner.finish();
}

#[tokio::main]
async fn main() {
    // The watch sees each change, also those of a job that is over at once.
    let presence =
        Presence::builder(PubSub::local()).meta::<Progress>().diff_interval(Duration::ZERO).start();
    let mut watch = presence.watch("jobs");
    let _nobody = watch.next().await;
    // A panic is in its task's result; here the watch tells of it.
    let mut jobs = JoinSet::new();
    for name in ["backup", "report"] {
        jobs.spawn(job(presence.owner(), name));
    }
    let mut running = jobs.len();
    while running > 0
        && let Some(Change::Diff(diff)) = watch.next().await
    {
        running -= tell(&diff);
    }
}

/// Returns how many jobs have ended.
fn tell(diff: &TopicDiff<Jobs>) -> usize {
    let mut ended = 0;
    for change in diff.changes() {
        match change {
            PresenceChange::Joined { key, meta, .. } | PresenceChange::Updated { key, to: meta, .. } => {
                println!("{key}: {} %", meta.meta.percent);
            }
            PresenceChange::Left { key, reason, .. } => {
                ended += 1;
                match reason {
                    LeaveReason::Finished => println!("{key}: done"),
                    _ => println!("{key}: failed ({reason})"),
                }
            }
            _ => {}
        }
    }
    ended
}
