//! Clients that fold states and diffs arrive at the tracker's list, whatever happens in whatever order.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use adsum_pubsub::Topic;
use adsum_tracker::{Bare, Diff, Key, LeaveReason, RawOwner, Ref, TopicSet, Tracker, Windows};
use proptest::prelude::*;

use crate::{
    client::{Change, Client, View, sync_diff},
    key, meta, tracker,
};

const OWNERS: usize = 4;
const KEYS: usize = 3;
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Track {
        owner: usize,
        key: usize,
    },
    Update {
        owner: usize,
        key: usize,
    },
    Untrack {
        owner: usize,
        key: usize,
    },
    /// The owner is dropped, and another takes its number.
    End {
        owner: usize,
    },
    JoinAgain {
        key: usize,
    },
    Join {
        client: usize,
    },
    Leave {
        client: usize,
    },
    /// A client gets the state that was told.
    State {
        client: usize,
    },
    /// A program reads the list.
    List,
    /// A state shows an owner's row.
    ShowRow {
        owner: usize,
        key: usize,
    },
    Take,
    /// Sends the diffs that were taken.
    Tell,
    Deliver {
        diffs: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (owner, key, client) = (0..OWNERS, 0..KEYS, 0..CLIENTS);
    prop_oneof![
        5 => (owner.clone(), key.clone()).prop_map(|(owner, key)| Step::Track { owner, key }),
        5 => (owner.clone(), key.clone()).prop_map(|(owner, key)| Step::Update { owner, key }),
        2 => (owner.clone(), key.clone()).prop_map(|(owner, key)| Step::Untrack { owner, key }),
        1 => owner.prop_map(|owner| Step::End { owner }),
        1 => key.prop_map(|key| Step::JoinAgain { key }),
        2 => client.clone().prop_map(|client| Step::Join { client }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        4 => client.prop_map(|client| Step::State { client }),
        1 => Just(Step::List),
        1 => (0..OWNERS, 0..KEYS).prop_map(|(owner, key)| Step::ShowRow { owner, key }),
        4 => Just(Step::Take),
        4 => Just(Step::Tell),
        3 => (1_usize..4).prop_map(|diffs| Step::Deliver { diffs }),
    ]
}

/// How a version of a presence ended.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Replaced(Ref),
    Ended(LeaveReason),
}

struct World {
    windows: Windows,
    topic: Topic,
    tracker: Arc<Tracker<Bare>>,
    owners: Vec<RawOwner<Bare>>,
    /// The set as it should be, kept in the simplest way: key, owner and ref in order of tracking.
    rows: Vec<(Key, usize, Ref)>,
    fates: HashMap<Ref, Fate>,
    clients: Vec<Client>,
    taken: Vec<Change>,
    /// The diffs that were sent, with their numbers.
    in_flight: VecDeque<(u64, Change)>,
    sent: u64,
    /// The sum of the diffs sent so far.
    told: View,
    /// The number of the last diff in each client's state.
    seen: [u64; CLIENTS],
    joined_by_diff: HashSet<Ref>,
    /// Changes since the last take.
    untaken: usize,
    /// Refs that a client knows, by a diff taken or by a state.
    known: HashSet<Ref>,
    left: HashSet<Ref>,
    again: HashSet<Ref>,
    /// The refs that were to join again at some time: they are told twice on purpose.
    asked: HashSet<Ref>,
}

