//! One elector, request by request; and several electors in a simulation.

mod chaos;
mod release;
mod simulation;

use std::time::{Duration, Instant};

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The candidate "me" with the default timing, and the time since it started.
struct TestCandidate {
    elector: Elector,
    start: Instant,
    now: Duration,
}

impl TestCandidate {
    fn new() -> Self {
        let start = Instant::now();
        Self { elector: Elector::new("me".to_owned(), Timing::default(), start), start, now: s(0) }
    }

    /// Returns a candidate that leads since 0 s. The Lease has resourceVersion 1.
    fn leading() -> Self {
        let mut candidate = Self::new();
        assert_eq!(candidate.transmit(), Some(LeaseRequest::Get));
        candidate.respond(LeaseResponse::NotFound);
        assert!(matches!(candidate.transmit(), Some(LeaseRequest::Create(_))));
        candidate.respond(LeaseResponse::Written(lease(1, "me", 1)));
        assert!(candidate.leads());
        candidate
    }

    fn advance_to(&mut self, now: Duration) {
        assert!(self.now <= now);
        self.now = now;
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn transmit(&mut self) -> Option<LeaseRequest> {
        Some(self.elector.poll_transmit(self.instant())?.request)
    }

    /// Jitter is at its maximum.
    fn respond(&mut self, response: LeaseResponse) {
        self.elector.handle_response(self.instant(), response, 1.0);
    }

    fn leads(&self) -> bool {
        self.elector.leads(self.instant())
    }

    fn term(&self) -> Option<u64> {
        self.elector.leadership(self.instant()).term(self.instant())
    }

    /// Advances to the next timeout and polls.
    fn next_request(&mut self) -> Option<LeaseRequest> {
        let wake = self.elector.poll_timeout().unwrap();
        self.now = self.now.max(wake - self.start);
        self.transmit()
    }
}

/// Returns a Lease with this holder; `renewal` is its renewTime.
fn lease(version: u64, holder: &str, renewal: i64) -> LeaseSnapshot {
    LeaseSnapshot {
        resource_version: version.to_string(),
        record: LeaseRecord {
            holder: holder.to_owned(),
            duration: Some(s(10)),
            transitions: 4,
            renewed: Some(renewal.to_string()),
        },
    }
}

fn replacement(version: &str, transitions: i32, changes_holder: bool) -> Option<LeaseRequest> {
    let update = LeaseUpdate { holder: "me".to_owned(), duration_seconds: 10, transitions, changes_holder };
    Some(LeaseRequest::Replace { resource_version: version.to_owned(), update })
}

#[test]
fn first_candidate_leads_from_when_it_sent_the_creation() {
    let mut candidate = TestCandidate::new();
    assert_eq!(candidate.transmit(), Some(LeaseRequest::Get));
    assert_eq!(candidate.transmit(), None, "one request at a time");
    candidate.respond(LeaseResponse::NotFound);
    candidate.advance_to(ms(100));
    let update =
        LeaseUpdate { holder: "me".to_owned(), duration_seconds: 10, transitions: 0, changes_holder: true };
    assert_eq!(candidate.transmit(), Some(LeaseRequest::Create(update)));
    candidate.advance_to(ms(1100));
    candidate.respond(LeaseResponse::Written(lease(1, "me", 1)));
    let until = candidate.start + ms(100) + s(7);
    assert_eq!(candidate.elector.leadership(candidate.instant()), Leadership::Leading { until, term: 1 });
}

#[test]
fn predecessor_in_same_pod_is_waited_for_only_briefly() {
    for (holder, wait) in
        [("pod-a_1234", s(3)), ("pod-a2_1234", s(10)), ("pod-b_1234", s(10)), ("pod-a", s(10))]
    {
        let mut candidate = TestCandidate::new();
        candidate.elector = candidate.elector.in_pod(Some("pod-a_".to_owned()));
        while candidate.next_request() == Some(LeaseRequest::Get) {
            candidate.respond(LeaseResponse::Read(lease(7, holder, 1)));
            if candidate.now == wait {
                assert_eq!(candidate.transmit(), replacement("7", 5, true), "{holder}");
                break;
            }
        }
        assert_eq!(candidate.now, wait, "{holder}");
    }
}

#[test]
fn leader_renews_the_version_it_wrote_last() {
    let mut candidate = TestCandidate::leading();
    for (version, at) in [(1, s(2)), (2, s(4)), (3, s(6))] {
        assert_eq!(candidate.next_request(), replacement(&version.to_string(), 4, false));
        assert_eq!(candidate.now, at);
        candidate.respond(LeaseResponse::Written(lease(version + 1, "me", 100 + version as i64)));
        assert_eq!(candidate.term(), Some(1));
    }
}

#[test]
fn leader_without_responses_leads_until_its_deadline() {
    let mut candidate = TestCandidate::leading();
    // The time limit of a request ends with the term.
    candidate.advance_to(s(2));
    let request = candidate.elector.poll_transmit(candidate.instant()).unwrap();
    assert_eq!(request.deadline, candidate.start + ms(5500));
    candidate.advance_to(ms(5500));
    candidate.respond(LeaseResponse::Failed);
    assert!(candidate.leads());
    candidate.advance_to(ms(5750));
    let request = candidate.elector.poll_transmit(candidate.instant()).unwrap();
    assert_eq!((request.request, request.deadline), (LeaseRequest::Get, candidate.start + s(7)));
    assert_eq!(candidate.elector.poll_timeout(), Some(candidate.start + s(7)), "the end of the term");
    let published = candidate.elector.leadership(candidate.instant());
    candidate.advance_to(ms(6999));
    assert!(candidate.leads() && published.leads(candidate.instant()));
    candidate.advance_to(s(7));
    assert!(!candidate.leads() && !published.leads(candidate.instant()), "the published term ends by itself");
    assert_eq!(candidate.transmit(), None);
    assert_eq!(
        candidate.elector.leadership(candidate.instant()),
        Leadership::Standby { holder: Some("me".to_owned()) }
    );
}

#[test]
fn renewal_answered_after_the_term_starts_a_new_term() {
    let mut candidate = TestCandidate::leading();
    candidate.advance_to(ms(6900));
    assert_eq!(candidate.transmit(), replacement("1", 4, false));
    // It was sent in time and would extend the term to 13.9 s.
    candidate.advance_to(s(7));
    candidate.respond(LeaseResponse::Written(lease(2, "me", 2)));
    assert!(!candidate.leads());
    assert_eq!(candidate.transmit(), Some(LeaseRequest::Get));
    candidate.respond(LeaseResponse::Read(lease(2, "me", 2)));
    assert!(!candidate.leads());
    assert_eq!(candidate.transmit(), replacement("2", 4, false));
    candidate.respond(LeaseResponse::Written(lease(3, "me", 3)));
    assert_eq!(candidate.term(), Some(2), "another process may have led in between");
}

#[test]
fn acquisition_answered_after_its_deadline_does_not_lead() {
    let mut candidate = TestCandidate::new();
    candidate.transmit();
    candidate.respond(LeaseResponse::NotFound);
    candidate.transmit();
    candidate.advance_to(s(7));
    candidate.respond(LeaseResponse::Written(lease(1, "me", 1)));
    assert!(!candidate.leads());
    assert_eq!(candidate.transmit(), Some(LeaseRequest::Get));
}

#[test]
fn renewal_without_response_is_read_before_it_is_retried() {
    let mut candidate = TestCandidate::leading();
    candidate.next_request();
    candidate.respond(LeaseResponse::Failed);
    assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
    assert_eq!(candidate.now, ms(2250));
    candidate.respond(LeaseResponse::Read(lease(2, "me", 2)));
    assert_eq!(candidate.transmit(), replacement("2", 4, false));
    candidate.respond(LeaseResponse::Written(lease(3, "me", 3)));
    assert_eq!(candidate.term(), Some(1), "the term continues");
}

#[test]
fn leadership_ends_when_lease_is_lost_or_deleted() {
    for (response, then) in [
        (LeaseResponse::Written(lease(2, "other", 2)), Some(LeaseRequest::Get)),
        (
            LeaseResponse::NotFound,
            Some(LeaseRequest::Create(LeaseUpdate {
                holder: "me".to_owned(),
                duration_seconds: 10,
                transitions: 0,
                changes_holder: true,
            })),
        ),
    ] {
        let mut candidate = TestCandidate::leading();
        candidate.next_request();
        candidate.respond(response.clone());
        assert!(!candidate.leads(), "{response:?}");
        assert_eq!(candidate.next_request(), then, "{response:?}");
    }
    for response in [LeaseResponse::Failed, LeaseResponse::Conflict] {
        let mut candidate = TestCandidate::leading();
        candidate.next_request();
        candidate.respond(response.clone());
        assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
        candidate.respond(LeaseResponse::Read(lease(2, "other", 2)));
        assert!(!candidate.leads(), "{response:?}: the Lease names another holder");
    }
}

/// A client set a label, or a renewal that timed out was applied after all.
#[test]
fn conflict_on_lease_still_held_continues_the_term() {
    let mut candidate = TestCandidate::leading();
    candidate.next_request();
    candidate.respond(LeaseResponse::Conflict);
    assert!(candidate.leads());
    assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
    candidate.respond(LeaseResponse::Read(lease(7, "me", 1)));
    assert_eq!(candidate.transmit(), replacement("7", 4, false));
    candidate.respond(LeaseResponse::Written(lease(8, "me", 2)));
    assert_eq!(candidate.term(), Some(1));
}

#[test]
fn lease_unchanged_for_announced_duration_is_acquired() {
    for (announced, wait) in [(Some(s(3)), s(3)), (Some(s(10)), s(10)), (Some(s(15)), s(15)), (None, s(10))] {
        // The clock of the holder may show any time.
        for renewal in [0, 4_000_000_000] {
            let mut candidate = TestCandidate::new();
            let mut held = lease(1, "other", renewal);
            held.record.duration = announced;
            let mut request = candidate.transmit();
            while request == Some(LeaseRequest::Get) {
                candidate.respond(LeaseResponse::Read(held.clone()));
                request = candidate.next_request();
                assert!(candidate.now <= wait, "{announced:?}");
            }
            assert_eq!((request, candidate.now), (replacement("1", 5, true), wait), "{announced:?}");
        }
    }
}

#[test]
fn observed_renewal_restarts_the_wait_and_a_label_does_not() {
    let mut candidate = TestCandidate::new();
    candidate.transmit();
    candidate.respond(LeaseResponse::Read(lease(1, "other", 1)));
    candidate.advance_to(s(9));
    assert_eq!(candidate.transmit(), Some(LeaseRequest::Get));
    candidate.respond(LeaseResponse::Read(lease(2, "other", 2)));
    candidate.advance_to(ms(18_999));
    assert_eq!(candidate.transmit(), Some(LeaseRequest::Get));
    // A label was set.
    candidate.respond(LeaseResponse::Read(lease(3, "other", 2)));
    assert_eq!(
        candidate.elector.poll_timeout(),
        Some(candidate.start + s(19)),
        "no later than it may expire"
    );
    assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
    candidate.respond(LeaseResponse::Read(lease(3, "other", 2)));
    assert_eq!(candidate.transmit(), replacement("3", 5, true));
    candidate.respond(LeaseResponse::Conflict);
    assert_eq!(candidate.next_request(), Some(LeaseRequest::Get), "another candidate acquired it");
    candidate.respond(LeaseResponse::Read(lease(4, "third", 3)));
    assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
}

#[test]
fn released_lease_is_acquired_at_once() {
    let mut candidate = TestCandidate::new();
    candidate.transmit();
    candidate.respond(LeaseResponse::Read(lease(1, "other", 1)));
    assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
    assert_eq!(candidate.now, s(1));
    candidate.respond(LeaseResponse::Read(lease(2, "", 2)));
    assert_eq!(candidate.transmit(), replacement("2", 5, true));
    candidate.respond(LeaseResponse::Written(lease(3, "me", 3)));
    assert_eq!(candidate.term(), Some(1));
}

#[test]
fn deleted_lease_is_created_after_announced_duration() {
    let mut candidate = TestCandidate::new();
    candidate.transmit();
    candidate.respond(LeaseResponse::Read(lease(1, "other", 1)));
    let mut request = candidate.next_request();
    while request == Some(LeaseRequest::Get) {
        candidate.respond(LeaseResponse::NotFound);
        request = candidate.next_request();
    }
    assert!(matches!(request, Some(LeaseRequest::Create(_))));
    assert_eq!(candidate.now, s(10));
}

#[test]
fn lease_transitions_out_of_range_are_corrected() {
    for (before, after) in [(-3, 1), (i32::MAX, i32::MAX)] {
        let mut candidate = TestCandidate::new();
        candidate.transmit();
        let mut free = lease(1, "", 1);
        free.record.transitions = before;
        candidate.respond(LeaseResponse::Read(free));
        assert_eq!(candidate.transmit(), replacement("1", after, true));
    }
}

#[test]
fn backoff_grows_and_a_leader_is_capped_at_retry_period() {
    let mut candidate = TestCandidate::new();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
        candidate.respond(LeaseResponse::Failed);
        pauses.push((candidate.elector.poll_timeout().unwrap() - candidate.instant()).as_millis());
    }
    assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000]);

    let mut candidate = TestCandidate::leading();
    let mut sent = Vec::new();
    while candidate.now < s(7) {
        if candidate.next_request().is_some() {
            sent.push(candidate.now.as_millis());
            candidate.respond(LeaseResponse::Failed);
        }
    }
    assert_eq!(sent, [2000, 2250, 2750, 3750, 4750, 5750, 6750]);
}

#[test]
fn missing_namespace_and_repeated_conflicts_back_off() {
    let create = |candidate: &mut TestCandidate| {
        assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
        candidate.respond(LeaseResponse::NotFound);
        assert!(matches!(candidate.next_request(), Some(LeaseRequest::Create(_))));
        candidate.respond(LeaseResponse::NotFound);
    };
    let conflict = |candidate: &mut TestCandidate| {
        assert_eq!(candidate.next_request(), Some(LeaseRequest::Get));
        candidate.respond(LeaseResponse::Read(lease(1, "", 1)));
        assert_eq!(candidate.next_request(), replacement("1", 5, true));
        candidate.respond(LeaseResponse::Conflict);
    };
    for round in [&create as &dyn Fn(&mut TestCandidate), &conflict] {
        let mut candidate = TestCandidate::new();
        for _ in 0..10 {
            round(&mut candidate);
        }
        assert!(candidate.now > s(25), "{:?}", candidate.now);
    }
}
