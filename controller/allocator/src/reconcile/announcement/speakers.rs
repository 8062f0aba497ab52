//! What all speakers announce together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fairlead_crds::model::address_list::AddressList;
use fairlead_crds::model::range::IpRange;

use super::obstacle::Obstacle;
use super::range_counts::RangeCounts;
use super::sessions::PeerSessions;
use super::speaker::ObservedSpeaker;

/// The speakers of this instance, by name of their object.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct Speakers {
    is_listed: bool,
    speakers: BTreeMap<String, ObservedSpeaker>,
    l2: RangeCounts,
    bgp: RangeCounts,
    /// The obstacles that live speakers report, each with the number of these speakers.
    obstacles: BTreeMap<IpAddr, BTreeMap<Obstacle, u32>>,
    peers: BTreeMap<Box<str>, PeerSessions>,
    totals: Totals,
}

/// Numbers of speakers.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    live: usize,
    /// Live speakers whose nodes may announce addresses.
    eligible: usize,
    /// Live speakers with an incomplete list.
    incomplete: usize,
    /// Live speakers that publish no lists.
    unpublished: usize,
    /// Established sessions of live speakers.
    sessions: usize,
}

/// What the verdict on an address depends on, besides the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) is_listed: bool,
    pub(super) has_objects: bool,
    pub(super) has_live: bool,
    pub(super) has_eligible: bool,
    pub(super) has_incomplete: bool,
    pub(super) has_unpublished: bool,
    pub(super) has_session: bool,
}

/// What must be evaluated after a change of speakers.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct SpeakerChange {
    /// Addresses that are announced now and were not, or the reverse.
    pub(in crate::reconcile) ranges: Vec<IpRange>,
    /// Addresses for which speakers report other obstacles.
    pub(in crate::reconcile) addresses: BTreeSet<IpAddr>,
    /// True if the verdicts on all addresses that nobody announces may differ.
    pub(in crate::reconcile) all_unannounced: bool,
    /// BGPPeers whose sessions differ.
    pub(in crate::reconcile) peers: BTreeSet<Box<str>>,
}

impl Speakers {
    /// Stores a speaker that was created or updated; `None` if it was deleted or is of another class.
    pub(in crate::reconcile) fn apply(&mut self, name: &str, new: Option<ObservedSpeaker>) -> SpeakerChange {
        let before = self.facts();
        let mut change = SpeakerChange::default();
        self.replace(name, new, &mut change);
        change.all_unannounced = before != self.facts();
        change
    }

    /// Stores a list of all speakers of this instance.
    pub(in crate::reconcile) fn reset(&mut self, list: Vec<(String, ObservedSpeaker)>) -> SpeakerChange {
        let before = self.facts();
        let mut change = SpeakerChange::default();
        self.is_listed = true;
        let listed: BTreeSet<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
        let known = self.speakers.keys();
        let deleted: Vec<String> = known.filter(|name| !listed.contains(&***name)).cloned().collect();
        // New speakers first: an address that moved is announced all the time.
        for (name, speaker) in list {
            self.replace(&name, Some(speaker), &mut change);
        }
        for name in deleted {
            self.replace(&name, None, &mut change);
        }
        change.all_unannounced = before != self.facts();
        change
    }

    /// Returns whether the speakers were listed.
    pub(in crate::reconcile) fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// Returns the sessions with a BGPPeer.
    pub(in crate::reconcile) fn peer(&self, name: &str) -> PeerSessions {
        self.peers.get(name).copied().unwrap_or_default()
    }

    /// Returns whether a live speaker announces the address by L2, and by BGP.
    pub(super) fn announced(&self, ip: IpAddr) -> (bool, bool) {
        (self.l2.get(ip) > 0, self.bgp.get(ip) > 0)
    }

