//! Sequences of decisions, results and polls, and the writes that are sent.

use std::sync::Arc;

use serde_json::json;

use super::pending::RETRY;
use super::*;
use fairlead_allocator::reconcile::StatusPatch;
use fairlead_test_support::key;

fn target(name: &str) -> WriteTarget {
    WriteTarget::ServiceStatus(key(name))
}

fn write(version: &str, content: &str) -> Option<Write> {
    Some(Write { resource_version: version.into(), body: Arc::new(PatchBody::Json(json!(content))) })
}

/// Returns all writes that are sent now, as `name:content`.
fn transmit(queue: &mut WriteQueue, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| queue.poll_transmit(now))
        .map(|(target, write)| match target {
            WriteTarget::ServiceStatus(key) | WriteTarget::ClaimStatus(key) => {
                format!("{}:{}", key.name, String::from_utf8_lossy(&write.body.to_json()).trim_matches('"'))
            }
            WriteTarget::ObjectStatus(object) | WriteTarget::ObjectFinalizers(object) => object.to_string(),
            WriteTarget::PoolCooldown(pool) => pool,
        })
        .collect()
}

#[test]
fn writes_fill_the_window_in_order_of_arrival() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    let window = queue.window_size();
    for n in 0..window + 8 {
        queue.replace(target(&format!("s{n}")), write("1", "a"));
    }
    let first = transmit(&mut queue, now);
    assert_eq!((first.len(), first[window - 1].as_str()), (window, &*format!("s{}:a", window - 1)));
    assert_eq!(queue.poll_timeout(), None, "a result arrives before anything can be sent");
    assert!(queue.has_backlog());
    let later = now + Duration::from_millis(7);
    let took = queue.handle_write_result(later, &target("s1"), &WriteResult::Written("2".into()), 0.5);
    assert_eq!(took, Duration::from_millis(7));
    assert_eq!(transmit(&mut queue, later), [format!("s{window}:a")]);
}

/// Returns a write that concerns only what is announced.
fn background(version: &str) -> Option<Write> {
    let patch = StatusPatch {
        service: key("s"),
        resource_version: version.into(),
        pool_annotation: None,
        ingress: Vec::new(),
        special_ingress: Vec::new(),
        conditions: Vec::new(),
        is_background: true,
        other_conditions: Vec::new(),
    };
    Some(Write::from(Box::new(patch)))
}

#[test]
fn background_writes_are_sent_last() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    for name in ["b1", "b2", "b3"] {
        queue.replace(target(name), background("1"));
    }
    queue.replace(target("f1"), write("1", "a"));
    // An address for a Service whose announcement waits: its write does not stay behind the others.
    queue.replace(target("b2"), write("1", "a"));
    assert!(queue.has_foreground_backlog());
    let sent: Vec<WriteTarget> =
        std::iter::from_fn(|| queue.poll_transmit(now)).map(|(target, _)| target).collect();
    assert_eq!(sent, ["f1", "b2", "b1", "b3"].map(target));
    assert!(!queue.has_foreground_backlog());
    queue.replace(target("b4"), background("1"));
    assert!(!queue.has_foreground_backlog() && queue.has_backlog(), "Events do not wait for it");
}

#[test]
fn unsent_write_is_replaced_by_newest_decision() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    queue.replace(target("s"), write("1", "old"));
    queue.replace(target("s"), write("2", "new"));
    queue.replace(target("t"), write("1", "moot"));
    queue.replace(target("t"), None);
    assert_eq!(transmit(&mut queue, now), ["s:new"]);
}

#[test]
fn object_has_one_write_in_flight() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    queue.replace(target("s"), write("1", "first"));
    assert_eq!(transmit(&mut queue, now), ["s:first"]);
    queue.replace(target("s"), write("2", "second"));
    assert_eq!(transmit(&mut queue, now), [""; 0]);
    queue.handle_write_result(now, &target("s"), &WriteResult::Conflict, 0.5);
    assert_eq!(transmit(&mut queue, now), ["s:second"]);
}

#[test]
fn write_decided_on_replaced_version_is_dropped() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    queue.replace(target("s"), write("1", "first"));
    transmit(&mut queue, now);
    queue.replace(target("s"), write("1", "second"));
    queue.handle_write_result(now, &target("s"), &WriteResult::Written("2".into()), 0.5);
    assert_eq!(queue.depth(), (0, 0), "the watch delivers the new version");
}

