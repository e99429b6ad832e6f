//! The keys of a topic that were refreshed lately.

use std::{collections::HashMap, time::Duration};

use adsum_tracker::Key;
use tokio::time::Instant;

/// The keys refreshed lately. Old ones are removed whenever the number has doubled, so that noting a key is cheap, and
/// no key is kept much longer than needed. Boxed, as most topics have none.
#[derive(Default)]
pub(crate) struct Refreshed(Option<Box<Keys>>);

struct Keys {
    since: HashMap<Key, Instant>,
    look_at: usize,
}

/// Up to this number of keys, old ones aren't removed.
const FEW: usize = 16;

impl Refreshed {
    /// Notes a key, to be remembered for `memory`.
    pub(crate) fn note(&mut self, key: &Key, now: Instant, memory: Duration) {
        if memory.is_zero() {
            return;
        }
        let keys = self.0.get_or_insert_with(|| Box::new(Keys { since: HashMap::new(), look_at: FEW }));
        keys.since.insert(key.clone(), now);
        if keys.since.len() >= keys.look_at {
            keys.forget(now, memory);
        }
    }

    /// Returns the keys that were noted within `memory`, in no order.
    pub(crate) fn keys(&mut self, now: Instant, memory: Duration) -> impl Iterator<Item = &Key> {
        if let Some(keys) = &mut self.0 {
            keys.forget(now, memory);
            if keys.since.is_empty() {
                self.0 = None;
            }
        }
        self.0.iter().flat_map(|keys| keys.since.keys())
    }
}

impl Keys {
    fn forget(&mut self, now: Instant, memory: Duration) {
        self.since.retain(|_, at| now.duration_since(*at) < memory);
        self.look_at = FEW.max(2 * self.since.len());
        self.since.shrink_to(self.look_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_for_their_time_and_memory_follows() {
        let (start, memory) = (Instant::now(), Duration::from_secs(5));
        let mut refreshed = Refreshed::default();
        for n in 0..10_000_u32 {
            let now = start + Duration::from_millis(n.into());
            refreshed.note(&Key::from(format!("{}", n % 9000)), now, memory);
        }
        let kept = refreshed.0.as_ref().expect("some are new").since.len();
        assert!(kept <= 10_000, "those of the last 5 s, and as many again: {kept}");
        let end = start + Duration::from_millis(9_999);
        let mut keys: Vec<u32> = refreshed.keys(end, memory).map(|key| key.parse().unwrap()).collect();
        keys.sort_unstable();
        assert!(keys.into_iter().eq((0..1000).chain(5000..9000)));

        assert_eq!(refreshed.keys(end + memory, memory).count(), 0);
        assert!(refreshed.0.is_none());
        refreshed.note(&Key::from("1"), end, Duration::ZERO);
        assert!(refreshed.0.is_none(), "nothing is to be remembered");
    }
}
