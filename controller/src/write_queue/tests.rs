//! Orders of puts, answers and polls, and what is sent when.

use std::sync::Arc;

use serde_json::json;

use super::*;
use fairlead_test_support::key;

fn target(name: &str) -> Target {
    Target::Service(key(name))
}

fn write(version: &str, what: &str) -> Option<Write> {
    Some(Write { version: version.into(), patch: Arc::new(Body::Object(json!(what))) })
}

/// What would be sent now, as `name:what`.
fn sent(writer: &mut Writer, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| writer.poll(now))
        .map(|(target, write)| match target {
            Target::Service(key) | Target::Claim(key) => {
                format!("{}:{}", key.name, String::from_utf8_lossy(&write.patch.to_json()).trim_matches('"'))
            }
            Target::Object(object) | Target::Finalizers(object) => object.to_string(),
        })
        .collect()
}

#[test]
fn as_many_as_allowed_are_in_flight_in_the_order_they_came() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    let window = writer.window();
    for n in 0..window + 8 {
        writer.put(target(&format!("s{n}")), write("1", "a"));
    }
    let first = sent(&mut writer, now);
    assert_eq!((first.len(), first[window - 1].as_str()), (window, &*format!("s{}:a", window - 1)));
    assert_eq!(writer.poll_timeout(), None, "an answer comes first");
    assert!(writer.is_behind());
    let later = now + Duration::from_millis(7);
    let took = writer.done(later, &target("s1"), &Answer::Written("2".into()), 0.5);
    assert_eq!(took, Duration::from_millis(7));
    assert_eq!(sent(&mut writer, later), [format!("s{window}:a")]);
}

#[test]
fn only_the_newest_word_on_an_object_is_sent() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    writer.put(target("s"), write("1", "old"));
    writer.put(target("s"), write("2", "new"));
    writer.put(target("t"), write("1", "moot"));
    writer.put(target("t"), None);
    assert_eq!(sent(&mut writer, now), ["s:new"]);
}

#[test]
fn one_write_at_a_time_for_each_object() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    writer.put(target("s"), write("1", "first"));
    assert_eq!(sent(&mut writer, now), ["s:first"]);
    writer.put(target("s"), write("2", "second"));
    assert_eq!(sent(&mut writer, now), [""; 0]);
    writer.done(now, &target("s"), &Answer::Conflict, 0.5);
    assert_eq!(sent(&mut writer, now), ["s:second"]);
}

#[test]
fn a_write_decided_on_a_version_that_is_gone_is_not_sent() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    writer.put(target("s"), write("1", "first"));
    sent(&mut writer, now);
    writer.put(target("s"), write("1", "second"));
    writer.done(now, &target("s"), &Answer::Written("2".into()), 0.5);
    assert_eq!(writer.depth(), (0, 0), "the watch brings the newer object");
}

#[test]
fn after_a_conflict_the_newer_word_is_sent_and_without_one_the_old_again_later() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    writer.put(target("s"), write("1", "first"));
    sent(&mut writer, now);
    writer.done(now, &target("s"), &Answer::Conflict, 1.0);
    assert_eq!(sent(&mut writer, now), [""; 0], "the watch is given time to bring the newer object");
    writer.put(target("s"), write("2", "newer"));
    assert_eq!(sent(&mut writer, now + RETRY.0), ["s:newer"]);
    writer.done(now, &target("s"), &Answer::Conflict, 1.0);
    assert_eq!(sent(&mut writer, now + RETRY.1), ["s:newer"], "it brought none: asked again");
}

#[test]
fn what_is_moot_while_in_flight_is_not_tried_again() {
    for answer in [Answer::Conflict, Answer::Failed, Answer::Unavailable(None)] {
        let (mut writer, now) = (Writer::default(), Instant::now());
        writer.put(target("s"), write("1", "first"));
        sent(&mut writer, now);
        writer.put(target("s"), None);
        assert!(writer.is_busy(&target("s")));
        writer.done(now, &target("s"), &answer, 0.5);
        assert!(!writer.is_busy(&target("s")), "{answer:?}");
    }
}

