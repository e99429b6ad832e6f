//! Accepts connections, up to the limit of the program and that of the process.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use crate::log::limited;

/// The pause after an error that hits every connection. It doubles with each in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A listener, and how accepting goes.
pub(super) struct Acceptance {
    listener: TcpListener,
    places: Arc<Semaphore>,
    pause: Duration,
    paused_until: Option<Instant>,
}

impl Acceptance {
    pub(super) fn new(listener: TcpListener, places: Arc<Semaphore>) -> Self {
        Self { listener, places, pause: FIRST_PAUSE, paused_until: None }
    }

    /// The next connection, and its place among the open ones. Cancel safe.
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
                        return (stream, peer, place);
                    }
                    // Closed at once: a balancer asks the next node, and no memory is held.
                    drop(stream);
                    metrics::counter!("adsum_connections_refused_total").increment(1);
                    limited!(ERROR, "closed a new connection, since `max_connections` are open");
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    limited!(
                        ERROR,
                        %error,
                        retry_in = ?self.pause,
                        "can't accept connections; if too many files are open, raise their limit (ulimit -n)"
                    );
                    self.paused_until = Some(Instant::now() + self.pause);
                    self.pause = (2 * self.pause).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// Whether only this client is concerned: it has gone away again.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
