//! Leaving well: presences that stay for a grace, so that others can take their places.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Cluster, DepartedSet, MAX_GRACE, ClusterMessage, Report, Time, Versions,
    membership::{MAX_PEERS, NodePhase},
    peer::{Peer, PeerState},
};
use crate::{Layer, LeaveReason, Ref, Replica, Row, SHARDS, log::Departed, shard_of};

/// The final versions are said so often, and for so long, until all have them.
const LEAVING_INTERVAL: Duration = Duration::from_millis(100);
const LEAVING_TIME: Duration = Duration::from_secs(1);

/// A node that says goodbye.
#[derive(Debug)]
pub(super) struct Leaving {
    versions: Versions,
    grace: Duration,
    /// Who is to hold the final set.
    to: HashSet<Replica>,
    held: HashSet<Replica>,
    again_at: Time,
    until: Time,
}

impl Leaving {
    pub(super) fn next(&self) -> Time {
        self.again_at.min(self.until)
    }
}

impl<X: Layer> Cluster<X> {
    /// Says goodbye: this node's set is final, and leaves when the grace is over. [`Report::Left`] tells when all
    /// nodes that are up hold it, or have had a second for it.
    pub fn leave(&mut self, now: Time, grace: Duration) {
        self.look(now);
        let was_live = matches!(self.phase, NodePhase::Live);
        self.next_heartbeat = Time::MAX;
        if !was_live {
            self.phase = NodePhase::Left;
            self.out.report(Report::Left { held: 0, of: 0 });
            return;
        }
        // Nothing is held back any more.
        self.may_publish.fill(now);
        self.to_publish = u64::MAX;
        self.publish(now);
        let to = self.peers.values().filter(|peer| peer.is_up()).map(|peer| peer.replica.clone()).collect();
        self.phase = NodePhase::Leaving(Leaving {
            versions: self.versions(),
            grace,
            to,
            held: HashSet::new(),
            again_at: now,
            until: now + LEAVING_TIME,
        });
        self.keep_leaving(now);
        self.look(now);
    }

    pub(super) fn keep_leaving(&mut self, now: Time) {
        let NodePhase::Leaving(leaving) = &mut self.phase else { return };
        if leaving.again_at <= now {
            leaving.again_at = now + LEAVING_INTERVAL;
            let (versions, grace) = (leaving.versions.clone(), leaving.grace);
            self.out.broadcast(ClusterMessage::Leaving { from: self.me.clone(), versions, grace });
        }
        self.look_whether_left(now);
    }

    fn look_whether_left(&mut self, now: Time) {
        if let NodePhase::Leaving(leaving) = &self.phase
            && (leaving.held.len() == leaving.to.len() || leaving.until <= now)
        {
            let (held, of) = (leaving.held.len(), leaving.to.len());
            self.phase = NodePhase::Left;
            self.out.report(Report::Left { held, of });
        }
    }

    pub(super) fn on_set_held(&mut self, now: Time, from: Replica, of: &Replica) {
        if let NodePhase::Leaving(leaving) = &mut self.phase
            && *of == self.me
            && leaving.to.contains(&from)
        {
            leaving.held.insert(from);
        }
        self.look_whether_left(now);
    }

    pub(super) fn on_leaving(&mut self, now: Time, from: &Replica, versions: Versions, grace: Duration) {
        if *from == self.me || matches!(self.phase, NodePhase::Alone | NodePhase::Left) {
            return;
        }
        let is_news = self.note_departed(now, from, &versions, grace, None);
        if is_news {
            self.out.report(Report::Departed(from.clone()));
        }
        if let Some(peer) = self.peers.get(from)
            && peer.is_complete()
        {
            self.out.send(from, ClusterMessage::SetHeld { from: self.me.clone(), of: from.clone() });
        }
        self.twin_left(now, from);
    }

