//! One candidate, question by question; and several, in a world of their own.

mod chaos;
mod release;
mod simulation;

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A candidate "me" with the default timing, and the time since it started.
struct One {
    elector: Elector,
    start: Instant,
    now: Duration,
}

impl One {
    fn new() -> Self {
        let start = Instant::now();
        Self { elector: Elector::new("me".to_owned(), Timing::default(), start), start, now: s(0) }
    }

    /// One that leads since 0 s, with resourceVersion 1.
    fn leading() -> Self {
        let mut one = Self::new();
        assert_eq!(one.asks(), Some(Request::Get));
        one.hears(Answer::Absent);
        assert!(matches!(one.asks(), Some(Request::Create(_))));
        one.hears(Answer::Written(seen(1, "me", 1)));
        assert!(one.leads());
        one
    }

    fn at(&mut self, now: Duration) {
        assert!(self.now <= now);
        self.now = now;
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn asks(&mut self) -> Option<Request> {
        Some(self.elector.poll(self.instant())?.request)
    }

    /// Pauses and periods are as long as they get.
    fn hears(&mut self, answer: Answer) {
        self.elector.answer(self.instant(), answer, 1.0);
    }

    fn leads(&self) -> bool {
        self.elector.leads(self.instant())
    }

    fn term(&self) -> Option<u64> {
        self.elector.leadership(self.instant()).term(self.instant())
    }

    /// Goes on to the next time to poll, and polls.
    fn next(&mut self) -> Option<Request> {
        let wake = self.elector.poll_timeout().unwrap();
        self.now = self.now.max(wake - self.start);
        self.asks()
    }
}

/// A Lease; `renewal` stands for the time of the renewal.
fn seen(version: u64, holder: &str, renewal: i64) -> Seen {
    Seen {
        version: version.to_string(),
        record: Record {
            holder: holder.to_owned(),
            duration: Some(s(10)),
            transitions: 4,
            renewed: Some(Timestamp::from_second(renewal).unwrap()),
        },
    }
}

fn replaces(version: &str, transitions: i32, changes_holder: bool) -> Option<Request> {
    let spec = Spec { holder: "me".to_owned(), duration_seconds: 10, transitions, changes_holder };
    Some(Request::Replace { version: version.to_owned(), spec })
}

#[test]
fn the_first_candidate_creates_the_lease_and_leads_from_when_it_asked() {
    let mut one = One::new();
    assert_eq!(one.asks(), Some(Request::Get));
    assert_eq!(one.asks(), None, "one request at a time");
    one.hears(Answer::Absent);
    one.at(ms(100));
    let spec = Spec { holder: "me".to_owned(), duration_seconds: 10, transitions: 0, changes_holder: true };
    assert_eq!(one.asks(), Some(Request::Create(spec)));
    one.at(ms(1100));
    one.hears(Answer::Written(seen(1, "me", 1)));
    let until = one.start + ms(100) + s(7);
    assert_eq!(one.elector.leadership(one.instant()), Leadership::Leading { until, term: 1 });
}

#[test]
fn of_an_earlier_process_of_the_same_pod_only_the_last_writes_are_waited_for() {
    for (holder, wait) in
        [("pod-a_1234", s(3)), ("pod-a2_1234", s(10)), ("pod-b_1234", s(10)), ("pod-a", s(10))]
    {
        let mut one = One::new();
        one.elector = one.elector.in_pod(Some("pod-a_".to_owned()));
        while one.next() == Some(Request::Get) {
            one.hears(Answer::Read(seen(7, holder, 1)));
            // At once when it is time.
            if one.now == wait {
                assert_eq!(one.asks(), replaces("7", 5, true), "{holder}");
                break;
            }
        }
        assert_eq!(one.now, wait, "{holder}");
    }
}

#[test]
fn a_leader_renews_what_it_wrote_last() {
    let mut one = One::leading();
    for (version, at) in [(1, s(2)), (2, s(4)), (3, s(6))] {
        assert_eq!(one.next(), replaces(&version.to_string(), 4, false));
        assert_eq!(one.now, at);
        one.hears(Answer::Written(seen(version + 1, "me", 100 + version as i64)));
        assert_eq!(one.term(), Some(1));
    }
}

#[test]
fn a_leader_that_hears_nothing_leads_until_its_deadline_and_no_longer() {
    let mut one = One::leading();
    // A request that never comes back: it is not waited for beyond the deadline either.
    one.at(s(2));
    let order = one.elector.poll(one.instant()).unwrap();
    assert_eq!(order.deadline, one.start + ms(5500));
    one.at(ms(5500));
    one.hears(Answer::Failed);
    assert!(one.leads());
    one.at(ms(5750));
    let order = one.elector.poll(one.instant()).unwrap();
    assert_eq!((order.request, order.deadline), (Request::Get, one.start + s(7)));
    assert_eq!(one.elector.poll_timeout(), Some(one.start + s(7)), "to tell that it is over");
    let told = one.elector.leadership(one.instant());
    one.at(ms(6999));
    assert!(one.leads() && told.leads(one.instant()));
    one.at(s(7));
    assert!(!one.leads() && !told.leads(one.instant()), "though nobody said so");
    assert_eq!(one.asks(), None);
    assert_eq!(one.elector.leadership(one.instant()), Leadership::Standby { holder: Some("me".to_owned()) });
}

#[test]
fn a_renewal_that_is_answered_too_late_is_read_and_done_again() {
    let mut one = One::leading();
    one.at(ms(6900));
    assert_eq!(one.asks(), replaces("1", 4, false));
    // It was sent in time and would carry until 13.9 s.
    one.at(s(7));
    one.hears(Answer::Written(seen(2, "me", 2)));
    assert!(!one.leads());
    assert_eq!(one.asks(), Some(Request::Get));
    one.hears(Answer::Read(seen(2, "me", 2)));
    assert!(!one.leads());
    assert_eq!(one.asks(), replaces("2", 4, false));
    one.hears(Answer::Written(seen(3, "me", 3)));
    assert_eq!(one.term(), Some(2), "another may have led in between");
}

#[test]
fn an_acquisition_that_is_answered_after_its_deadline_does_not_lead() {
    let mut one = One::new();
    one.asks();
    one.hears(Answer::Absent);
    one.asks();
    one.at(s(7));
    one.hears(Answer::Written(seen(1, "me", 1)));
    assert!(!one.leads());
    assert_eq!(one.asks(), Some(Request::Get));
}

#[test]
fn a_leader_without_an_answer_reads_first_because_the_renewal_may_have_been_done() {
    let mut one = One::leading();
    one.next();
    one.hears(Answer::Failed);
    assert_eq!(one.next(), Some(Request::Get));
    assert_eq!(one.now, ms(2250));
    one.hears(Answer::Read(seen(2, "me", 2)));
    assert_eq!(one.asks(), replaces("2", 4, false));
    one.hears(Answer::Written(seen(3, "me", 3)));
    assert_eq!(one.term(), Some(1), "it never stopped leading");
}

#[test]
fn leadership_ends_with_what_shows_that_it_may_have_ended() {
    for (answer, then) in [
        (Answer::Written(seen(2, "other", 2)), Some(Request::Get)),
        (
            Answer::Absent,
            Some(Request::Create(Spec {
                holder: "me".to_owned(),
                duration_seconds: 10,
                transitions: 0,
                changes_holder: true,
            })),
        ),
    ] {
        let mut one = One::leading();
        one.next();
        one.hears(answer.clone());
        assert!(!one.leads(), "{answer:?}");
        assert_eq!(one.next(), then, "{answer:?}");
    }
    for answer in [Answer::Failed, Answer::Conflict] {
        let mut one = One::leading();
        one.next();
        one.hears(answer.clone());
        assert_eq!(one.next(), Some(Request::Get));
        one.hears(Answer::Read(seen(2, "other", 2)));
        assert!(!one.leads(), "{answer:?}: another is named");
    }
}

/// A label was put on it, or a renewal that was given up arrived after all.
#[test]
fn a_lease_that_somebody_else_wrote_and_that_still_names_the_leader_ends_no_term() {
    let mut one = One::leading();
    one.next();
    one.hears(Answer::Conflict);
    assert!(one.leads());
    assert_eq!(one.next(), Some(Request::Get));
    one.hears(Answer::Read(seen(7, "me", 1)));
    assert_eq!(one.asks(), replaces("7", 4, false));
    one.hears(Answer::Written(seen(8, "me", 2)));
    assert_eq!(one.term(), Some(1));
}

#[test]
fn another_s_lease_is_taken_when_it_was_seen_unchanged_as_long_as_it_announced() {
    for (announced, takes) in [(Some(s(3)), s(3)), (Some(s(10)), s(10)), (Some(s(15)), s(15)), (None, s(10))]
    {
        // The other's clock may be anywhere.
        for renewal in [0, 4_000_000_000] {
            let mut one = One::new();
            let mut lease = seen(1, "other", renewal);
            lease.record.duration = announced;
            let mut request = one.asks();
            while request == Some(Request::Get) {
                one.hears(Answer::Read(lease.clone()));
                request = one.next();
                assert!(one.now <= takes, "{announced:?}");
            }
            assert_eq!((request, one.now), (replaces("1", 5, true), takes), "{announced:?}");
        }
    }
}

#[test]
fn every_renewal_that_is_seen_starts_the_wait_anew_and_an_edit_of_something_else_does_not() {
    let mut one = One::new();
    one.asks();
    one.hears(Answer::Read(seen(1, "other", 1)));
    one.at(s(9));
    assert_eq!(one.asks(), Some(Request::Get));
    one.hears(Answer::Read(seen(2, "other", 2)));
    one.at(ms(18_999));
    assert_eq!(one.asks(), Some(Request::Get));
    // Somebody set a label.
    one.hears(Answer::Read(seen(3, "other", 2)));
    assert_eq!(one.elector.poll_timeout(), Some(one.start + s(19)), "no later than it may have run out");
    assert_eq!(one.next(), Some(Request::Get));
    one.hears(Answer::Read(seen(3, "other", 2)));
    assert_eq!(one.asks(), replaces("3", 5, true));
    one.hears(Answer::Conflict);
    assert_eq!(one.next(), Some(Request::Get), "another was first");
    one.hears(Answer::Read(seen(4, "third", 3)));
    assert_eq!(one.next(), Some(Request::Get));
}

#[test]
fn a_lease_that_was_given_up_is_taken_at_once() {
    let mut one = One::new();
    one.asks();
    one.hears(Answer::Read(seen(1, "other", 1)));
    assert_eq!(one.next(), Some(Request::Get));
    assert_eq!(one.now, s(1));
    one.hears(Answer::Read(seen(2, "", 2)));
    assert_eq!(one.asks(), replaces("2", 5, true));
    one.hears(Answer::Written(seen(3, "me", 3)));
    assert_eq!(one.term(), Some(1));
}

#[test]
fn a_lease_that_somebody_deleted_is_still_held_as_long_as_was_announced() {
    let mut one = One::new();
    one.asks();
    one.hears(Answer::Read(seen(1, "other", 1)));
    let mut request = one.next();
    while request == Some(Request::Get) {
        one.hears(Answer::Absent);
        request = one.next();
    }
    assert!(matches!(request, Some(Request::Create(_))));
    assert_eq!(one.now, s(10));
}

#[test]
fn a_count_of_transitions_that_makes_no_sense_is_put_right() {
    for (was, becomes) in [(-3, 1), (i32::MAX, i32::MAX)] {
        let mut one = One::new();
        one.asks();
        let mut lease = seen(1, "", 1);
        lease.record.transitions = was;
        one.hears(Answer::Read(lease));
        assert_eq!(one.asks(), replaces("1", becomes, true));
    }
}

#[test]
fn failures_wait_longer_each_time_but_a_leader_never_longer_than_the_retry_period() {
    let mut one = One::new();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        assert_eq!(one.next(), Some(Request::Get));
        one.hears(Answer::Failed);
        pauses.push((one.elector.poll_timeout().unwrap() - one.instant()).as_millis());
    }
    assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000]);

    let mut one = One::leading();
    let mut asked = Vec::new();
    while one.now < s(7) {
        if one.next().is_some() {
            asked.push(one.now.as_millis());
            one.hears(Answer::Failed);
        }
    }
    assert_eq!(asked, [2000, 2250, 2750, 3750, 4750, 5750, 6750]);
}

#[test]
fn a_missing_namespace_and_endless_conflicts_are_no_reason_for_haste() {
    let create = |one: &mut One| {
        assert_eq!(one.next(), Some(Request::Get));
        one.hears(Answer::Absent);
        assert!(matches!(one.next(), Some(Request::Create(_))));
        one.hears(Answer::Absent);
    };
    let conflict = |one: &mut One| {
        assert_eq!(one.next(), Some(Request::Get));
        one.hears(Answer::Read(seen(1, "", 1)));
        assert_eq!(one.next(), replaces("1", 5, true));
        one.hears(Answer::Conflict);
    };
    for round in [&create as &dyn Fn(&mut One), &conflict] {
        let mut one = One::new();
        for _ in 0..10 {
            round(&mut one);
        }
        assert!(one.now > s(25), "{:?}", one.now);
    }
}