impl World {
    fn new(windows: Windows) -> Self {
        let tracker = tracker(windows);
        Self {
            windows,
            topic: "room:1".into(),
            owners: (0..OWNERS).map(|_| tracker.owner()).collect(),
            tracker,
            rows: Vec::new(),
            fates: HashMap::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            taken: Vec::new(),
            in_flight: VecDeque::new(),
            sent: 0,
            told: View::new(),
            seen: [0; CLIENTS],
            joined_by_diff: HashSet::new(),
            untaken: 0,
            known: HashSet::new(),
            left: HashSet::new(),
            again: HashSet::new(),
            asked: HashSet::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Track { owner, key } => self.track(owner, &name(key)),
            Step::Update { owner, key } => self.update(owner, &name(key)),
            Step::Untrack { owner, key } => self.untrack(owner, &name(key)),
            Step::End { owner } => self.end(owner),
            Step::JoinAgain { key } => self.join_again(&name(key)),
            Step::Join { client } => self.clients[client].join(),
            Step::Leave { client } => self.clients[client].leave(),
            Step::State { client } => self.state(client),
            Step::List => self.list(),
            Step::ShowRow { owner, key } => self.show_row(owner, &name(key)),
            Step::Take => self.take(),
            Step::Tell => self.tell(),
            Step::Deliver { diffs } => self.deliver(diffs),
        }
        self.check_list();
    }

    fn position(&self, owner: usize, key: &Key) -> Option<usize> {
        self.rows.iter().position(|(k, o, _)| k == key && *o == owner)
    }

    fn track(&mut self, owner: usize, key: &Key) {
        let tracked = self.owners[owner].track(&self.topic, key, meta());
        assert_eq!(tracked.is_ok(), self.position(owner, key).is_none());
        if let Ok(reference) = tracked {
            self.rows.push((key.clone(), owner, reference));
            self.untaken += 1;
        }
    }

    fn update(&mut self, owner: usize, key: &Key) {
        let updated = self.owners[owner].update(&self.topic, key, |meta| Ok::<_, ()>(meta.clone()));
        assert_eq!(updated.is_ok(), self.position(owner, key).is_some());
        if let (Ok(reference), Some(position)) = (updated, self.position(owner, key)) {
            let (_, _, old) = self.rows.remove(position);
            self.fates.insert(old, Fate::Replaced(reference));
            self.rows.push((key.clone(), owner, reference));
            self.untaken += 1;
        }
    }

    fn untrack(&mut self, owner: usize, key: &Key) {
        let untracked = self.owners[owner].untrack(&self.topic, key);
        assert_eq!(untracked, self.position(owner, key).is_some());
        if let Some(position) = self.position(owner, key) {
            let (_, _, old) = self.rows.remove(position);
            self.fates.insert(old, Fate::Ended(LeaveReason::Left));
            self.untaken += 1;
        }
    }

    fn end(&mut self, owner: usize) {
        self.owners[owner] = self.tracker.owner();
        let before = self.rows.len();
        for (_, _, old) in self.rows.extract_if(.., |(_, o, _)| *o == owner) {
            self.fates.insert(old, Fate::Ended(LeaveReason::Gone));
        }
        self.untaken += usize::from(self.rows.len() < before);
    }

    fn join_again(&mut self, key: &Key) {
        if let Some(set) = self.tracker.lock(&self.topic).topic_mut(&self.topic) {
            set.join_again(key);
        }
        let of_key = self.rows.iter().filter(|(k, ..)| k == key).map(|&(.., reference)| reference);
        let before = self.again.len();
        self.again.extend(of_key.clone());
        self.asked.extend(of_key.clone());
        if self.windows == Windows::Each {
            self.untaken += usize::from(of_key.count() > 0);
        } else {
            self.untaken += usize::from(self.again.len() > before);
        }
    }

    /// Sends a client the state that was told: exactly the sum of the diffs sent so far.
    fn state(&mut self, client: usize) {
        if !self.clients[client].is_joined() {
            return;
        }
        let mut state = View::new();
        if let Some(set) = self.tracker.lock(&self.topic).topic(&self.topic) {
            set.told_groups(None, None, |key, _, rows| {
                let told = state.insert(key.clone(), rows.iter().map(|row| row.reference).collect());
                assert!(told.is_none() && !rows.is_empty());
            });
            let mut parts = View::new();
            for (from, before) in
                [(None, Some("user-1")), (Some("user-1"), Some("user-2")), (Some("user-2"), None)]
            {
                set.told_groups(from, before, |key, _, rows| {
                    parts.insert(key.clone(), rows.iter().map(|row| row.reference).collect());
                });
            }
            assert_eq!(parts, state);
        }
        assert_eq!(sorted(&state), sorted(&self.told));
        self.seen[client] = self.sent;
        self.clients[client].on_state(&state);
    }

