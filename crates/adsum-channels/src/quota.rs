//! Limits on the number of sockets: in total, per address, and per key of the program.

use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::Arc};

use adsum_pubsub::{
    log::limited,
    metrics::{HighWater, Metrics, Readings, Source},
};
use parking_lot::Mutex;

use crate::{address, options::Options, refusal::SocketLimit};

/// Counts the sockets of a router.
pub(crate) struct Quota {
    counts: Arc<Mutex<Counts>>,
    most: Arc<Most>,
}

/// The most that there have been.
struct Most {
    sockets: HighWater,
    longpolls: HighWater,
    of_address: HighWater,
    of_key: HighWater,
}

impl Source for Most {
    fn read(&self, readings: &mut Readings) {
        for most in [&self.sockets, &self.longpolls, &self.of_address, &self.of_key] {
            most.read(readings);
        }
    }
}

#[derive(Default)]
struct Counts {
    sockets: usize,
    longpolls: usize,
    by_address: HashMap<IpAddr, usize>,
    by_key: HashMap<Arc<str>, usize>,
}

/// Counts one socket until it is dropped.
pub(crate) struct Counted {
    counts: Arc<Mutex<Counts>>,
    is_longpoll: bool,
    address: Option<IpAddr>,
    key: Option<Arc<str>>,
}

impl Quota {
    pub(crate) fn new(options: &Options, metrics: &Metrics) -> Self {
        let most = Arc::new(Most {
            sockets: HighWater::new(SocketLimit::Sockets.option(), Some(options.max_sockets)),
            longpolls: HighWater::new(
                SocketLimit::LongPollSessions.option(),
                Some(options.max_longpoll_sessions),
            ),
            of_address: HighWater::new(SocketLimit::Address.option(), options.max_sockets_per_address),
            of_key: HighWater::new(SocketLimit::Key.option(), options.max_sockets_per_key),
        });
        let source: Arc<dyn Source> = most.clone();
        metrics.register(Arc::downgrade(&source));
        Self { counts: Arc::default(), most }
    }

    /// Counts a socket that a client is about to open. The client's address may be unknown.
    pub(crate) fn enter(
        &self,
        options: &Options,
        client: Option<IpAddr>,
        is_longpoll: bool,
    ) -> Result<Counted, SocketLimit> {
        let address = client.map(address::counted);
        let mut counts = self.counts.lock();
        let of_address = if counts.sockets >= options.max_sockets {
            Err(SocketLimit::Sockets)
        } else if is_longpoll && counts.longpolls >= options.max_longpoll_sessions {
            Err(SocketLimit::LongPollSessions)
        } else {
            let of_address = add(&mut counts.by_address, address, options.max_sockets_per_address);
            of_address.ok_or(SocketLimit::Address)
        };
        let of_address = match of_address {
            Ok(of_address) => of_address,
            Err(limit) => {
                drop(counts);
                Self::log(limit, client);
                return Err(limit);
            }
        };
        counts.sockets += 1;
        counts.longpolls += usize::from(is_longpoll);
        let (sockets, longpolls) = (counts.sockets, counts.longpolls);
        drop(counts);
        // Without the lock, since they may write to the log.
        self.most.sockets.note(sockets);
        self.most.longpolls.note(longpolls);
        self.most.of_address.note(of_address);
        Ok(Counted { counts: self.counts.clone(), is_longpoll, address, key: None })
    }

    /// Also counts a socket under a key.
    pub(crate) fn enter_as(
        &self,
        options: &Options,
        client: Option<IpAddr>,
        mut counted: Counted,
        key: &Arc<str>,
    ) -> Result<Counted, SocketLimit> {
        let of_key = add(&mut self.counts.lock().by_key, Some(key.clone()), options.max_sockets_per_key);
        let Some(of_key) = of_key else {
            Self::log(SocketLimit::Key, client);
            return Err(SocketLimit::Key);
        };
        self.most.of_key.note(of_key);
        counted.key = Some(key.clone());
        Ok(counted)
    }

    fn log(limit: SocketLimit, client: Option<IpAddr>) {
        let hint = match client {
            Some(client) if limit == SocketLimit::Address && address::is_private(client) => {
                "; if this is a proxy, add it to `SocketBuilder::trusted_proxies`"
            }
            _ => "",
        };
        let client = client.map(tracing::field::display);
        limited!(WARN, client, option = limit.option(), "refused a socket: {limit}{hint}");
    }
}

/// Increments a count and returns it, if that stays within the limit.
fn add<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: Option<K>, limit: Option<usize>) -> Option<usize> {
    let Some(key) = key else { return Some(0) };
    let count = counts.entry(key).or_default();
    if limit.is_some_and(|limit| *count >= limit) {
        return None;
    }
    *count += 1;
    Some(*count)
}

fn take<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        counts.sockets -= 1;
        counts.longpolls -= usize::from(self.is_longpoll);
        if let Some(address) = &self.address {
            take(&mut counts.by_address, address);
        }
        if let Some(key) = &self.key {
            take(&mut counts.by_key, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_socket_is_counted_no_more_and_nothing_is_kept_of_it() {
        let options = Options { max_sockets_per_key: Some(1), ..Options::default() };
        let quota = Quota::new(&options, &Metrics::new());
        let client = Some("192.0.2.1".parse().expect("an address"));
        let key: Arc<str> = "7".into();
        let open = || {
            let counted = quota.enter(&options, client, true)?;
            quota.enter_as(&options, client, counted, &key)
        };
        let Ok(one) = open() else { panic!("there is room") };
        assert_eq!(open().err(), Some(SocketLimit::Key));
        drop(one);
        let two = open();
        assert!(two.is_ok());
        drop(two);
        let counts = quota.counts.lock();
        assert_eq!((counts.sockets, counts.longpolls), (0, 0));
        assert!(counts.by_address.is_empty() && counts.by_key.is_empty());
    }
}
