//! A game as a text that other chess programs read: Portable Game Notation, with the clock after each move.

use crate::{
    games::Table,
    protocol::{Color, Reason},
};

/// The longest line, as the standard has it.
const LINE: usize = 79;

const DAY_MS: i64 = 86_400_000;

/// A game that began at `created_at`, on a site of this address.
pub(crate) fn pgn(table: &Table, created_at: i64, site: &str) -> String {
    let result = match table.ending {
        None => "*",
        Some(ending) => match ending.winner {
            Some(Color::White) => "1-0",
            Some(Color::Black) => "0-1",
            None => "1/2-1/2",
        },
    };
    let termination = match table.ending.map(|ending| ending.reason) {
        None => "unterminated",
        Some(Reason::Time | Reason::TimeInsufficient) => "time forfeit",
        Some(Reason::Abandoned) => "abandoned",
        Some(_) => "normal",
    };
    let time = format!("{}+{}", seconds(table.time.initial_ms), seconds(table.time.increment_ms));
    let mut text = String::new();
    for (name, value) in [
        ("Event", "Casual game"),
        ("Site", site),
        ("Date", &date(created_at)),
        ("Round", "-"),
        ("White", &table.white.name),
        ("Black", &table.black.name),
        ("Result", result),
        ("UTCDate", &date(created_at)),
        ("UTCTime", &time_of_day(created_at)),
        ("TimeControl", &time),
        ("Termination", termination),
    ] {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        text.extend(["[", name, " \"", &value, "\"]\n"]);
    }
    text.push('\n');
    let mut column = 0;
    for word in words(table).chain([result.to_owned()]) {
        if column > 0 && column + 1 + word.len() > LINE {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        column += word.len();
        text += &word;
    }
    text.push('\n');
    text
}

/// The moves and clocks, each of which stays on one line.
fn words(table: &Table) -> impl Iterator<Item = String> {
    let moves = table.played.moves().iter().zip(&table.left_ms).enumerate();
    moves.flat_map(|(ply, (played, left_ms))| {
        let number = ply / 2 + 1;
        // After a comment Black's move has its number too.
        let number = if ply % 2 == 0 { format!("{number}.") } else { format!("{number}...") };
        [number, played.san.clone(), format!("{{[%clk {}]}}", clock(*left_ms))]
    })
}

/// `0:05:03`, the clock after a move. Never more than there was.
fn clock(left_ms: i64) -> String {
    let seconds = left_ms.max(0) / 1000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Seconds, and what is less as decimals.
fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1000) {
        (ms / 1000).to_string()
    } else {
        format!("{}.{:03}", ms / 1000, ms % 1000).trim_end_matches('0').to_owned()
    }
}

/// The day in UTC, `2026.11.26`.
fn date(at_ms: i64) -> String {
    // Days since 1 March of the year 0, in eras of 400 years, each with as many days.
    let days = at_ms.div_euclid(DAY_MS) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31, 30, 31, 30, 31 days, and again.
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}.{month:02}.{day:02}", era * 400 + year + i64::from(month <= 2))
}

/// `18:05:59`, in UTC.
fn time_of_day(at_ms: i64) -> String {
    let seconds = at_ms.rem_euclid(DAY_MS) / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (at_ms, day) in [
            (0, "1970.01.01"),
            (951_782_399_999, "2000.02.28"),
            (951_782_400_000, "2000.02.29"),
            (951_868_800_000, "2000.03.01"),
            (1_795_651_200_000, "2026.11.26"),
            (4_107_542_399_999, "2100.02.28"),
            (4_107_542_400_000, "2100.03.01"),
        ] {
            assert_eq!(date(at_ms), day, "{at_ms}");
        }
        assert_eq!(time_of_day(1_795_651_200_000 + 65_159_999), "18:05:59");
    }

    #[test]
    fn times_are_written_as_programs_read_them() {
        assert_eq!(
            (clock(3_723_999), clock(999), clock(-5)),
            ("1:02:03".to_owned(), "0:00:00".to_owned(), "0:00:00".to_owned())
        );
        assert_eq!((seconds(300_000), seconds(1_500)), ("300".to_owned(), "1.5".to_owned()));
    }
}
