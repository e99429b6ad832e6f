//! Explanations in words.

use std::{fmt, time::Duration};

use adsum_tracker::{LeaveReason, NodeState};

use super::{ExplainedLeave, ExplainedPresence, ExplainedSocket, Explanation, Holder, HoldingNode};

/// A node that was silent for longer has missed a heartbeat, with the default one of a second.
const MISSED_HEARTBEAT: Duration = Duration::from_millis(1500);
/// A client that was silent for longer may be asleep.
const QUIET: Duration = Duration::from_secs(5);
/// The time from one heartbeat of a Phoenix client to the next.
const CLIENT_HEARTBEAT: Duration = Duration::from_secs(30);

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for sentence in self.summary() {
            writeln!(f, "{sentence}")?;
        }
        for (index, presence) in self.presences.iter().enumerate() {
            writeln!(f, "\nPresence {} ({}):", index + 1, presence.reference)?;
            for sentence in presence.sentences() {
                writeln!(f, "- {sentence}")?;
            }
        }
        if !self.leaves.is_empty() {
            writeln!(f, "\nLeft of late:")?;
        }
        for leave in &self.leaves {
            writeln!(f, "- {} ({})", self.leave_sentence(leave), leave.reference)?;
        }
        Ok(())
    }
}

impl Explanation {
    /// The sentences on the key as a whole.
    pub(crate) fn summary(&self) -> Vec<String> {
        let Self { topic, key, node, .. } = self;
        let shown = self.presences.iter().filter(|presence| presence.shown_by.contains(node)).count();
        let mut sentences = Vec::new();
        match (shown, self.leaves.first()) {
            (0, None) if self.presences.is_empty() => sentences.push(format!(
                "Node {node} doesn't show {key:?} in {topic:?}, and no leave of it is remembered. A node remembers the \
                 last {} leaves, for {}.",
                self.remembers.count,
                time(self.remembers.age)
            )),
            (0, None) => sentences.push(format!("Node {node} doesn't show {key:?} in {topic:?}.")),
            (0, Some(last)) => {
                sentences.push(format!("Node {node} doesn't show {key:?} in {topic:?}."));
                sentences.push(format!("It left {}", self.leave_tail(last)));
            }
            (1, _) => sentences.push(format!("Node {node} shows {key:?} in {topic:?}, by one presence.")),
            (shown, _) => sentences.push(format!("Node {node} shows {key:?} in {topic:?}, by {shown} presences.")),
        }
        sentences.extend(self.presences.iter().filter_map(ExplainedPresence::doubt));
        let unanswered: Vec<&str> = self.unanswered().collect();
        if !unanswered.is_empty() {
            sentences.push(format!(
                "{} did not answer within {}.",
                list(&unanswered),
                time(super::EXPLAIN_TIMEOUT)
            ));
        }
        sentences
    }

    /// Why and when something left.
    pub(crate) fn leave_sentence(&self, leave: &ExplainedLeave) -> String {
        format!("Left {}", self.leave_tail(leave))
    }

    fn leave_tail(&self, leave: &ExplainedLeave) -> String {
        let told_by: Vec<&str> = leave.told_by.iter().map(String::as_str).collect();
        let verb = if told_by.len() == 1 { "remembers" } else { "remember" };
        let back = self
            .presences
            .iter()
            .any(|presence| presence.reference == leave.reference && presence.shown_by.contains(&self.node));
        let back = if back { " It is back since." } else { "" };
        format!("{} ago: {}.{back} {} {verb} it.", time(leave.ago), leave.why(), list(&told_by))
    }
}

