//! When a BFD session may end, and when the BGP session may connect afterwards. Contains no I/O.
//!
//! FRR treats AdminDown as a failure, contrary to RFC 5882 §4.2: it ends an established BGP session and
//! deletes its routes, also those of a session with graceful restart. Its processes bgpd and bfdd receive the
//! messages of BGP and of BFD, so bgpd can learn of them in any order. The speaker therefore ends the BGP
//! session first, then the BFD session, and connects again when the router has handled both.

use std::time::{Duration, Instant};

/// Time between the end of the BGP session and the AdminDown of its BFD session.
pub(super) const BFD_AFTER_BGP: Duration = Duration::from_millis(100);
/// Time between the end of the BFD session and the next BGP connection. AdminDown is announced for 200 ms.
const BGP_AFTER_BFD: Duration = Duration::from_millis(300);

/// The times of the last end of the BGP session and of the BFD session.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The BFD session stays until this time.
    kept_until: Option<Instant>,
    /// When the last BFD session ended or ends.
    ended_at: Option<Instant>,
}

impl Ending {
    /// Keeps the BFD session, because the BGP session ends now or is about to end.
    pub(super) fn keep(&mut self, now: Instant) {
        self.kept_until = Some(now + BFD_AFTER_BGP);
    }

    /// Ends the BFD session if it need not stay. Otherwise returns when to call this again.
    pub(super) fn end(&mut self, now: Instant) -> Option<Instant> {
        let later = self.kept_until.filter(|until| *until > now);
        self.ended_at = Some(later.unwrap_or(now));
        later
    }

    /// Returns the earliest time of the next BGP connection.
    pub(super) fn connect_at(&self) -> Option<Instant> {
        self.ended_at.map(|at| at + BGP_AFTER_BFD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ends_after_bgp_and_bgp_connects_after_that() {
        let (mut ending, start) = (Ending::default(), Instant::now());
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        assert_eq!(ending.connect_at(), None);
        ending.keep(at(0));
        // The close of the connection follows.
        ending.keep(at(1));
        assert_eq!(ending.end(at(1)), Some(at(101)));
        assert_eq!(ending.connect_at(), Some(at(401)));
        assert_eq!(ending.end(at(100)), Some(at(101)));
        assert_eq!(ending.end(at(102)), None);
        assert_eq!(ending.connect_at(), Some(at(402)));
    }

    #[test]
    fn session_without_bgp_session_ends_at_once() {
        let (mut ending, start) = (Ending::default(), Instant::now());
        assert_eq!(ending.end(start), None);
    }
}
