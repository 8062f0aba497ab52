//! When the sessions of a BGPPeer are written into its status.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

/// Minimum time between two updates of the sessions of one BGPPeer. A router that flaps causes few writes.
const INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// The BGPPeers whose sessions differ, and when each may be updated.
#[derive(Debug, Default)]
pub struct SessionReports {
    changed: BTreeSet<Box<str>>,
    /// The time before which a BGPPeer is not updated again. Only BGPPeers that were updated recently.
    not_before: BTreeMap<Box<str>, Timestamp>,
}

impl SessionReports {
    /// Stores that the sessions of these BGPPeers differ.
    pub fn handle_changed(&mut self, peers: impl IntoIterator<Item = Box<str>>) {
        self.changed.extend(peers);
    }

    /// Removes and returns the BGPPeers to update now.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Box<str>> {
        self.not_before.retain(|_, until| now < *until);
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.changed)
            .into_iter()
            .partition(|peer| !self.not_before.contains_key(peer));
        self.changed = later.into_iter().collect();
        let until = now.checked_add(INTERVAL).unwrap_or(Timestamp::MAX);
        self.not_before.extend(due.iter().map(|peer| (peer.clone(), until)));
        due
    }

    /// Returns when to call [`SessionReports::take_due`].
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let due = |peer: &str| self.not_before.get(peer).copied().unwrap_or(Timestamp::MIN);
        self.changed.iter().map(|peer| due(peer)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn flapping_session_is_reported_once_per_interval() {
        let mut reports = SessionReports::default();
        reports.handle_changed(["tor".into()]);
        assert_eq!(reports.take_due(at(100)), ["tor".into()]);
        assert_eq!(reports.poll_timeout(), None);
        for second in 101..105 {
            reports.handle_changed(["tor".into()]);
            assert_eq!((reports.take_due(at(second)), reports.poll_timeout()), (vec![], Some(at(105))));
        }
        reports.handle_changed(["spine".into()]);
        assert_eq!(reports.take_due(at(104)), ["spine".into()]);
        assert_eq!(reports.take_due(at(105)), ["tor".into()]);
    }
}
