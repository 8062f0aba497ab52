//! When Events say that this node was too late for its BFD sessions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::node_status::Sessions;

/// Shortest time between two Events.
const PAUSE: Duration = Duration::from_secs(600);

/// The time of the next Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    #[allow(missing_docs)]
    Now,
    #[allow(missing_docs)]
    Until(Instant),
    /// No session was late since the last Event.
    Forever,
}

/// The number of times that each session was late, and the sessions for the next Event.
#[derive(Clone, Debug, Default)]
pub struct BfdLateness {
    /// The count of each peer in the status, as observed last.
    seen: BTreeMap<String, i64>,
    /// Peers whose count increased since the last Event.
    late: Vec<String>,
    /// The earliest time of the next Event; `None` before the first.
    next: Option<Instant>,
}

impl BfdLateness {
    /// Records the counts of the sessions.
    pub fn handle_sessions(&mut self, sessions: &Sessions) {
        let counts: BTreeMap<String, i64> = sessions
            .iter()
            .filter_map(|(peer, session)| Some((peer.clone(), session.bfd.as_ref()?.lateness)))
            .collect();
        for (peer, count) in &counts {
            let before = self.seen.get(peer).copied().unwrap_or_default();
            if *count > before && !self.late.contains(peer) {
                self.late.push(peer.clone());
            }
        }
        self.seen = counts;
    }

    /// Returns when the next Event is sent.
    pub fn wait(&self, now: Instant) -> Wait {
        match self.next {
            _ if self.late.is_empty() => Wait::Forever,
            Some(at) if at > now => Wait::Until(at),
            _ => Wait::Now,
        }
    }

    /// Returns the text of the Event that is sent at `now`.
    pub fn take(&mut self, now: Instant) -> String {
        self.next = now.checked_add(PAUSE);
        let peers = std::mem::take(&mut self.late).join(", ");
        format!(
            "the speaker was too late to detect a failure by BFD, and waited for another packet (BGPPeer \
             {peers}); grant it the capability SYS_NICE, raise its request of processor time, or use longer intervals"
        )
    }
}

#[cfg(test)]
mod tests {
    use fairlead_crds::v1beta1::BFDSession;

    use super::*;
    use crate::node_status::SessionView;

    fn sessions(counts: &[(&str, i64)]) -> Sessions {
        let view = |lateness| SessionView {
            bfd: Some(BFDSession { lateness, ..BFDSession::default() }),
            ..SessionView::default()
        };
        counts.iter().map(|(peer, lateness)| ((*peer).to_owned(), view(*lateness))).collect()
    }

    #[test]
    fn events_are_paced_and_name_the_late_sessions() {
        let start = Instant::now();
        let mut lateness = BfdLateness::default();
        lateness.handle_sessions(&sessions(&[("a", 0), ("b", 0)]));
        assert_eq!(lateness.wait(start), Wait::Forever);
        lateness.handle_sessions(&sessions(&[("a", 1), ("b", 0)]));
        assert_eq!(lateness.wait(start), Wait::Now);
        assert!(lateness.take(start).contains("(BGPPeer a)"));
        assert_eq!(lateness.wait(start), Wait::Forever);

        lateness.handle_sessions(&sessions(&[("a", 2), ("b", 4)]));
        assert_eq!(lateness.wait(start), Wait::Until(start + PAUSE));
        let later = start + PAUSE;
        assert_eq!(lateness.wait(later), Wait::Now);
        assert!(lateness.take(later).contains("(BGPPeer a, b)"));
        // A session that was created again counts from zero.
        lateness.handle_sessions(&sessions(&[("a", 0)]));
        lateness.handle_sessions(&sessions(&[("a", 0)]));
        assert_eq!(lateness.wait(later), Wait::Forever);
    }
}
