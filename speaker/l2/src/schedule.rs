//! When unsolicited announcements are due, and how many may leave at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// An address on an interface, given by its index.
pub(crate) type Place = (u32, IpAddr);

/// When announcements are sent, counted from the take-over. The first ones are close together, because a
/// neighbor that loses a frame keeps the old entry. The third comes when the overlap of a planned move has
/// ended: it corrects neighbors that asked during the overlap and kept the answer of the previous owner. The
/// last ones are one second apart for 5 s, as in MetalLB.
///
/// A planned move ends with the third one: the previous owner runs, and answers no longer than that.
const OFFSETS: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(350),
    Duration::from_millis(1_100),
    Duration::from_millis(2_200),
    Duration::from_millis(3_300),
    Duration::from_millis(4_400),
];

/// Maximum number of announcements in one [`BURST_WINDOW`]: an interface that comes up with 10,000 addresses
/// must not overrun the queues of its own card or of the switch.
const BURST: u32 = 256;
const BURST_WINDOW: Duration = Duration::from_millis(10);

/// The places that still have announcements to come. Empty at rest.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    series: BTreeMap<Place, Series>,
    by_due: BTreeSet<(Instant, Place)>,
    burst: Option<Burst>,
}

/// The announcements of a place that are to come.
#[derive(Debug)]
struct Series {
    begin: Instant,
    due: Instant,
    kind: SeriesKind,
}

/// How often an address is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeriesKind {
    /// At each of [`OFFSETS`], by both kinds of ARP frames.
    Full,
    /// At the first [`PLANNED`] of [`OFFSETS`], by a request and a reply in turn.
    Planned,
    /// Once.
    Once(ArpKind),
}

/// The frames of one announcement of an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArpKind {
    Request,
    Reply,
    Both,
}

/// Number of announcements of a planned move.
const PLANNED: usize = 3;

impl SeriesKind {
    fn offsets(self) -> &'static [Duration] {
        match self {
            Self::Full => &OFFSETS,
            Self::Planned => OFFSETS.get(..PLANNED).unwrap_or(&OFFSETS),
            Self::Once(_) => &[],
        }
    }

    /// Returns the frames of the announcement that was due this long after the begin.
    fn frames(self, after: Duration) -> ArpKind {
        match self {
            Self::Full => ArpKind::Both,
            Self::Planned if OFFSETS.iter().take_while(|offset| **offset < after).count() % 2 == 1 => {
                ArpKind::Reply
            }
            Self::Planned => ArpKind::Request,
            Self::Once(kind) => kind,
        }
    }
}

#[derive(Debug)]
struct Burst {
    begin: Instant,
    sent: u32,
}

impl Schedule {
    /// Starts the announcements of a place, or restarts them.
    pub(crate) fn start(&mut self, now: Instant, place: Place, kind: SeriesKind) {
        self.cancel(place);
        self.insert(place, Series { begin: now, due: now, kind });
    }

    /// Schedules one announcement of a place that has none to come.
    pub(crate) fn once(&mut self, due: Instant, place: Place, kind: ArpKind) {
        if !self.series.contains_key(&place) {
            self.insert(place, Series { begin: due, due, kind: SeriesKind::Once(kind) });
        }
    }

    pub(crate) fn cancel(&mut self, place: Place) {
        if let Some(series) = self.series.remove(&place) {
            self.by_due.remove(&(series.due, place));
        }
    }

    /// Cancels the announcements of every address on one interface.
    pub(crate) fn cancel_interface(&mut self, ifindex: u32) {
        let first = (ifindex, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let from_first = self.series.range(first..).map(|(place, _)| *place);
        let places: Vec<Place> = from_first.take_while(|place| place.0 == ifindex).collect();
        for place in places {
            self.cancel(place);
        }
    }

    /// Returns when to call [`Self::pop`] next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let (due, _) = *self.by_due.first()?;
        match &self.burst {
            Some(burst) if burst.sent >= BURST => Some(due.max(burst.begin + BURST_WINDOW)),
            _ => Some(due),
        }
    }

    /// Removes the next announcement that is due and schedules the one after it, skipping those whose time
    /// has passed. Returns `None` if no announcement is due or the current burst is full.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Place, ArpKind)> {
        if self.burst.as_ref().is_some_and(|burst| now >= burst.begin + BURST_WINDOW) {
            self.burst = None;
        }
        if self.burst.as_ref().is_some_and(|burst| burst.sent >= BURST) {
            return None;
        }
        let &(due, place) = self.by_due.first().filter(|(due, _)| *due <= now)?;
        self.by_due.remove(&(due, place));
        let series = self.series.remove(&place)?;
        let frames = series.kind.frames(due.saturating_duration_since(series.begin));
        let mut times = series.kind.offsets().iter().map(|offset| series.begin + *offset);
        if let Some(next) = times.find(|next| *next > now) {
            self.insert(place, Series { due: next, ..series });
        }
        self.burst.get_or_insert(Burst { begin: now, sent: 0 }).sent += 1;
        Some((place, frames))
    }

    fn insert(&mut self, place: Place, series: Series) {
        self.by_due.insert((series.due, place));
        self.series.insert(place, series);
    }
}
