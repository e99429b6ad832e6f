use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

use super::Stage;
use crate::server::Usage;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Be the other end: listen here, say where, and read what comes
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// How many connections
    #[arg(long, default_value_t = 500)]
    users: usize,
    /// The bytes of a write
    #[arg(long, default_value_t = 700)]
    size: usize,
    /// Milliseconds between one write to each connection and the next
    #[arg(long, default_value_t = 50)]
    interval: u64,
    /// For how many seconds
    #[arg(long, default_value_t = 10.0)]
    secs: f64,
}

impl Options {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let done = match self.listen {
            Some(addr) => read(addr).await,
            None => self.write(stage).await,
        };
        done.unwrap_or_else(|error| {
            stage.world.error(error);
            json!({"scenario": "write-floor", "correct": false})
        })
    }

    async fn write(&self, stage: &Stage) -> std::io::Result<Value> {
        let mut connections = Vec::with_capacity(self.users);
        for _ in 0..self.users {
            let connection = TcpStream::connect(stage.common.addr).await?;
            connection.set_nodelay(true)?;
            connections.push(connection);
        }
        let bytes = vec![b'x'; self.size];
        let turns = (self.secs * 1000.0) as u64 / self.interval;
        let (mut written, mut writes) = (0, 0);
        // Nothing is written here but this, so the process is its own server.
        let usage = || Usage::now(&stage.world, &[std::process::id()]);
        let (before, started) = (usage(), Instant::now());
        for turn in 0..turns {
            sleep_until(started + Duration::from_millis(self.interval * turn)).await;
            for connection in &connections {
                written += connection.try_write(&bytes)?;
                writes += 1;
            }
        }
        let after = usage();
        let own = json!({
            "users": self.users,
            "size": self.size,
            "writes": writes,
            "cpu_us_per_write": after.cpu_per(&before, writes),
        });
        Ok(stage.result("write-floor", written == writes * self.size, (&before, &after), own))
    }
}

/// Reads from whoever connects, until the process is ended.
async fn read(addr: SocketAddr) -> std::io::Result<Value> {
    let listener = TcpListener::bind(addr).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (mut connection, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            let mut buffer = vec![0; 4096];
            while connection.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        });
    }
}
