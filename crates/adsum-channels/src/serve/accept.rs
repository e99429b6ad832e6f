//! Accepts connections, up to the limits of the program and the process.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use adsum_pubsub::{
    log::limited,
    metrics::{HighWater, Readings, Source, process, table},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// The pause after an error that affects all connections. It doubles with each one in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A listener, and the state of accepting.
pub(super) struct Acceptance {
    listener: TcpListener,
    places: Arc<Semaphore>,
    counted: Arc<ConnectionCount>,
    pause: Duration,
    paused_until: Option<Instant>,
}

impl Acceptance {
    pub(super) fn new(listener: TcpListener, places: Arc<Semaphore>, counted: Arc<ConnectionCount>) -> Self {
        Self { listener, places, counted, pause: FIRST_PAUSE, paused_until: None }
    }

    /// Waits for the next connection, and its permit. Cancel safe.
    pub(super) async fn next(&mut self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            if let Some(until) = self.paused_until {
                sleep_until(until).await;
                self.paused_until = None;
            }
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    self.pause = FIRST_PAUSE;
                    if let Ok(place) = self.places.clone().try_acquire_owned() {
                        self.counted.note();
                        return (stream, peer, place);
                    }
                    // Closed at once, so that a load balancer tries the next node, and no memory is used.
                    drop(stream);
                    process().add(&table::CONNECTIONS_REFUSED, &[], 1);
                    process().add(&table::LIMITS_HIT, &["max_connections"], 1);
                    limited!(ERROR, "closed a new connection: `max_connections` are open");
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    limited!(
                        ERROR,
                        %error,
                        retry_in = ?self.pause,
                        "can't accept connections; retrying; if too many files are open, raise the limit (ulimit -n)"
                    );
                    self.paused_until = Some(Instant::now() + self.pause);
                    self.pause = (2 * self.pause).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// How many connections of a server are open.
pub(super) struct ConnectionCount {
    places: Arc<Semaphore>,
    max: usize,
    most: HighWater,
}

impl ConnectionCount {
    pub(super) fn new(places: Arc<Semaphore>, max: usize, is_counted: bool) -> Arc<Self> {
        let new = Arc::new(Self { places, max, most: HighWater::new("max_connections", Some(max)) });
        if is_counted {
            let source: Arc<dyn Source> = new.clone();
            process().register(Arc::downgrade(&source));
        }
        new
    }

    fn open(&self) -> usize {
        self.max.saturating_sub(self.places.available_permits())
    }

    fn note(&self) {
        self.most.note(self.open());
    }
}

impl Source for ConnectionCount {
    fn read(&self, readings: &mut Readings) {
        readings.add_count(&table::CONNECTIONS, &[], self.open());
        self.most.read(readings);
    }
}

/// Whether an error affects only one connection, whose client has gone away.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
