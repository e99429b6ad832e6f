use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Schedule, Stage};
use crate::{
    client::{Client, Greeting},
    world::wait_for,
};

/// Of so many clients, one notes when each broadcast came.
const SAMPLE: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many members
    #[arg(long, default_value_t = 1000)]
    users: usize,
    /// Broadcasts a second; 0: as many as go, with `window` of them under way
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// How many broadcasts may be under way that not all have
    #[arg(long, default_value_t = 16)]
    window: usize,
    /// For how many seconds
    #[arg(long, default_value_t = 10.0)]
    secs: f64,
    /// The bytes of a string in the payload
    #[arg(long, default_value_t = 64)]
    size: usize,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let (world, n) = (&stage.world, self.users);
        let members: Vec<_> = (0..n)
            .map(|user| {
                let member = Client::new(user as u32, 0, stage.plain(0), Greeting::Reply, 0);
                member.sampled.set(user % SAMPLE == 0);
                member
            })
            .collect();
        stage.join_all(&members).await;
        world.listeners.set(n);
        world.measure();
        let text = words(self.size);
        let mut sent = 0;
        let mut shout = || {
            members[0].shout(world, &format!(r#"{{"n":{sent},"text":"{text}"}}"#));
            sent += 1;
            sent
        };
        let before = stage.usage();
        if self.rate > 0.0 {
            let schedule = Schedule::start(self.rate);
            for n in 0..(self.rate * self.secs) as usize {
                schedule.due(n).await;
                shout();
            }
        } else {
            let end = Instant::now() + Duration::from_secs_f64(self.secs);
            let (mut sent, mut done) = (0, 0);
            while Instant::now() < end {
                while done < sent && world.shouts.borrow().has_heard(done) == n {
                    done += 1;
                }
                if sent < done + self.window {
                    sent = shout();
                } else if tokio::time::timeout_at(end, world.all_heard.notified()).await.is_err() {
                    break;
                }
            }
        }
        let expected = (sent * n) as u64;
        let heard = wait_for(stage.common.timeout, || world.deliveries.get() >= expected).await;
        let after = stage.usage();
        let deliveries = world.deliveries.get();
        let own = json!({
            "users": n,
            "rate": self.rate,
            "window": self.window,
            "broadcasts": sent,
            "deliveries_per_s": (deliveries as f64 / after.seconds_since(&before)).round(),
            "cpu_us_per_delivery": after.cpu_per(&before, deliveries as usize),
        });
        stage.result("broadcast", heard && deliveries == expected, (&before, &after), own)
    }
}

/// Text of this many bytes, which can be compressed as much as what people say.
fn words(size: usize) -> String {
    const WORDS: [&str; 16] = [
        "the", "people", "of", "this", "room", "hear", "what", "is", "said", "to", "all", "and", "nobody",
        "else", "at", "once",
    ];
    let mut text = String::with_capacity(size + 8);
    for n in (0_usize..).take_while(|n| *n < size) {
        text.push_str(WORDS[n * n * 7 / 5 % WORDS.len()]);
        text.push(' ');
    }
    text.truncate(size);
    text
}
