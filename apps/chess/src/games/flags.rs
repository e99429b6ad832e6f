//! Flags that fall, whether anybody is connected or not.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::judge::flag;
use crate::{db::Update, node::Node};

/// How many flags are looked at at once.
const AT_ONCE: u32 = 100;

/// How long after its deadline a flag is looked at, so that it has surely fallen.
const AFTER: Duration = Duration::from_millis(1);

impl Node {
    /// Ends games whose time has run out: sleeps until the next deadline that is known, and looks at least once a sweep.
    pub(crate) async fn watch_flags(&self) {
        loop {
            let sweep = self.settings.sweep_interval();
            let pause = match self.fell_flags().await {
                Ok(next) => next.map_or(sweep, |next| sweep.min(next + AFTER)),
                Err(error) => {
                    tracing::error!(%error, "flags can't be looked at; retrying");
                    sweep
                }
            };
            let until = Instant::now() + pause;
            tokio::select! {
                () = sleep(pause) => {}
                // A move or a new game may have set an earlier deadline.
                () = self.earlier.notified() => {
                    // Together with what else happens in this moment.
                    sleep(AFTER.min(until.saturating_duration_since(Instant::now()))).await;
                }
            }
        }
    }

    /// Ends the games whose time has run out. Returns in how long the next one's does.
    async fn fell_flags(&self) -> Result<Option<Duration>, sqlx::Error> {
        loop {
            let (due, next) = self.db.due(AT_ONCE).await?;
            for game in &due {
                self.fell_flag(game).await?;
            }
            if due.len() < AT_ONCE as usize {
                return Ok(next.map(|next| Duration::from_millis(next.max(0).cast_unsigned())));
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