    fn list(&mut self) {
        self.tracker.lock(&self.topic).entry(&self.topic).mark_shown();
        self.known.extend(self.rows.iter().map(|&(.., reference)| reference));
    }

    fn show_row(&mut self, owner: usize, key: &Key) {
        if let Some(position) = self.position(owner, key) {
            let (_, _, reference) = self.rows[position];
            self.tracker.lock(&self.topic).entry(&self.topic).mark_row_shown(reference);
            self.known.insert(reference);
        }
    }

    /// Sends the diffs that were taken.
    fn tell(&mut self) {
        if let Some(set) = self.tracker.lock(&self.topic).topic_mut(&self.topic) {
            set.told();
        }
        for change in self.taken.drain(..) {
            sync_diff(&mut self.told, &change);
            self.sent += 1;
            self.in_flight.push_back((self.sent, change));
        }
    }

    fn take(&mut self) {
        // One diff is on its way at a time.
        self.tell();
        let diffs =
            self.tracker.lock(&self.topic).topic_mut(&self.topic).map_or_else(Vec::new, TopicSet::take_diffs);
        match self.windows {
            Windows::Each => assert_eq!(diffs.len(), self.untaken, "each change is one diff"),
            _ => assert!(diffs.len() <= usize::from(self.untaken > 0), "all changes are one diff, if any"),
        }
        for diff in &diffs {
            self.check(diff);
            self.taken.push(Change::from(diff));
        }
        let live: HashSet<Ref> = self.rows.iter().map(|&(.., reference)| reference).collect();
        let told: HashSet<Ref> = self.known.difference(&self.left).copied().collect();
        assert_eq!(told, live, "with all diffs taken, the refs told of are those of the list");
        let joined: HashSet<Ref> =
            diffs.iter().flat_map(|diff| &diff.joins).map(|joined| joined.reference).collect();
        assert!(self.again.iter().all(|again| !live.contains(again) || joined.contains(again)));
        self.again.clear();
        self.untaken = 0;
    }

    fn check(&mut self, diff: &Diff<Bare>) {
        assert!(!diff.is_empty(), "a diff isn't empty");
        for joined in &diff.joins {
            assert_eq!(joined.previous, self.previous(joined.reference, diff), "of {}", joined.reference);
        }
        let mut seen = HashSet::new();
        for joined in &diff.joins {
            let reference = joined.reference;
            assert!(seen.insert(reference), "{reference} is twice in a diff");
            assert!(!self.left.contains(&reference), "{reference} had left");
            if self.windows == Windows::Net {
                assert!(!self.fates.contains_key(&reference), "{reference} joins, but has gone");
            }
            self.known.insert(reference);
            self.joined_by_diff.insert(reference);
        }
        for left in &diff.leaves {
            let reference = left.row.reference;
            assert!(seen.insert(reference), "{reference} is twice in a diff");
            assert!(self.known.contains(&reference), "{reference} leaves, and no client knew it");
            assert!(self.left.insert(reference), "{reference} leaves a second time");
            assert_eq!(left.reason, self.reason(reference));
        }
    }

    /// Returns the reason of a ref's leave that a diff taken now should have.
    fn reason(&self, mut reference: Ref) -> Option<LeaveReason> {
        loop {
            match *self.fates.get(&reference)? {
                Fate::Ended(reason) => return Some(reason),
                Fate::Replaced(_) if self.windows == Windows::Each => return None,
                Fate::Replaced(by) => reference = by,
            }
        }
    }