impl ExplainedLeave {
    /// Why it left: the reason, and what it means.
    pub(crate) fn why(&self) -> String {
        let node = self.node.as_deref().unwrap_or("its node");
        let socket = self.holder.as_ref().and_then(|holder| holder.socket.as_ref());
        let reason = self.reason;
        let meaning = match self.reason {
            LeaveReason::Left => "its client left the topic, or the program untracked it".to_owned(),
            LeaveReason::Gone => match socket.and_then(|socket| socket.end.as_deref()) {
                Some(end) => format!("its socket {end}"),
                None => "the connection behind it ended".to_owned(),
            },
            LeaveReason::Unreachable => match self.node_silent_for {
                Some(silent_for) => format!("{node} silent for {}", time(silent_for)),
                None => format!("{node} was not heard any more"),
            },
            LeaveReason::Draining => format!("{node} was stopped, and nobody took its place"),
            LeaveReason::Finished => "its channel or task ended in good order".to_owned(),
            LeaveReason::Crashed => {
                format!("its channel or task failed on {node}; the log of {node} says with which error")
            }
            LeaveReason::Cancelled => "its task was dropped before it had finished".to_owned(),
            _ => return reason.to_string(),
        };
        let on = match self.reason {
            LeaveReason::Left | LeaveReason::Gone | LeaveReason::Finished | LeaveReason::Cancelled => {
                self.node.as_ref().map_or_else(String::new, |node| format!(", on {node}"))
            }
            _ => String::new(),
        };
        let whose = socket.map_or_else(String::new, |socket| format!(" It was that of {}.", socket.name()));
        let sentence = format!("{reason}: {meaning}{on}");
        if whose.is_empty() { sentence } else { format!("{sentence}.{}", whose.trim_end_matches('.')) }
    }
}

impl ExplainedPresence {
    /// Why it may be that nobody is behind it, if there is reason to think so.
    fn doubt(&self) -> Option<String> {
        if let Some(node) = self.node.as_ref().filter(|node| node.is_doubtful()) {
            return Some(node.doubt());
        }
        if let Some(departing) = &self.departing {
            let remaining = time(departing.remaining);
            let socket = self.holder.as_ref().and_then(|holder| holder.socket.as_ref());
            let end = socket.and_then(|socket| socket.end.as_deref());
            return Some(match departing.reason {
                LeaveReason::Draining => format!(
                    "Its node was stopped. It lingers for another {remaining}, so that its client can come back on \
                     another node, and leaves then."
                ),
                LeaveReason::Crashed => format!(
                    "Its channel failed. It lingers for another {remaining}, so that its client can join again, and \
                     leaves then."
                ),
                _ => format!(
                    "Its socket {}. It lingers for another {remaining}, so that its client can come back, and leaves \
                     then.",
                    end.unwrap_or("has ended")
                ),
            });
        }
        self.holder.as_ref()?.socket.as_ref().filter(|socket| socket.silent_for >= QUIET)?.doubt()
    }

    /// The sentences on this presence.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let node = self.node.as_ref().map_or("an unknown node", |node| &*node.name);
        match &self.holder {
            Some(holder) => sentences.extend(holder.sentences(node)),
            None => sentences.push(format!("It was tracked on {node}, which did not say what holds it.")),
        }
        sentences.extend(self.doubt());
        if let Some(node) = self.node.as_ref().filter(|node| !node.is_doubtful()) {
            sentences.extend(node.heard());
        }
        let [shown, hidden, missing] = [&self.shown_by, &self.hidden_by, &self.missing_on]
            .map(|nodes| nodes.iter().map(String::as_str).collect::<Vec<_>>());
        let mut said = Vec::new();
        if !shown.is_empty() {
            said.push(format!("{} {} it", list(&shown), if shown.len() == 1 { "shows" } else { "show" }));
        }
        if !hidden.is_empty() {
            let verb = if hidden.len() == 1 { "keeps" } else { "keep" };
            said.push(format!("{} {verb} it hidden until {node} is heard again", list(&hidden)));
        }
        if !missing.is_empty() {
            let verb = if missing.len() == 1 { "doesn't" } else { "don't" };
            said.push(format!("{} {verb} have it", list(&missing)));
        }
        if !said.is_empty() {
            sentences.push(format!("{}.", said.join("; ")));
        }
        sentences
    }
}

impl HoldingNode {
    fn is_doubtful(&self) -> bool {
        match self.state {
            Some(NodeState::Up) => !self.answered && self.silent_for > MISSED_HEARTBEAT,
            Some(NodeState::Down) => true,
            _ => false,
        }
    }

