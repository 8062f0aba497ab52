//! When gratuitous announcements are due.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// An address on an interface (by index).
pub(crate) type Place = (u32, IpAddr);

/// When announcements are sent, counted from the take-over. The first ones are close together, since a lost
/// frame leaves a neighbour with the old answer; the end, after 5 s, is MetalLB's.
pub(crate) const OFFSETS: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(1_100),
    Duration::from_millis(2_200),
    Duration::from_millis(3_300),
    Duration::from_millis(4_400),
];

/// The places that still have announcements before them. Empty at rest.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    running: BTreeMap<Place, Run>,
    due: BTreeSet<(Instant, Place)>,
}

#[derive(Debug)]
struct Run {
    begin: Instant,
    due: Instant,
}

impl Schedule {
    /// Begins, or begins anew.
    pub(crate) fn start(&mut self, now: Instant, place: Place) {
        self.cancel(place);
        self.insert(place, Run { begin: now, due: now });
    }

    pub(crate) fn cancel(&mut self, place: Place) {
        if let Some(run) = self.running.remove(&place) {
            self.due.remove(&(run.due, place));
        }
    }

    /// Cancels whatever runs on one interface.
    pub(crate) fn cancel_interface(&mut self, ifindex: u32) {
        let first = (ifindex, IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let places: Vec<Place> = self
            .running
            .range(first..)
            .map(|(place, _)| *place)
            .take_while(|place| place.0 == ifindex)
            .collect();
        for place in places {
            self.cancel(place);
        }
    }

    /// When the next announcement is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes the next due announcement out and plans the one after it. What was missed is not made up for.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Place> {
        let &(due, place) = self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.remove(&(due, place));
        let run = self.running.remove(&place)?;
        let next = OFFSETS.iter().map(|offset| run.begin + *offset).find(|next| *next > now);
        if let Some(next) = next {
            self.insert(place, Run { due: next, ..run });
        }
        Some(place)
    }

    fn insert(&mut self, place: Place, run: Run) {
        self.due.insert((run.due, place));
        self.running.insert(place, run);
    }
}
