//! Flags that fall, whether anybody is connected or not.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use super::judge::flag;
use crate::{db::Update, node::Node};

/// How many flags are looked at at once.
const AT_ONCE: u32 = 100;

/// How long after its deadline a flag is looked at, so that it has surely fallen.
const AFTER: Duration = Duration::from_millis(1);

/// When flags are looked at next, in the database's time, and what makes it earlier.
#[derive(Debug, Default)]
pub(crate) struct NextLook {
    at: AtomicI64,
    earlier: Notify,
}

impl NextLook {
    /// A flag falls at this time.
    pub(crate) fn deadline(&self, at: i64) {
        if at < self.at.load(Ordering::Relaxed) {
            self.earlier.notify_one();
        }
    }

    /// There are flags of which nothing is known yet.
    pub(crate) fn now(&self) {
        self.earlier.notify_one();
    }
}

impl Node {
    /// Ends games whose time has run out: sleeps until the next deadline that is known, and looks at least once a sweep.
    pub(crate) async fn watch_flags(&self) {
        let sweep_ms = self.settings.sweep_ms.cast_signed();
        loop {
            // Until the next look is known, each deadline that is set makes for one more.
            self.next_look.at.store(i64::MAX, Ordering::Relaxed);
            let pause_ms = match self.fell_flags().await {
                Ok((now, next)) => {
                    let next = next.unwrap_or(i64::MAX).min(now + sweep_ms);
                    self.next_look.at.store(next, Ordering::Relaxed);
                    next - now
                }
                Err(error) => {
                    tracing::error!(%error, "flags can't be looked at; retrying");
                    sweep_ms
                }
            };
            let pause = Duration::from_millis(pause_ms.max(0).cast_unsigned()) + AFTER;
            tokio::select! {
                () = sleep(pause) => {}
                () = self.next_look.earlier.notified() => {}
            }
        }
    }

    /// Ends the games whose time has run out. Returns the time of the database, and when the next one's does.
    async fn fell_flags(&self) -> Result<(i64, Option<i64>), sqlx::Error> {
        loop {
            let mut due = self.db.due(AT_ONCE).await?;
            // A node that was alone and slept looks at flags before it has said that it is up again.
            if !due.games.is_empty() && self.db.alive(2 * self.settings.sweep_ms.cast_signed()).await? > 0 {
                due = self.db.due(AT_ONCE).await?;
            }
            for game in &due.games {
                self.fell_flag(game).await?;
            }
            if due.games.len() < AT_ONCE as usize {
                return Ok((due.now, due.next));
            }
        }
    }

    /// Ends a game if its time has run out. Of several nodes that try, one does.
    async fn fell_flag(&self, game: &str) -> Result<(), sqlx::Error> {
        let Some(table) = self.db.table(game, &self.cache).await? else { return Ok(()) };
        let Some(fallen) = flag(&table, table.now) else { return Ok(()) };
        if self.db.update(&fallen.table, false).await? == Update::Stored {
            self.changed(&fallen);
        }
        Ok(())
    }
}