    fn doubt(&self) -> String {
        let Self { name, silent_for, silence_left, .. } = self;
        let silent_for = time(*silent_for);
        if self.state == Some(NodeState::Down) {
            return format!(
                "Node {name} has not been heard for {silent_for} and counts as down: it was killed, or is cut off. Its \
                 presences are hidden, and are shown again if it is heard again."
            );
        }
        format!(
            "Node {name} has not been heard for {silent_for} and did not answer: it may have been killed, or is cut off. If \
             it stays silent it counts as down in {}, and its presences leave as unreachable.",
            time(*silence_left)
        )
    }

    fn heard(&self) -> Option<String> {
        match self.state {
            Some(NodeState::Departed) => Some(format!("{} was stopped, and said goodbye.", self.name)),
            Some(NodeState::Up) if !self.answered => Some(format!("{} did not answer.", self.name)),
            _ => None,
        }
    }
}

impl Holder {
    fn sentences(&self, node: &str) -> Vec<String> {
        let held_for = self.held_for.map(time);
        let Some(socket) = &self.socket else {
            return vec![match (held_for, self.ended) {
                (Some(held_for), None) => format!("A task on {node} has held it for {held_for}."),
                _ => format!("Its owner on {node} has ended."),
            }];
        };
        let name = socket.name();
        let first = match (held_for, self.ended) {
            (Some(held_for), None) => format!("A channel on {node} has held it for {held_for}, of {name}."),
            (Some(held_for), Some(ended)) => {
                let ended = time(ended);
                format!("A channel on {node} held it for {held_for}, of {name}. It ended {ended} ago.")
            }
            (None, _) => format!("A channel on {node} holds it, of {name}."),
        };
        let mut sentences = vec![first];
        if self.ended.is_none() {
            sentences.push(format!("Its client was last heard {} ago.", time(socket.silent_for)));
        }
        sentences
    }
}

impl ExplainedSocket {
    /// The socket, as a part of a sentence.
    pub(crate) fn name(&self) -> String {
        let id = self.id.as_ref().map_or_else(String::new, |id| format!(" {id}"));
        let from = self.client_address.map_or_else(String::new, |address| format!(" from {address}"));
        format!("socket{id} by {}{from}, open for {}", self.transport, time(self.open_for))
    }

    fn doubt(&self) -> Option<String> {
        if self.end.is_some() {
            return None;
        }
        let silent_for = time(self.silent_for);
        let limit = match self.silence_limit {
            Some(limit) => {
                let left = limit.saturating_sub(self.silent_for);
                format!("The server closes the socket if it stays silent for another {}.", time(left))
            }
            None => "The server never closes a silent socket: it has no `timeout`.".to_owned(),
        };
        Some(if self.silent_for > CLIENT_HEARTBEAT {
            format!(
                "Its client has been silent for {silent_for}, longer than Phoenix's clients take from heartbeat to \
                 heartbeat: it may be asleep, or its network is gone. {limit}"
            )
        } else {
            format!(
                "Its client has been silent for {silent_for}: it has nothing to say, is asleep, or its network is \
                 gone. {limit}"
            )
        })
    }
}

/// A time as people say it.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.05 => "a moment".to_owned(),
        ..0.95 => format!("{seconds:.1} s"),
        ..9.95 if (seconds - seconds.round()).abs() >= 0.05 => format!("{seconds:.1} s"),
        ..99.5 => format!("{seconds:.0} s"),
        ..5970.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// Several names in one sentence.
fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_do() {
        let said = |seconds: f64| time(Duration::from_secs_f64(seconds));
        let times = [0.04, 0.5, 3.0, 3.02, 2.13, 42.4, 150.0, 7200.0, 259_200.0];
        assert_eq!(
            times.map(said),
            ["a moment", "0.5 s", "3 s", "3 s", "2.1 s", "42 s", "2 min", "2 h", "3 days"]
        );
    }

    #[test]
    fn names_are_listed_with_an_and() {
        assert_eq!([list(&[]), list(&["a"]), list(&["a", "b", "c"])], ["", "a", "a, b and c"]);
    }
}
