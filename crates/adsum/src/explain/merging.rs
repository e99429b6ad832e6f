//! One explanation from what each node says.

use std::{collections::HashMap, time::Duration};

use adsum_pubsub::Topic;
use adsum_tracker::{Key, NodeInfo, NodeState, Ref};

use crate::{
    exchange::{Answer, Explained, HeldHere, LeftHere, MAX_TOLD, Told},
    explanation::{ExplainedLeave, ExplainedNode, ExplainedPresence, Explanation, Remembers},
};

/// Puts an explanation together. The first answer is that of the node that was asked.
pub(super) fn explanation(
    topic: Topic,
    key: Key,
    node: &str,
    (count, age): (usize, Duration),
    nodes: &[NodeInfo],
    answers: Vec<Told>,
) -> Explanation {
    let answers: Vec<(String, Explained)> = answers
        .into_iter()
        .filter_map(|told| match told.answer {
            Answer::Explained(explained) => Some((told.node, explained)),
            Answer::Nodes(_) => None,
        })
        .collect();
    Explanation {
        topic,
        key,
        node: node.to_owned(),
        presences: presences(&answers),
        leaves: leaves(&answers),
        nodes: explained_nodes(node, nodes, &answers),
        remembers: Remembers { count, age },
    }
}

fn explained_nodes(me: &str, nodes: &[NodeInfo], answers: &[(String, Explained)]) -> Vec<ExplainedNode> {
    let has_answered = |name: &str| answers.iter().any(|(node, _)| node == name);
    let mut explained: Vec<ExplainedNode> = nodes
        .iter()
        .filter(|node| node.is_self || node.state == NodeState::Up || has_answered(&node.name))
        .map(|node| ExplainedNode {
            name: node.name.to_string(),
            is_self: node.is_self,
            answered: has_answered(&node.name),
            state: Some(node.state),
            silent_for: node.silent_for,
        })
        .collect();
    // An earlier run that has departed stands beside the newer one of its name.
    explained.dedup_by(|later, earlier| {
        let is_same = later.name == earlier.name;
        if is_same && later.state == Some(NodeState::Up) {
            std::mem::swap(later, earlier);
        }
        is_same
    });
    for (name, _) in answers {
        if explained.iter().all(|node| node.name != *name) {
            explained.push(ExplainedNode {
                name: name.clone(),
                is_self: name == me,
                answered: true,
                state: None,
                silent_for: Duration::ZERO,
            });
        }
    }
    explained
}

fn presences(answers: &[(String, Explained)]) -> Vec<ExplainedPresence> {
    let mut presences: Vec<ExplainedPresence> = Vec::new();
    let mut places: HashMap<Ref, usize> = HashMap::new();
    for (node, explained) in answers {
        // Another node says how many these are.
        for held in explained.presences.iter().take(MAX_TOLD) {
            let place = *places.entry(held.reference).or_insert(presences.len());
            if place == presences.len() {
                presences.push(ExplainedPresence {
                    reference: held.reference,
                    node: held.node.clone(),
                    holder: None,
                    departing: held.departing,
                    shown_by: Vec::new(),
                    hidden_by: Vec::new(),
                    missing_on: Vec::new(),
                });
            }
            note(&mut presences[place], node, held);
        }
    }
    for presence in &mut presences {
        if let Some(node) = &mut presence.node {
            node.answered = answers.iter().any(|(name, _)| *name == node.name);
        }
        let has_it = |node: &String| presence.shown_by.contains(node) || presence.hidden_by.contains(node);
        // A node that has left presences out may have it.
        let missing = answers.iter().filter(|(node, explained)| explained.left_out == 0 && !has_it(node));
        presence.missing_on = missing.map(|(node, _)| node.clone()).collect();
    }
    presences
}

fn note(presence: &mut ExplainedPresence, node: &str, held: &HeldHere) {
    let list = if held.is_shown { &mut presence.shown_by } else { &mut presence.hidden_by };
    list.push(node.to_owned());
    if presence.departing.is_none() || held.is_own {
        presence.departing = held.departing;
    }
    if held.is_own {
        presence.holder.clone_from(&held.holder);
    }
    presence.node = presence.node.take().or_else(|| held.node.clone());
}

fn leaves(answers: &[(String, Explained)]) -> Vec<ExplainedLeave> {
    let mut leaves: Vec<ExplainedLeave> = Vec::new();
    for (node, explained) in answers {
        for left in explained.leaves.iter().take(MAX_TOLD) {
            let same = leaves
                .iter_mut()
                .find(|known| known.reference == left.reference && known.reason == left.reason);
            match same {
                Some(known) => note_leave(known, node, left),
                None => leaves.push(ExplainedLeave {
                    reference: left.reference,
                    node: left.node.clone(),
                    reason: left.reason,
                    ago: left.ago,
                    node_silent_for: left.node_silent_for,
                    holder: left.holder.clone(),
                    told_by: vec![node.clone()],
                }),
            }
        }
    }
    leaves.sort_by_key(|leave| leave.ago);
    leaves
}

fn note_leave(known: &mut ExplainedLeave, node: &str, left: &LeftHere) {
    // A presence that was hidden twice has left twice on one node.
    if known.told_by.iter().any(|told| told == node) {
        return;
    }
    known.told_by.push(node.to_owned());
    if known.node.is_none() {
        known.node.clone_from(&left.node);
    }
    known.node_silent_for = known.node_silent_for.or(left.node_silent_for);
    if left.is_own {
        known.holder.clone_from(&left.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explanation::HoldingNode;

    /// The answer of web-1, which shows a presence of web-2.
    fn shown_by_another() -> Explained {
        let held = HeldHere {
            reference: serde_json::from_str(r#""goy712bsAAAAAAAB""#).expect("it is a ref"),
            node: Some(HoldingNode {
                name: "web-2".to_owned(),
                state: Some(NodeState::Up),
                silent_for: Duration::ZERO,
                silence_left: Duration::ZERO,
                answered: false,
            }),
            is_own: false,
            is_shown: true,
            departing: None,
            holder: None,
        };
        Explained { presences: vec![held], ..Explained::default() }
    }

    fn merged(of_web_2: Option<Explained>) -> ExplainedPresence {
        let answers = [("web-1", Some(shown_by_another())), ("web-2", of_web_2)];
        let answers: Vec<_> =
            answers.into_iter().filter_map(|(node, answer)| Some((node.to_owned(), answer?))).collect();
        presences(&answers).remove(0)
    }

    #[test]
    fn a_node_that_has_answered_has_whatever_it_said() {
        let answered = |presence: &ExplainedPresence| presence.node.as_ref().expect("it is known").answered;
        let silent = merged(None);
        assert!(!answered(&silent) && silent.missing_on.is_empty());
        let ghost = merged(Some(Explained::default()));
        assert!(answered(&ghost));
        assert_eq!(ghost.missing_on, ["web-2"]);
    }

    #[test]
    fn a_node_that_tells_of_a_part_may_have_the_rest() {
        let part = Explained { left_out: 1, ..Explained::default() };
        assert!(merged(Some(part)).missing_on.is_empty());
    }
}
