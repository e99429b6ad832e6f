//! A job runner without sockets: each job is present while it runs, with its progress, and whoever watches hears how it
//! ends.

use std::time::Duration;

use adsum::{Change, LeaveReason, NoFetch, Owner, Presence, PubSub};
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
    let presence = Presence::builder(PubSub::local()).meta::<Progress>().start();
    let mut watch = presence.watch("jobs");
    let _nobody = watch.next().await;
    let mut jobs = JoinSet::new();
    for name in ["backup", "report"] {
        jobs.spawn(job(presence.owner(), name));
    }
    while presence.count("jobs") > 0 || !jobs.is_empty() {
        tokio::select! {
            change = watch.next() => if let Some(Change::Diff(diff)) = change { tell(&diff) },
            // A panic is in its result; here the watch tells of it.
            Some(_) = jobs.join_next() => {}
        }
    }
    while let Ok(Some(Change::Diff(diff))) = tokio::time::timeout(Duration::from_secs(1), watch.next()).await
    {
        tell(&diff);
    }
}

fn tell(diff: &adsum::TopicDiff<Jobs>) {
    for (name, job) in &diff.joins {
        for progress in job.metas() {
            println!("{name}: {} %", progress.percent);
        }
    }
    for (name, job) in &diff.leaves {
        match job.metas[0].reason {
            Some(LeaveReason::Finished) => println!("{name}: done"),
            Some(reason) => println!("{name}: failed ({reason})"),
            None => {} // an update
        }
    }
}
