//! Giving the Lease up.

use super::*;

impl One {
    fn releases(&mut self) {
        self.elector.release(self.instant());
        assert!(!self.leads(), "before anything is sent");
    }

    fn finished(&self) -> bool {
        self.elector.is_finished(self.instant())
    }
}

fn gives_up(version: &str) -> Option<Request> {
    let spec = Spec { holder: String::new(), duration_seconds: 1, transitions: 4, changes_holder: true };
    Some(Request::Replace { version: version.to_owned(), spec })
}

#[test]
fn a_leader_stops_leading_and_then_gives_up_the_lease() {
    let mut one = One::leading();
    one.at(s(1));
    one.releases();
    assert_eq!(one.asks(), gives_up("1"));
    assert!(!one.finished());
    one.hears(Answer::Written(seen(2, "", 2)));
    assert!(one.finished());
    assert_eq!(one.asks(), None);
    assert_eq!(one.elector.leadership(one.instant()), Leadership::Standby { holder: None });
}

#[test]
fn who_does_not_hold_it_asks_nothing_more() {
    let mut one = One::new();
    one.releases();
    assert!(one.finished(), "before the first request");

    let mut one = One::new();
    one.asks();
    one.hears(Answer::Read(seen(1, "other", 1)));
    one.releases();
    assert!(one.finished() && one.asks().is_none());

    let mut one = One::new();
    one.asks();
    one.releases();
    assert!(!one.finished(), "the answer may say that it holds it");
    one.hears(Answer::Read(seen(1, "", 1)));
    assert!(one.finished() && one.asks().is_none(), "and does not take it");
}

#[test]
fn what_is_on_its_way_is_waited_for() {
    let mut one = One::leading();
    one.next();
    one.releases();
    assert_eq!(one.asks(), None);
    one.hears(Answer::Written(seen(2, "me", 2)));
    assert!(!one.leads());
    assert_eq!(one.asks(), gives_up("2"));

    let mut one = One::new();
    one.asks();
    one.hears(Answer::Absent);
    one.asks();
    one.releases();
    one.hears(Answer::Written(seen(1, "me", 1)));
    assert!(!one.leads());
    assert_eq!(one.asks(), gives_up("1"));
}

#[test]
fn a_write_without_an_answer_is_looked_for() {
    let mut one = One::new();
    one.asks();
    one.hears(Answer::Absent);
    one.asks();
    one.hears(Answer::Failed);
    one.releases();
    assert_eq!(one.asks(), Some(Request::Get));
    one.hears(Answer::Read(seen(1, "me", 1)));
    assert_eq!(one.asks(), gives_up("1"));
    // An earlier renewal arrived after all.
    one.hears(Answer::Conflict);
    assert_eq!(one.next(), Some(Request::Get));
    one.hears(Answer::Read(seen(2, "me", 2)));
    assert_eq!(one.next(), gives_up("2"));
    one.hears(Answer::Conflict);
    one.next();
    one.hears(Answer::Read(seen(3, "other", 3)));
    assert!(one.finished());
}

#[test]
fn without_an_api_server_it_ends_all_the_same() {
    let mut one = One::leading();
    one.at(s(1));
    one.releases();
    let mut requests = 0;
    while !one.finished() {
        requests += usize::from(one.next().is_some());
        one.hears(Answer::Failed);
    }
    assert_eq!(one.now, ms(4500), "half the renew deadline");
    assert!((2..8).contains(&requests), "{requests}");
    assert_eq!(one.asks(), None);
}