    /// Returns the first in precedence of the obstacles that live speakers report for an address of a
    /// Service.
    pub(super) fn obstacle(&self, service: &str, ip: IpAddr) -> Option<&Obstacle> {
        self.obstacles.get(&ip)?.keys().find(|obstacle| *obstacle.service == *service)
    }

    pub(super) fn facts(&self) -> Facts {
        let Totals { live, eligible, incomplete, unpublished, sessions } = self.totals;
        Facts {
            is_listed: self.is_listed,
            has_objects: !self.speakers.is_empty(),
            has_live: live > 0,
            has_eligible: eligible > 0,
            has_incomplete: incomplete > 0,
            has_unpublished: unpublished > 0,
            has_session: sessions > 0,
        }
    }

    fn replace(&mut self, name: &str, new: Option<ObservedSpeaker>, change: &mut SpeakerChange) {
        let old = self.speakers.remove(name);
        if old == new {
            self.speakers.extend(new.map(|new| (name.to_owned(), new)));
            return;
        }
        let (was, is) = (old.as_ref().filter(|old| old.is_live), new.as_ref().filter(|new| new.is_live));
        recount(&mut self.l2, was.map(|was| &was.l2), is.map(|is| &is.l2), &mut change.ranges);
        recount(&mut self.bgp, was.map(|was| &was.bgp), is.map(|is| &is.bgp), &mut change.ranges);
        if let Some(new) = &new {
            self.count(new, change, true);
        }
        if let Some(old) = &old {
            self.count(old, change, false);
        }
        self.speakers.extend(new.map(|new| (name.to_owned(), new)));
    }

    /// Adds a speaker to the totals, obstacles and sessions, or removes it.
    fn count(&mut self, speaker: &ObservedSpeaker, change: &mut SpeakerChange, is_added: bool) {
        let update = |total: &mut usize, counts: bool| match (counts, is_added) {
            (true, true) => *total += 1,
            (true, false) => *total = total.saturating_sub(1),
            (false, _) => {}
        };
        let is_live = speaker.is_live;
        update(&mut self.totals.live, is_live);
        update(&mut self.totals.eligible, is_live && speaker.is_eligible);
        update(&mut self.totals.incomplete, is_live && !speaker.is_complete);
        update(&mut self.totals.unpublished, is_live && !speaker.is_published);
        for (peer, established) in &speaker.sessions {
            let established = is_live && *established;
            update(&mut self.totals.sessions, established);
            let before = self.peers.get(peer).copied().unwrap_or_default();
            let mut sessions = before;
            update(&mut sessions.wanted, true);
            update(&mut sessions.established, established);
            // Added and removed again without a difference: the caller compares.
            change.peers.insert(peer.clone());
            if sessions.wanted == 0 {
                self.peers.remove(peer);
            } else {
                self.peers.insert(peer.clone(), sessions);
            }
        }
        for (address, obstacle) in speaker.obstacles.iter().filter(|_| is_live) {
            let of_address = self.obstacles.entry(*address).or_default();
            let count = of_address.entry(obstacle.clone()).or_default();
            let before = *count;
            *count = if is_added { before + 1 } else { before.saturating_sub(1) };
            if *count == 0 {
                of_address.remove(obstacle);
            }
            if before == 0 || (before == 1 && !is_added) {
                change.addresses.insert(*address);
            }
            if of_address.is_empty() {
                self.obstacles.remove(address);
            }
        }
    }
}

/// Replaces the list of a speaker in the counts. Adds the ranges that are announced now and were not, or the
/// reverse.
fn recount(
    counts: &mut RangeCounts,
    before: Option<&AddressList>,
    after: Option<&AddressList>,
    ranges: &mut Vec<IpRange>,
) {
    let empty = AddressList::default();
    let (before, after) = (before.unwrap_or(&empty), after.unwrap_or(&empty));
    for range in after.without(before) {
        ranges.extend(counts.add(range));
    }
    for range in before.without(after) {
        ranges.extend(counts.remove(range));
    }
}