#[test]
fn conflict_sends_newer_decision_or_retries_later() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    queue.replace(target("s"), write("1", "first"));
    transmit(&mut queue, now);
    queue.handle_write_result(now, &target("s"), &WriteResult::Conflict, 1.0);
    assert_eq!(transmit(&mut queue, now), [""; 0], "the watch has time to deliver the new version");
    queue.replace(target("s"), write("2", "newer"));
    assert_eq!(transmit(&mut queue, now + RETRY.0), ["s:newer"]);
    queue.handle_write_result(now, &target("s"), &WriteResult::Conflict, 1.0);
    assert_eq!(transmit(&mut queue, now + RETRY.1), ["s:newer"], "no newer decision: the write is retried");
}

#[test]
fn write_withdrawn_while_in_flight_is_not_retried() {
    for result in [WriteResult::Conflict, WriteResult::Failed, WriteResult::Unavailable(None)] {
        let (mut queue, now) = (WriteQueue::default(), Instant::now());
        queue.replace(target("s"), write("1", "first"));
        transmit(&mut queue, now);
        queue.replace(target("s"), None);
        assert!(queue.contains(&target("s")));
        queue.handle_write_result(now, &target("s"), &result, 0.5);
        assert!(!queue.contains(&target("s")), "{result:?}");
    }
}

#[test]
fn write_without_effect_does_not_drop_the_next() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    queue.replace(target("s"), write("1", "first"));
    transmit(&mut queue, now);
    queue.replace(target("s"), write("1", "second"));
    queue.handle_write_result(now, &target("s"), &WriteResult::Written("1".into()), 0.5);
    assert_eq!(transmit(&mut queue, now), ["s:second"]);
}

#[test]
fn failed_write_is_retried_without_delaying_others() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    queue.replace(target("s"), write("1", "a"));
    transmit(&mut queue, now);
    queue.handle_write_result(now, &target("s"), &WriteResult::Failed, 1.0);
    queue.replace(target("t"), write("1", "b"));
    assert_eq!(transmit(&mut queue, now), ["t:b"]);
    assert_eq!(queue.poll_timeout(), Some(now + RETRY.0));
    assert_eq!(transmit(&mut queue, now + RETRY.0), ["s:a"]);
    queue.handle_write_result(now, &target("s"), &WriteResult::Failed, 1.0);
    assert_eq!(queue.poll_timeout(), Some(now + 2 * RETRY.0), "the back-off grows");
}

/// Queues writes to as many other objects as make an outage; no write gets a response.
fn outage(queue: &mut WriteQueue, now: Instant) {
    for n in 0..OUTAGE_OBJECTS {
        queue.replace(target(&format!("o{n:02}")), write("1", "a"));
    }
    while !transmit(queue, now).is_empty() {
        for target in in_flight(queue) {
            queue.handle_write_result(now, &target, &WriteResult::Unavailable(None), 1.0);
        }
    }
}

fn in_flight(queue: &WriteQueue) -> Vec<WriteTarget> {
    queue.in_flight.keys().cloned().collect()
}

#[test]
fn outage_end_is_probed_by_one_write() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    for n in 0..100 {
        queue.replace(target(&format!("s{n:02}")), write("1", "a"));
    }
    outage(&mut queue, now);
    assert_eq!(transmit(&mut queue, now), [""; 0], "nothing is sent during the pause");
    let later = queue.poll_timeout().unwrap();
    assert!(later <= now + PAUSE.1);
    let probe = transmit(&mut queue, later);
    assert_eq!(probe, [format!("s{OUTAGE_OBJECTS}:a")], "one write probes the API server");
    queue.handle_write_result(
        later,
        &target(&format!("s{OUTAGE_OBJECTS}")),
        &WriteResult::Written("2".into()),
        0.5,
    );
    let (mut all, mut later) = (1, later);
    assert_eq!(transmit(&mut queue, later).len(), 2);
    all += 2;
    for round in 0..200 {
        later += Duration::from_millis(10);
        for target in in_flight(&queue) {
            queue.handle_write_result(later, &target, &WriteResult::Written("2".into()), 0.5);
        }
        all += transmit(&mut queue, later).len();
        assert!(round < 199);
        if queue.depth() == (0, 0) {
            break;
        }
    }
    assert_eq!(all, 100 + OUTAGE_OBJECTS, "every write is sent exactly once");
}

/// Advances the time, with an API server that responds after 5 ms. Returns the number of responses.
fn run(
    queue: &mut WriteQueue,
    now: &mut Instant,
    time: Duration,
    result: impl Fn(&WriteTarget) -> WriteResult,
) -> usize {
    let (end, latency) = (*now + time, Duration::from_millis(5));
    let mut responses = 0;
    while *now < end {
        transmit(queue, *now);
        *now += latency;
        for target in in_flight(queue) {
            queue.handle_write_result(*now, &target, &result(&target), 0.5);
            responses += 1;
        }
    }
    responses
}

