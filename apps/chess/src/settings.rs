//! The options of a site. Every time is in milliseconds and every number has a default; tests shorten the times.

use std::{ops::RangeInclusive, time::Duration};

use adsum::{InvalidProxy, TrustedProxies};
use clap::Args;

use crate::{games::ClaimTimes, limits::Rate};

/// The longest of any time, a day.
const MAX_MS: u64 = 86_400_000;
const MS: RangeInclusive<u64> = 1..=MAX_MS;
const MS_OR_NONE: RangeInclusive<u64> = 0..=MAX_MS;

/// The times and limits of a site.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_field_names, reason = "a unit belongs to a time")]
pub struct Settings {
    /// For how many days a browser stays signed in that doesn't come back.
    #[arg(long, env = "SESSION_DAYS", default_value_t = 180, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub session_days: u32,

    /// How long a tab whose connection is gone is shown as before, so that nobody sees a reload. Below 1,000 a busy node
    /// can miss that a page said goodbye: changes gather for up to a second, and of a tab that changed and left within that
    /// time only the leave is told.
    #[arg(long, env = "LINGER_MS", default_value_t = 2_000, value_parser = ms(MS_OR_NONE))]
    pub linger_ms: u64,

    /// After how much silence a connection is asked whether it is there.
    #[arg(long, env = "PING_MS", default_value_t = 4_000, value_parser = ms(MS))]
    pub ping_ms: u64,

    /// How long it has to answer until it counts as lost.
    #[arg(long, env = "PONG_MS", default_value_t = 4_000, value_parser = ms(MS))]
    pub pong_ms: u64,

    /// How long a player has to be without connection until the other may claim the game.
    #[arg(long, env = "CLAIM_MS", default_value_t = 60_000, value_parser = ms(MS_OR_NONE))]
    pub claim_ms: u64,

    /// The same, of a player whose page was closed.
    #[arg(long, env = "CLAIM_BYE_MS", default_value_t = 10_000, value_parser = ms(MS_OR_NONE))]
    pub claim_bye_ms: u64,

    /// Compresses messages for browsers whose payload has more than this many bytes; 0 for none.
    #[arg(long, env = "COMPRESS_OVER", default_value_t = 0)]
    pub compress_over: usize,

    /// How long an invite stays open.
    #[arg(long, env = "INVITE_MS", default_value_t = 60_000, value_parser = ms(MS))]
    pub invite_ms: u64,

    /// The least time between two lists of seeks, of games, or of a game's spectators.
    #[arg(long, env = "LIST_MS", default_value_t = 500, value_parser = ms(MS))]
    pub list_ms: u64,

    /// How often the node says that it is up, and looks for flags, offers and players that were missed.
    #[arg(long, env = "SWEEP_MS", default_value_t = 5_000, value_parser = ms(MS))]
    pub sweep_ms: u64,

    /// How often a node that has others compares what it has told its clients with the database, in case a message from
    /// another node was lost.
    #[arg(long, env = "SYNC_MS", default_value_t = 2_000, value_parser = ms(MS))]
    pub sync_ms: u64,

    /// Whether bots wait in the lobby.
    #[arg(long, env = "BOTS", default_value_t = true, action = clap::ArgAction::Set)]
    pub bots: bool,

    /// How long a bot takes for a move at least; it takes up to three times as long.
    #[arg(long, env = "BOT_MS", default_value_t = 500, value_parser = ms(MS_OR_NONE))]
    pub bot_ms: u64,

    /// How many bots may think at once; each takes a core. 0: half of the cores.
    #[arg(long, env = "BOTS_THINKING", default_value_t = 0)]
    pub bots_thinking: usize,

    /// How many names may be chosen a minute from one address. 0: any number.
    #[arg(long, env = "MAX_NAMES", default_value_t = 10)]
    pub max_names: u32,

    /// How many attempts to sign in with a password a minute there may be for one name. 0: any number.
    #[arg(long, env = "MAX_ATTEMPTS", default_value_t = 5)]
    pub max_attempts: u32,

