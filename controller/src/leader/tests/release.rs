//! Releasing the Lease.

use super::*;

impl TestCandidate {
    fn release(&mut self) {
        self.elector.release(self.instant());
        assert!(!self.leads(), "the term ends before anything is sent");
    }

    fn is_finished(&self) -> bool {
        self.elector.is_finished(self.instant())
    }
}

fn releasing(version: &str) -> Option<LeaseRequest> {
    let update =
        LeaseUpdate { holder: String::new(), duration_seconds: 1, transitions: 4, changes_holder: true };
    Some(LeaseRequest::Replace { resource_version: version.to_owned(), update })
}

#[test]
fn release_ends_the_term_then_empties_the_lease() {
    let mut candidate = TestCandidate::leading();
    candidate.advance_to(s(1));
    candidate.release();
    assert_eq!(candidate.transmit(), releasing("1"));
    assert!(!candidate.is_finished());
    candidate.respond(LeaseResponse::Written(lease(2, "", 2)));
    assert!(candidate.is_finished());
    assert_eq!(candidate.transmit(), None);
    assert_eq!(candidate.elector.leadership(candidate.instant()), Leadership::Standby { holder: None });
}

#[test]
fn release_without_lease_sends_nothing() {
    let mut candidate = TestCandidate::new();
    candidate.release();
    assert!(candidate.is_finished(), "no request was sent yet");

    let mut candidate = TestCandidate::new();
    candidate.transmit();
    candidate.respond(LeaseResponse::Read(lease(1, "other", 1)));
    candidate.release();
    assert!(candidate.is_finished() && candidate.transmit().is_none());

    let mut candidate = TestCandidate::new();
    candidate.transmit();
    candidate.release();
    assert!(!candidate.is_finished(), "the response may name it as holder");
    candidate.respond(LeaseResponse::Read(lease(1, "", 1)));
    assert!(candidate.is_finished() && candidate.transmit().is_none(), "a free Lease is not acquired");
}

#[test]
fn release_waits_for_request_in_flight() {
    let mut candidate = TestCandidate::leading();
    candidate.next_request();
    candidate.release();
    assert_eq!(candidate.transmit(), None);
    candidate.respond(LeaseResponse::Written(lease(2, "me", 2)));
    assert!(!candidate.leads());
    assert_eq!(candidate.transmit(), releasing("2"));

    let mut candidate = TestCandidate::new();
    candidate.transmit();
    candidate.respond(LeaseResponse::NotFound);
    candidate.transmit();
    candidate.release();
    candidate.respond(LeaseResponse::Written(lease(1, "me", 1)));
    assert!(!candidate.leads());
    assert_eq!(candidate.transmit(), releasing("1"));
}

#[test]
fn release_reads_lease_after_in_doubt_write() {
    let mut candidate = TestCandidate::new();
    candidate.transmit();
    candidate.respond(LeaseResponse::NotFound);
    candidate.transmit();
    candidate.respond(LeaseResponse::Failed);
    candidate.release();
    assert_eq!(candidate.transmit(), Some(LeaseRequest::Get));
    candidate.respond(LeaseResponse::Read(lease(1, "me", 1)));
    assert_eq!(candidate.transmit(), releasing("1"));
    // An earlier renewal was applied late.
    candidate.respond(LeaseResponse::Conflict);
    assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
    candidate.respond(LeaseResponse::Read(lease(2, "me", 2)));
    assert_eq!(candidate.next_request(), releasing("2"));
    candidate.respond(LeaseResponse::Conflict);
    candidate.next_request();
    candidate.respond(LeaseResponse::Read(lease(3, "other", 3)));
    assert!(candidate.is_finished());
}

#[test]
fn release_without_api_server_ends_at_its_deadline() {
    let mut candidate = TestCandidate::leading();
    candidate.advance_to(s(1));
    candidate.release();
    let mut requests = 0;
    while !candidate.is_finished() {
        requests += usize::from(candidate.next_request().is_some());
        candidate.respond(LeaseResponse::Failed);
    }
    assert_eq!(candidate.now, ms(4500), "half the renew deadline");
    assert!((2..8).contains(&requests), "{requests}");
    assert_eq!(candidate.transmit(), None);
}