fn written(_: &WriteTarget) -> WriteResult {
    WriteResult::Written("2".into())
}

#[test]
fn api_server_failing_all_writes_gets_one_at_a_time() {
    let (mut queue, mut now) = (WriteQueue::default(), Instant::now());
    let second = Duration::from_secs(1);
    for n in 0..2000 {
        queue.replace(target(&format!("s{n:04}")), write("1", "a"));
    }
    let first = run(&mut queue, &mut now, second, |_| WriteResult::Failed);
    assert!((OUTAGE_OBJECTS..2 * OUTAGE_OBJECTS).contains(&first), "{first} in the first second");
    run(&mut queue, &mut now, 10 * second, |_| WriteResult::Failed);
    let minute = run(&mut queue, &mut now, 60 * second, |_| WriteResult::Failed);
    assert!((10..30).contains(&minute), "{minute} in a minute");
    assert_eq!(queue.window_size(), 1);
    let back = run(&mut queue, &mut now, 2 * PAUSE.1, written);
    assert_eq!((back, queue.depth()), (2000, (0, 0)), "all are written soon after it recovers");
}

#[test]
fn few_failing_objects_do_not_delay_others() {
    let (mut queue, mut now) = (WriteQueue::default(), Instant::now());
    let second = Duration::from_secs(1);
    let bad: Vec<WriteTarget> = (0..OUTAGE_OBJECTS - 1).map(|n| target(&format!("bad{n}"))).collect();
    for target in &bad {
        queue.replace(target.clone(), write("1", "a"));
    }
    run(&mut queue, &mut now, 60 * second, |_| WriteResult::Failed);
    for n in 0..2000 {
        queue.replace(target(&format!("s{n}")), write("1", "a"));
    }
    assert_eq!(transmit(&mut queue, now).len(), queue.window_size(), "nothing pauses");
    run(&mut queue, &mut now, 2 * second, |target| match bad.contains(target) {
        true => WriteResult::Failed,
        false => written(target),
    });
    assert_eq!(queue.depth().0, OUTAGE_OBJECTS - 1, "all others are written");
    assert!(queue.window_size() > 4, "failures do not keep the window small");
}

/// Time limit of a write.
const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn object_with_hanging_writes_does_not_delay_others() {
    let (mut queue, mut now) = (WriteQueue::default(), Instant::now());
    let window = queue.window_size();
    queue.replace(target("bad"), write("1", "a"));
    for round in 0..10 {
        assert_eq!(transmit(&mut queue, now), ["bad:a"], "{round}");
        queue.replace(target("while"), write("1", "a"));
        assert_eq!(transmit(&mut queue, now), ["while:a"], "{round}: while it hangs");
        queue.handle_write_result(now, &target("while"), &WriteResult::Written("2".into()), 1.0);
        now += TIMEOUT;
        queue.handle_write_result(now, &target("bad"), &WriteResult::Unavailable(None), 1.0);
        assert_eq!(transmit(&mut queue, now), [""; 0], "{round}: it backs off");
        queue.replace(target("between"), write("1", "a"));
        assert_eq!(transmit(&mut queue, now), ["between:a"], "{round}: other objects do not wait");
        queue.handle_write_result(now, &target("between"), &WriteResult::Written("2".into()), 1.0);
        assert_eq!(queue.window_size(), window);
        let next = queue.poll_timeout().unwrap();
        assert!(next <= now + PAUSE.1, "{round}: no longer than after an outage");
        now = next;
    }
}

#[test]
fn hanging_object_alone_does_not_delay_a_new_one() {
    let (mut queue, mut now) = (WriteQueue::default(), Instant::now());
    queue.replace(target("bad"), write("1", "a"));
    for _ in 0..10 {
        assert_eq!(transmit(&mut queue, now), ["bad:a"]);
        now += TIMEOUT;
        queue.handle_write_result(now, &target("bad"), &WriteResult::Unavailable(None), 1.0);
        now = queue.poll_timeout().unwrap();
    }
    assert_eq!(transmit(&mut queue, now), ["bad:a"]);
    queue.replace(target("new"), write("1", "a"));
    assert_eq!(transmit(&mut queue, now), ["new:a"]);
}