    /// The same from one address, for whatever names.
    #[arg(long, env = "MAX_ATTEMPTS_FROM", default_value_t = 20)]
    pub max_attempts_from: u32,

    /// How many passwords are hashed at once; each takes a core and 19 MiB. 0: half of the cores.
    #[arg(long, env = "HASHERS", default_value_t = 0)]
    pub hashers: usize,

    /// How many seeks and invites a person may make, take or answer a minute. 0: any number.
    #[arg(long, env = "MAX_OFFERS", default_value_t = 30)]
    pub max_offers: u32,

    /// How many moves and other commands a person may send a minute. 0: any number.
    #[arg(long, env = "MAX_COMMANDS", default_value_t = 300)]
    pub max_commands: u32,

    /// Proxies that are believed what they say of the addresses of their clients: addresses and networks, such as
    /// `127.0.0.1,10.0.0.0/8`. Limits by address count by that address. Each node counts for itself.
    #[arg(long, env = "TRUSTED_PROXIES", value_delimiter = ',', value_parser = proxy)]
    pub trusted_proxies: Vec<String>,

    /// How long the site goes on once it is told to stop, while `/health/ready` says no already: as long as a balancer takes
    /// to notice.
    #[arg(long, env = "DRAIN_DELAY_MS", default_value_t = 0, value_parser = ms(MS_OR_NONE))]
    pub drain_delay_ms: u64,

    /// How many sockets a person may have open at once.
    #[arg(long, env = "MAX_SOCKETS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sockets: u32,
}

fn ms(range: RangeInclusive<u64>) -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(range)
}

fn proxy(text: &str) -> Result<String, InvalidProxy> {
    let text = text.trim();
    text.parse::<TrustedProxies>().map(|_| text.to_owned())
}

impl Default for Settings {
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            settings: Settings,
        }
        <Alone as clap::Parser>::parse_from(["chess"]).settings
    }
}

impl Settings {
    /// How long a session lasts.
    pub fn session_lifetime(&self) -> Duration {
        Duration::from_hours(24 * u64::from(self.session_days))
    }

    /// The proxies, for requests beside the socket.
    pub(crate) fn trusted_proxies(&self) -> TrustedProxies {
        self.trusted_proxies.join(",").parse().unwrap_or_default()
    }

    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }

    /// After how much silence a socket is pinged, and how long it has to answer.
    pub(crate) fn ping(&self) -> (Duration, Duration) {
        (Duration::from_millis(self.ping_ms), Duration::from_millis(self.pong_ms))
    }

    pub(crate) fn list_interval(&self) -> Duration {
        Duration::from_millis(self.list_ms)
    }

    pub(crate) fn sweep_interval(&self) -> Duration {
        Duration::from_millis(self.sweep_ms)
    }

    pub(crate) fn sync_interval(&self) -> Duration {
        Duration::from_millis(self.sync_ms)
    }

    pub(crate) fn claim_times(&self) -> ClaimTimes {
        ClaimTimes { lost_ms: self.claim_ms.cast_signed(), bye_ms: self.claim_bye_ms.cast_signed() }
    }

    pub(crate) fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.drain_delay_ms)
    }

    pub(crate) fn names(&self) -> Rate {
        Rate::per_minute(self.max_names)
    }

    pub(crate) fn attempts(&self) -> Rate {
        Rate::per_minute(self.max_attempts)
    }

    pub(crate) fn attempts_from(&self) -> Rate {
        Rate::per_minute(self.max_attempts_from)
    }

    /// How many passwords are hashed at once.
    pub(crate) fn hashers(&self) -> usize {
        or_half_of_the_cores(self.hashers)
    }

    pub(crate) fn offers(&self) -> Rate {
        Rate::per_minute(self.max_offers)
    }

    pub(crate) fn commands(&self) -> Rate {
        Rate::per_minute(self.max_commands)
    }

    /// How many bots may think at once.
    pub(crate) fn thinkers(&self) -> usize {
        or_half_of_the_cores(self.bots_thinking)
    }
}

fn or_half_of_the_cores(number: usize) -> usize {
    match number {
        0 => (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1),
        number => number,
    }
}