#[test]
fn a_write_that_changed_nothing_does_not_swallow_the_next() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    writer.put(target("s"), write("1", "first"));
    sent(&mut writer, now);
    writer.put(target("s"), write("1", "second"));
    writer.done(now, &target("s"), &Answer::Written("1".into()), 0.5);
    assert_eq!(sent(&mut writer, now), ["s:second"]);
}

#[test]
fn a_failed_write_is_tried_again_later_and_holds_up_nobody() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    writer.put(target("s"), write("1", "a"));
    sent(&mut writer, now);
    writer.done(now, &target("s"), &Answer::Failed, 1.0);
    writer.put(target("t"), write("1", "b"));
    assert_eq!(sent(&mut writer, now), ["t:b"]);
    assert_eq!(writer.poll_timeout(), Some(now + RETRY.0));
    assert_eq!(sent(&mut writer, now + RETRY.0), ["s:a"]);
    writer.done(now, &target("s"), &Answer::Failed, 1.0);
    assert_eq!(writer.poll_timeout(), Some(now + 2 * RETRY.0), "the pause grows");
}

/// Puts as many other objects as make an outage, and no write gets an answer.
fn outage(writer: &mut Writer, now: Instant) {
    for n in 0..OUTAGE {
        writer.put(target(&format!("o{n:02}")), write("1", "a"));
    }
    while !sent(writer, now).is_empty() {
        for target in flying(writer) {
            writer.done(now, &target, &Answer::Unavailable(None), 1.0);
        }
    }
}

fn flying(writer: &Writer) -> Vec<Target> {
    writer.in_flight.keys().cloned().collect()
}

#[test]
fn after_an_outage_one_write_asks_first_then_all_go() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    for n in 0..100 {
        writer.put(target(&format!("s{n:02}")), write("1", "a"));
    }
    outage(&mut writer, now);
    assert_eq!(sent(&mut writer, now), [""; 0], "nothing is sent during the pause");
    let later = writer.poll_timeout().unwrap();
    assert!(later <= now + PAUSE.1);
    let probe = sent(&mut writer, later);
    assert_eq!(probe, [format!("s{OUTAGE}:a")], "one asks whether it is back");
    writer.done(later, &target(&format!("s{OUTAGE}")), &Answer::Written("2".into()), 0.5);
    let (mut all, mut later) = (1, later);
    assert_eq!(sent(&mut writer, later).len(), 2);
    all += 2;
    for round in 0..200 {
        later += Duration::from_millis(10);
        for target in flying(&writer) {
            writer.done(later, &target, &Answer::Written("2".into()), 0.5);
        }
        all += sent(&mut writer, later).len();
        assert!(round < 199);
        if writer.depth() == (0, 0) {
            break;
        }
    }
    assert_eq!(all, 100 + OUTAGE, "nothing is lost, nothing is sent twice");
}

/// Lets time pass, with an API server that answers after 5 ms. Returns how many writes it answered.
fn run(writer: &mut Writer, now: &mut Instant, time: Duration, answer: impl Fn(&Target) -> Answer) -> usize {
    let (end, latency) = (*now + time, Duration::from_millis(5));
    let mut answered = 0;
    while *now < end {
        sent(writer, *now);
        *now += latency;
        for target in flying(writer) {
            writer.done(*now, &target, &answer(&target), 0.5);
            answered += 1;
        }
    }
    answered
}

fn written(_: &Target) -> Answer {
    Answer::Written("2".into())
}

#[test]
fn an_api_server_that_fails_on_every_write_is_asked_by_one_at_a_time() {
    let (mut writer, mut now) = (Writer::default(), Instant::now());
    let second = Duration::from_secs(1);
    for n in 0..2000 {
        writer.put(target(&format!("s{n:04}")), write("1", "a"));
    }
    let first = run(&mut writer, &mut now, second, |_| Answer::Failed);
    assert!((OUTAGE..2 * OUTAGE).contains(&first), "{first} in the first second");
    run(&mut writer, &mut now, 10 * second, |_| Answer::Failed);
    let minute = run(&mut writer, &mut now, 60 * second, |_| Answer::Failed);
    assert!((10..30).contains(&minute), "{minute} in a minute");
    assert_eq!(writer.window(), 1);
    let back = run(&mut writer, &mut now, 2 * PAUSE.1, written);
    assert_eq!((back, writer.depth()), (2000, (0, 0)), "once it works again, all are written soon");
}