    /// The departed sets that another node holds.
    pub(super) fn on_departed_sets(&mut self, now: Time, holder: &Replica, sets: Vec<DepartedSet>) {
        for DepartedSet { replica, versions, grace } in sets {
            if replica != self.me {
                self.note_departed(now, &replica, &versions, grace, Some(holder));
            }
        }
    }

    /// A replica's set is final. Whether that is news.
    fn note_departed(
        &mut self,
        now: Time,
        replica: &Replica,
        versions: &Versions,
        grace: Duration,
        holder: Option<&Replica>,
    ) -> bool {
        // Where all that it said before was lost, its goodbye is the first word of it.
        self.replace_older(replica);
        let until = now + grace;
        let others = || self.peers.values().filter(|peer| peer.is_up()).map(|peer| peer.replica.clone());
        let holders: Vec<Replica> = match holder {
            Some(holder) => vec![holder.clone()],
            None => others().filter(|other| other != replica).collect(),
        };
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(replica) {
            return false;
        }
        let peer = self
            .peers
            .entry(replica.clone())
            .or_insert_with(|| Peer::new(replica.clone(), PeerState::Down(now), now));
        let is_news = !peer.has_departed();
        if is_news {
            peer.state = PeerState::Departed { since: now, until };
            peer.depart(until, &self.tracker);
            for index in 0..SHARDS {
                let shard = &mut peer.shards[index];
                shard.known = versions.of(index);
                shard.show_at = versions.of(index);
            }
        }
        for holder in holders {
            if !peer.holders.contains(&holder) {
                peer.holders.push(holder);
            }
        }
        self.sync(now, replica);
        is_news
    }

    /// The departed sets that this node holds whole and that haven't ended.
    pub(super) fn departed_sets(&self, now: Time) -> Vec<DepartedSet> {
        let set = |peer: &Peer| {
            let grace = peer.grace(now).filter(|_| peer.is_complete())?;
            Some(DepartedSet { replica: peer.replica.clone(), versions: peer.versions(), grace })
        };
        self.peers.values().filter_map(set).collect()
    }

    /// Ends the departing presences of this node's own whose graces are over.
    pub(super) fn end_own_departures(&mut self, now: Time) {
        for OwnDeparture { row, reason, .. } in self.own.take_ended(now) {
            let shard = shard_of(&row.topic);
            if self.tracker.shard(shard).end_departing(&row, reason) {
                self.out.changed(&row.topic);
                self.to_publish |= 1 << shard;
            }
        }
    }
}

/// The presences of this node's own that are about to leave.
#[derive(Default)]
pub(super) struct OwnDepartures {
    departures: HashMap<Ref, OwnDeparture>,
    ends: BTreeSet<(Time, Ref)>,
}

struct OwnDeparture {
    row: Arc<Row>,
    reason: LeaveReason,
    end: Time,
}

impl OwnDepartures {
    pub(super) fn note(&mut self, now: Time, departed: Vec<Departed>) {
        for Departed { row, reason, grace } in departed {
            let (end, reference) = (now + grace.min(MAX_GRACE), row.reference);
            self.departures.insert(reference, OwnDeparture { row, reason, end });
            self.ends.insert((end, reference));
        }
    }

    /// Why and when a presence is about to leave, if it is.
    pub(super) fn of(&self, reference: Ref) -> Option<(Time, LeaveReason)> {
        self.departures.get(&reference).map(|departure| (departure.end, departure.reason))
    }

    pub(super) fn next_end(&self) -> Option<Time> {
        self.ends.first().map(|(end, _)| *end)
    }

    pub(super) fn len(&self) -> usize {
        self.departures.len()
    }

    fn take_ended(&mut self, now: Time) -> Vec<OwnDeparture> {
        let mut ended = Vec::new();
        while let Some((end, reference)) = self.ends.first().copied()
            && end <= now
        {
            self.ends.pop_first();
            ended.extend(self.departures.remove(&reference));
        }
        ended
    }
}