#[test]
fn hanging_probe_does_not_delay_a_new_object() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    outage(&mut queue, now);
    let now = now + PAUSE.1;
    assert_eq!(transmit(&mut queue, now), ["o00:a"]);
    assert_eq!(transmit(&mut queue, now), [""; 0], "one write probes");
    queue.replace(target("new"), write("1", "a"));
    assert_eq!(transmit(&mut queue, now), ["new:a"], "only the object of the probe may fail");
    queue.replace(target("newer"), write("1", "a"));
    assert_eq!(transmit(&mut queue, now), [""; 0]);
    queue.handle_write_result(now, &target("new"), &WriteResult::Written("2".into()), 1.0);
    assert_eq!(
        transmit(&mut queue, now)[0],
        "o01:a",
        "after the first success the waiting writes follow in order"
    );
}

#[test]
fn probe_prefers_a_write_that_never_failed() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    outage(&mut queue, now);
    queue.replace(target("new"), write("1", "a"));
    assert_eq!(transmit(&mut queue, now), [""; 0], "nothing is sent during the pause");
    assert_eq!(transmit(&mut queue, now + PAUSE.1), ["new:a"]);
}

#[test]
fn hanging_objects_leave_capacity_for_others() {
    let (mut queue, mut now) = (WriteQueue::default(), Instant::now());
    let window = queue.window_size();
    for n in 0..window {
        queue.replace(target(&format!("bad{n}")), write("1", "a"));
    }
    for _ in 0..3 {
        assert_eq!(transmit(&mut queue, now).len(), window);
        now += TIMEOUT;
        for target in in_flight(&queue) {
            queue.handle_write_result(now, &target, &WriteResult::Unavailable(None), 1.0);
        }
        now = queue.poll_timeout().unwrap();
    }
    assert_eq!(transmit(&mut queue, now).len(), window);
    assert_eq!(queue.poll_timeout(), None, "nothing else is ready");
    queue.replace(target("new"), write("1", "a"));
    assert_eq!(transmit(&mut queue, now), ["new:a"]);
}

#[test]
fn retry_after_pauses_all_writes() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    queue.replace(target("s"), write("1", "a"));
    transmit(&mut queue, now);
    queue.handle_write_result(
        now,
        &target("s"),
        &WriteResult::Unavailable(Some(Duration::from_secs(3))),
        0.0,
    );
    assert_eq!(queue.poll_timeout(), Some(now + Duration::from_secs(3)));
    assert_eq!(queue.poll_transmit(now + Duration::from_secs(2)), None);
    assert!(queue.poll_transmit(now + Duration::from_secs(3)).is_some());
}

#[test]
fn refused_write_is_retried_within_30_s_then_in_minutes() {
    let (mut queue, begin) = (WriteQueue::default(), Instant::now());
    queue.replace(target("s"), write("1", "refused"));
    let mut now = begin;
    let mut sent = 0;
    while now < begin + REFUSED_SOON {
        assert_eq!(transmit(&mut queue, now), ["s:refused"]);
        queue.handle_write_result(now, &target("s"), &WriteResult::Refused, 1.0);
        sent += 1;
        let next = queue.poll_timeout().unwrap();
        assert!(next - now <= REFUSED_RETRY || now - begin >= REFUSED_SOON, "{:?}", next - now);
        now = next;
    }
    assert!((10..20).contains(&sent), "{sent} times in the first minutes");
    assert_eq!(transmit(&mut queue, now), ["s:refused"]);
    queue.handle_write_result(now, &target("s"), &WriteResult::Refused, 1.0);
    assert_eq!(queue.poll_timeout(), Some(now + REFUSED_LATER + RETRY.1));
}

#[test]
fn new_patch_is_sent_at_once_after_a_refusal() {
    let (mut queue, now) = (WriteQueue::default(), Instant::now());
    queue.replace(target("s"), write("1", "refused"));
    assert_eq!(transmit(&mut queue, now), ["s:refused"]);
    queue.replace(target("s"), write("2", "newer"));
    queue.handle_write_result(now, &target("s"), &WriteResult::Refused, 0.5);
    assert_eq!(transmit(&mut queue, now), ["s:newer"]);
    queue.handle_write_result(now, &target("s"), &WriteResult::Refused, 0.5);
    queue.replace(target("s"), write("2", "newer"));
    assert_eq!(transmit(&mut queue, now), [""; 0], "the same patch waits");
    queue.replace(target("s"), write("2", "newest"));
    assert_eq!(transmit(&mut queue, now), ["s:newest"]);
}