#[test]
fn a_few_objects_that_fail_among_many_harm_only_themselves() {
    let (mut writer, mut now) = (Writer::default(), Instant::now());
    let second = Duration::from_secs(1);
    let is_bad = |target: &Target| matches!(target, Target::Service(key) if key.name.starts_with("bad"));
    for n in 0..OUTAGE - 1 {
        writer.put(target(&format!("bad{n}")), write("1", "a"));
    }
    run(&mut writer, &mut now, 60 * second, |_| Answer::Failed);
    for n in 0..2000 {
        writer.put(target(&format!("s{n}")), write("1", "a"));
    }
    assert_eq!(sent(&mut writer, now).len(), writer.window(), "nothing pauses");
    run(&mut writer, &mut now, 2 * second, |target| match is_bad(target) {
        true => Answer::Failed,
        false => written(target),
    });
    assert_eq!(writer.depth().0, OUTAGE - 1, "all others are written");
    assert!(writer.window() > 4, "what fails does not keep the window small");
}

/// As long as a write is waited for.
const LATE: Duration = Duration::from_secs(10);

#[test]
fn an_object_whose_writes_hang_holds_up_nobody() {
    let (mut writer, mut now) = (Writer::default(), Instant::now());
    let window = writer.window();
    writer.put(target("bad"), write("1", "a"));
    for round in 0..10 {
        assert_eq!(sent(&mut writer, now), ["bad:a"], "{round}");
        writer.put(target("while"), write("1", "a"));
        assert_eq!(sent(&mut writer, now), ["while:a"], "{round}: while it hangs");
        writer.done(now, &target("while"), &Answer::Written("2".into()), 1.0);
        now += LATE;
        writer.done(now, &target("bad"), &Answer::Unavailable(None), 1.0);
        assert_eq!(sent(&mut writer, now), [""; 0], "{round}: it waits itself");
        writer.put(target("between"), write("1", "a"));
        assert_eq!(sent(&mut writer, now), ["between:a"], "{round}: nobody else waits");
        writer.done(now, &target("between"), &Answer::Written("2".into()), 1.0);
        assert_eq!(writer.window(), window);
        let next = writer.poll_timeout().unwrap();
        assert!(next <= now + PAUSE.1, "{round}: no longer than after an outage");
        now = next;
    }
}

#[test]
fn an_object_whose_writes_hang_holds_up_nobody_where_nothing_else_happens() {
    let (mut writer, mut now) = (Writer::default(), Instant::now());
    writer.put(target("bad"), write("1", "a"));
    for _ in 0..10 {
        assert_eq!(sent(&mut writer, now), ["bad:a"]);
        now += LATE;
        writer.done(now, &target("bad"), &Answer::Unavailable(None), 1.0);
        now = writer.poll_timeout().unwrap();
    }
    assert_eq!(sent(&mut writer, now), ["bad:a"]);
    writer.put(target("new"), write("1", "a"));
    assert_eq!(sent(&mut writer, now), ["new:a"]);
}

#[test]
fn what_asks_after_an_outage_and_hangs_holds_up_nobody() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    outage(&mut writer, now);
    let now = now + PAUSE.1;
    assert_eq!(sent(&mut writer, now), ["o00:a"]);
    assert_eq!(sent(&mut writer, now), [""; 0], "one asks");
    writer.put(target("new"), write("1", "a"));
    assert_eq!(sent(&mut writer, now), ["new:a"], "it may be the object that is bad");
    writer.put(target("newer"), write("1", "a"));
    assert_eq!(sent(&mut writer, now), [""; 0]);
    writer.done(now, &target("new"), &Answer::Written("2".into()), 1.0);
    assert_eq!(sent(&mut writer, now)[0], "o01:a", "it is back: those that waited go, in their order");
}

