use std::{rc::Rc, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Schedule, Stage, users_below};
use crate::{
    client::Client,
    world::{World, add, wait_for},
};

/// A user's updates must be seen before its next one is sent, or their times would be mixed up.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many users are in the room
    #[arg(long, default_value_t = 300)]
    users: usize,
    /// How many of them stop reading
    #[arg(long, default_value_t = 30)]
    slow: usize,
    /// Updates a second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// The bytes of a string in the meta. All updates together must be more than the kernel and the server hold for a
    /// socket, 9 MB as a rule, and each user's is to be seen before its next one
    #[arg(long, default_value_t = 7500)]
    size: usize,
    /// For how many seconds some don't read; while all do, it is half of that
    #[arg(long, default_value_t = 20.0)]
    secs: f64,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let (world, n) = (&stage.world, self.users);
        let members = stage.members(0..n, n);
        let (slow, quick) = members.split_at(self.slow);
        for member in slow {
            member.sampled.set(false);
            member.modest.set(true);
        }
        stage.join_all(&members).await;
        let full = wait_for(stage.common.timeout, || world.complete.get() == n).await;

        world.measure();
        let before = stage.usage();
        let (_, all_seen) = self.update(stage, quick, self.secs / 2.0).await;
        let without = world.latencies.join.json();
        let undisturbed = stage.usage();

        for member in slow {
            member.connection().pause();
        }
        world.measure();
        let (memory, seen) = self.update(stage, quick, self.secs).await;
        let after = stage.usage();
        world.measuring.set(false);
        let right_meanwhile = stage.verify(quick, &users_below(n));
        let early = world.resyncs.get();
        for member in slow {
            member.connection().resume();
        }
        // One after the other has a view that is the others', to the refs.
        let caught_up = wait_for(stage.common.timeout, || {
            let right = &quick[0].seen.borrow().view;
            slow.iter().all(|member| member.seen.borrow().view == *right)
        })
        .await;
        let right = stage.verify(&members, &users_below(n));
        let resyncs = world.resyncs.get() - early;
        if resyncs == 0 {
            world.error("nobody was too slow: more must be sent for this to test anything");
        }
        let updates = (self.rate * self.secs) as usize;
        let own = json!({
            "users": n,
            "slow": self.slow,
            "rate": self.rate,
            "join_seen_us_without": without,
            "states_sent_again": resyncs,
            "memory_kb_before": undisturbed.memory,
            "memory_kb_most": memory,
            "cpu_us_per_update_without": undisturbed.cpu_per(&before, updates / 2),
            "cpu_us_per_update": after.cpu_per(&undisturbed, updates),
        });
        let correct = full && all_seen && seen && right_meanwhile && caught_up && right;
        stage.result("slow", correct, (&undisturbed, &after), own)
    }

    /// The most memory that the server had meanwhile, and whether all who read have seen all.
    async fn update(&self, stage: &Stage, quick: &[Rc<Client>], secs: f64) -> (u64, bool) {
        let world = &stage.world;
        let text = noise(self.size);
        let updates = (self.rate * secs) as usize;
        let schedule = Schedule::start(self.rate);
        let mut memory = 0;
        for i in 0..updates {
            schedule.due(i).await;
            let member = &quick[i % quick.len()];
            World::note(&world.joined, member.user, world.now());
            member.push("u", "update", &format!(r#"{{"n":{i},"text":"{text}"}}"#));
            if i % 10 == 0 {
                memory = memory.max(stage.usage().memory);
            }
        }
        let expected = (updates * (quick.len() - 1)) as u64;
        let seen = wait_for(stage.common.timeout, || world.latencies.join.len() >= expected).await;
        sleep(SETTLE).await;
        add(&world.errors, u64::from(world.latencies.join.len() != expected));
        (memory.max(stage.usage().memory), seen)
    }
}

/// Random letters: text that compression makes small would not wait.
fn noise(size: usize) -> String {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let letters = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        char::from(b'a' + (random >> 32) as u8 % 26)
    });
    letters.take(size).collect()
}