#[test]
fn refused_objects_do_not_delay_others() {
    let (mut queue, mut now) = (WriteQueue::default(), Instant::now());
    let second = Duration::from_secs(1);
    let is_bad = |target: &WriteTarget| format!("{target:?}").contains("bad");
    let answer = |target: &WriteTarget| if is_bad(target) { WriteResult::Refused } else { written(target) };
    for n in 0..24 * OUTAGE_OBJECTS {
        queue.replace(target(&format!("bad{n}")), write("1", "a"));
    }
    run(&mut queue, &mut now, 10 * second, answer);
    for n in 0..100 {
        queue.replace(target(&format!("s{n}")), write("1", "a"));
        let sent = now;
        while queue.contains(&target(&format!("s{n}"))) {
            run(&mut queue, &mut now, Duration::from_millis(5), answer);
        }
        assert!(now - sent <= Duration::from_millis(50), "{:?}", now - sent);
        run(&mut queue, &mut now, second / 4, answer);
    }
}

#[test]
fn refusals_do_not_hide_an_outage() {
    let (mut queue, mut now) = (WriteQueue::default(), Instant::now());
    for n in 0..1000 {
        queue.replace(target(&format!("{}{n}", if n % 2 == 0 { "bad" } else { "s" })), write("1", "a"));
    }
    let sent = run(&mut queue, &mut now, Duration::from_secs(1), |target| {
        if format!("{target:?}").contains("bad") { WriteResult::Refused } else { WriteResult::Failed }
    });
    assert!(sent < 10 * OUTAGE_OBJECTS, "{sent} in the first second");
}

/// Advances the time, with an API server that admits `seats` writes at a time, takes 5 ms for each and
/// rejects others with a pause of one second. Returns how many it rejected.
fn run_with_seats(queue: &mut WriteQueue, now: &mut Instant, time: Duration, seats: usize) -> usize {
    let end = *now + time;
    let mut rejected = 0;
    while *now < end {
        let before: BTreeSet<WriteTarget> = in_flight(queue).into_iter().collect();
        let mut free = seats - before.len();
        transmit(queue, *now);
        for target in in_flight(queue).into_iter().filter(|target| !before.contains(target)) {
            if free > 0 {
                free -= 1;
                continue;
            }
            rejected += 1;
            let wait = Some(Duration::from_secs(1));
            queue.handle_write_result(*now, &target, &WriteResult::Unavailable(wait), 0.5);
        }
        *now += Duration::from_millis(5);
        for target in in_flight(queue) {
            queue.handle_write_result(*now, &target, &WriteResult::Written("2".into()), 0.5);
        }
    }
    rejected
}

#[test]
fn few_seats_are_used_without_many_rejections() {
    for (seats, expected) in [(1, 3000), (3, 9000), (40, 20_000)] {
        let (mut queue, mut now) = (WriteQueue::default(), Instant::now());
        for n in 0..20_000 {
            queue.replace(target(&format!("s{n}")), write("1", "a"));
        }
        let rejected = run_with_seats(&mut queue, &mut now, Duration::from_secs(30), seats);
        let written = 20_000 - queue.depth().0 - queue.depth().1;
        assert!(written >= expected, "{seats} seats: {written} in 30 s, {rejected} rejected");
        assert!(rejected <= 400, "{seats} seats: {rejected} rejected");
    }
}

#[test]
fn retry_is_counted_when_it_is_sent() {
    let results =
        [WriteResult::Failed, WriteResult::Unavailable(None), WriteResult::Conflict, WriteResult::Refused];
    for result in results {
        let (mut queue, now) = (WriteQueue::default(), Instant::now());
        queue.replace(target("s"), write("1", "a"));
        transmit(&mut queue, now);
        queue.handle_write_result(now, &target("s"), &result, 0.5);
        assert_eq!(queue.retries(), 0, "{result:?}: the retry may be withdrawn");
        let again = queue.poll_timeout().unwrap();
        assert_eq!(transmit(&mut queue, again), ["s:a"]);
        assert_eq!(queue.retries(), 1, "{result:?}");
        queue.handle_write_result(again, &target("s"), &result, 0.5);
        queue.replace(target("s"), write("2", "b"));
        let again = queue.poll_timeout().unwrap_or(again);
        assert_eq!(transmit(&mut queue, again), ["s:b"]);
        assert_eq!(queue.retries(), 1, "{result:?}: a new decision is not a retry");
        queue.replace(target("s"), None);
        queue.handle_write_result(again, &target("s"), &result, 0.5);
        assert_eq!((queue.depth(), queue.retries()), ((0, 0), 1), "{result:?}: nothing is left to write");
    }
}