    /// Returns the oldest version before another that a diff joined and that leaves in this one.
    fn previous(&self, reference: Ref, diff: &Diff<Bare>) -> Option<Ref> {
        let became = |mut version: Ref| {
            let mut updates = 0;
            while let Some(Fate::Replaced(by)) = self.fates.get(&version) {
                (version, updates) = (*by, updates + 1);
                if version == reference {
                    return Some(updates);
                }
            }
            None
        };
        let left = diff.leaves.iter().map(|left| left.row.reference);
        let told = left.filter(|left| self.joined_by_diff.contains(left));
        told.filter_map(|left| Some((became(left)?, left))).max().map(|(_, left)| left)
    }

    fn deliver(&mut self, diffs: usize) {
        for (number, diff) in self.in_flight.drain(..diffs.min(self.in_flight.len())) {
            for (client, seen) in self.clients.iter_mut().zip(&self.seen) {
                // The state contains earlier diffs.
                if client.is_synced() && number > *seen {
                    let asked = &self.asked;
                    let twice = client.knows(&diff.joins).find(|reference| !asked.contains(reference));
                    assert_eq!(twice, None, "a ref is told twice");
                    client.on_diff(&diff);
                }
            }
        }
    }

    fn expected(&self) -> View {
        let mut view = View::new();
        for (key, _, reference) in &self.rows {
            view.entry(key.clone()).or_default().push(*reference);
        }
        view
    }

    fn check_list(&self) {
        let listed: View = self
            .tracker
            .list(&self.topic)
            .into_iter()
            .map(|(key, rows)| (key, rows.iter().map(|row| row.reference).collect()))
            .collect();
        assert_eq!(listed, self.expected());
        assert_eq!(self.tracker.count(&self.topic), self.rows.len());
        assert_eq!(self.tracker.key_count(&self.topic), listed.len());
    }

    /// Takes and delivers all diffs: every client's view is then the list.
    fn settle(&mut self) {
        self.take();
        self.tell();
        self.deliver(usize::MAX);
        assert_eq!(sorted(&self.told), sorted(&self.expected()));
        let expected = self.expected();
        for client in self.clients.iter().filter(|client| client.is_synced()) {
            if client.is_fresh() {
                assert_eq!(client.view(), &expected);
            } else {
                // A client that had folded part of a key's diffs when it lost its connection keeps the order that
                // it had then: phoenix.js takes only new refs from a state.
                assert_eq!(sorted(client.view()), sorted(&expected));
            }
        }
    }

    /// Ends all owners: after the last diff nothing is left.
    fn end_all(mut self) {
        for owner in 0..OWNERS {
            self.end(owner);
        }
        self.settle();
        assert!(self.expected().is_empty());
        self.tracker.lock(&self.topic).tidy(&self.topic);
        assert_eq!(crate::topics_held(&self.tracker), 0);
    }
}

fn name(index: usize) -> Key {
    key(&format!("user-{index}"))
}

fn sorted(view: &View) -> View {
    let mut view = view.clone();
    for refs in view.values_mut() {
        refs.sort();
    }
    view
}

fn run(windows: Windows, steps: &[Step]) {
    let mut world = World::new(windows);
    // One client is there from the start to the end.
    world.clients[0].join();
    world.state(0);
    for step in steps {
        match step {
            Step::Join { client: 0 } | Step::Leave { client: 0 } => {}
            _ => world.run(step),
        }
    }
    world.settle();
    world.end_all();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn clients_arrive_at_the_list_with_all_changes_in_one_diff(steps in prop::collection::vec(step(), 1..80)) {
        run(Windows::Net, &steps);
    }

    #[test]
    fn clients_arrive_at_the_list_with_one_diff_for_each_change(steps in prop::collection::vec(step(), 1..80)) {
        run(Windows::Each, &steps);
    }
}