#[test]
fn what_has_not_failed_asks_first_after_an_outage() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    outage(&mut writer, now);
    writer.put(target("new"), write("1", "a"));
    assert_eq!(sent(&mut writer, now), [""; 0], "nothing is sent during the pause");
    assert_eq!(sent(&mut writer, now + PAUSE.1), ["new:a"]);
}

#[test]
fn objects_whose_writes_hang_do_not_take_all_places() {
    let (mut writer, mut now) = (Writer::default(), Instant::now());
    let window = writer.window();
    for n in 0..window {
        writer.put(target(&format!("bad{n}")), write("1", "a"));
    }
    for _ in 0..3 {
        assert_eq!(sent(&mut writer, now).len(), window);
        now += LATE;
        for target in flying(&writer) {
            writer.done(now, &target, &Answer::Unavailable(None), 1.0);
        }
        now = writer.poll_timeout().unwrap();
    }
    assert_eq!(sent(&mut writer, now).len(), window);
    assert_eq!(writer.poll_timeout(), None, "nothing else is to be sent");
    writer.put(target("new"), write("1", "a"));
    assert_eq!(sent(&mut writer, now), ["new:a"]);
}

#[test]
fn the_api_server_says_how_long_to_wait() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    writer.put(target("s"), write("1", "a"));
    sent(&mut writer, now);
    writer.done(now, &target("s"), &Answer::Unavailable(Some(Duration::from_secs(3))), 0.0);
    assert_eq!(writer.poll_timeout(), Some(now + Duration::from_secs(3)));
    assert_eq!(writer.poll(now + Duration::from_secs(2)), None);
    assert!(writer.poll(now + Duration::from_secs(3)).is_some());
}

#[test]
fn what_is_refused_is_tried_again_some_minutes_later_and_a_newer_word_at_once() {
    let (mut writer, now) = (Writer::default(), Instant::now());
    writer.put(target("s"), write("1", "refused"));
    assert_eq!(sent(&mut writer, now), ["s:refused"]);
    writer.done(now, &target("s"), &Answer::Invalid, 0.5);
    assert_eq!(sent(&mut writer, now + Duration::from_secs(60)), [""; 0]);
    let again = writer.poll_timeout().unwrap();
    assert!((REFUSED..REFUSED + RETRY.1).contains(&(again - now)), "{:?}", again - now);
    assert_eq!(sent(&mut writer, again), ["s:refused"]);
    writer.put(target("s"), write("2", "newer"));
    writer.done(again, &target("s"), &Answer::Invalid, 0.5);
    assert_eq!(sent(&mut writer, again), ["s:newer"]);
    writer.done(again, &target("s"), &Answer::Invalid, 0.5);
    writer.put(target("s"), write("2", "newer"));
    assert_eq!(sent(&mut writer, again), [""; 0], "the same once more");
    writer.put(target("s"), write("2", "newest"));
    assert_eq!(sent(&mut writer, again), ["s:newest"]);
}

#[test]
fn what_is_sent_again_is_counted_when_it_is_sent() {
    let answers = [Answer::Failed, Answer::Unavailable(None), Answer::Conflict, Answer::Invalid];
    for answer in answers {
        let (mut writer, now) = (Writer::default(), Instant::now());
        writer.put(target("s"), write("1", "a"));
        sent(&mut writer, now);
        writer.done(now, &target("s"), &answer, 0.5);
        assert_eq!(writer.repeats(), 0, "{answer:?}: it may become moot");
        let again = writer.poll_timeout().unwrap();
        assert_eq!(sent(&mut writer, again), ["s:a"]);
        assert_eq!(writer.repeats(), 1, "{answer:?}");
        writer.done(again, &target("s"), &answer, 0.5);
        writer.put(target("s"), write("2", "b"));
        let again = writer.poll_timeout().unwrap_or(again);
        assert_eq!(sent(&mut writer, again), ["s:b"]);
        assert_eq!(writer.repeats(), 1, "{answer:?}: another word");
        writer.put(target("s"), None);
        writer.done(again, &target("s"), &answer, 0.5);
        assert_eq!((writer.depth(), writer.repeats()), ((0, 0), 1), "{answer:?}: nothing is left to say");
    }
}
