//! What is written into the object of this node, and when, in simulated time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::announced_lists::AnnouncedList;
use crate::node_status::SessionView;
use crate::{DrainCause, DrainPhase, NotAnnouncedReason};

/// A node whose object is reported, and the simulated time in milliseconds.
struct Bench {
    object: SpeakerObject,
    report: SpeakerReport,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        let report = SpeakerReport {
            node_uid: Some("u1".to_owned()),
            mesh: Some(MeshEndpoint {
                address: "192.0.2.1:7947".parse().unwrap(),
                key_fingerprint: "1a30ee5d22fa3af2".to_owned(),
                macs: vec![[2, 0, 0, 0, 0, 1]],
            }),
            ..SpeakerReport::default()
        };
        Self { object: SpeakerObject::new("n1", &Instance::default()), report, start: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// Returns whether the object and the status are written at this time.
    fn poll(&mut self, ms: u64) -> (bool, bool) {
        self.object.handle_report(self.report.clone());
        let time = Timestamp::from_millisecond(ms as i64).unwrap();
        let write = self.object.poll_write(self.at(ms), time);
        write.map_or((false, false), |write| (write.object.is_some(), write.status.is_some()))
    }

    fn timeout(&self) -> Option<u128> {
        self.object.poll_timeout().map(|then| (then - self.start).as_millis())
    }
}

#[test]
fn object_is_written_with_its_owner_and_status() {
    let mut bench = Bench::new();
    bench.object.handle_report(bench.report.clone());
    let write = bench.object.poll_write(bench.start, Timestamp::UNIX_EPOCH).unwrap();
    let object = write.object.unwrap();
    assert_eq!(object["metadata"]["name"], "n1");
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u1");
    let mesh = json!({"address": "192.0.2.1", "port": 7947, "keyFingerprint": "1a30ee5d22fa3af2",
        "macs": ["02:00:00:00:00:01"]});
    assert_eq!(object["spec"], json!({"mesh": mesh}));
    let status = write.status.unwrap();
    assert_eq!(status["metadata"], json!({"name": "n1"}));
    assert_eq!(status["status"]["conditions"][0]["type"], "Eligible");
    assert!(status.get("spec").is_none() && object.get("status").is_none());
}

#[test]
fn object_of_a_class_has_a_name_of_its_own() {
    let mut bench = Bench::new();
    let instance = Instance { class: Some("example.com/b".to_owned()), namespace: "b".to_owned() };
    bench.object = SpeakerObject::new("n1", &instance);
    bench.report.mesh = None;
    bench.object.handle_report(bench.report.clone());
    let write = bench.object.poll_write(bench.start, Timestamp::UNIX_EPOCH).unwrap();
    let (object, status) = (write.object.unwrap(), write.status.unwrap());
    assert_eq!((&object["metadata"]["name"], &status["metadata"]["name"]), (&json!("n1.b"), &json!("n1.b")));
    assert_eq!(object["metadata"]["ownerReferences"][0]["name"], "n1");
    assert_eq!(object["spec"], json!({"loadBalancerClass": "example.com/b"}));
    assert_eq!(bench.object.name(), "n1.b");
}

#[test]
fn nothing_is_written_without_a_node() {
    let mut bench = Bench::new();
    bench.report.node_uid = None;
    assert_eq!((bench.poll(0), bench.timeout()), ((false, false), None));
    bench.report.node_uid = Some("u1".to_owned());
    assert_eq!(bench.poll(10), (true, true));
}

#[test]
fn object_that_is_deleted_again_and_again_is_rarely_written() {
    let mut bench = Bench::new();
    let writes_in = |bench: &mut Bench, from: u64, to: u64| {
        let mut writes = 0;
        for ms in (from..to).step_by(100) {
            if bench.poll(ms).0 {
                bench.object.handle_written(bench.at(ms));
                bench.report.deletions += 1;
                writes += 1;
            }
        }
        writes
    };
    let writes = writes_in(&mut bench, 0, 10_000);
    assert!((4..=7).contains(&writes), "{writes} writes in 10 s");
    let writes = writes_in(&mut bench, 10_000, 3_610_000);
    assert!((100..=125).contains(&writes), "{writes} writes in an hour");
    // After ten quiet minutes, a single deletion is corrected at once.
    bench.poll(3_700_000);
    bench.object.handle_written(bench.at(3_700_000));
    bench.report.deletions += 1;
    assert_eq!(bench.poll(4_400_000), (true, true));
}

#[test]
fn change_writes_only_the_part_that_differs() {
    type Change = fn(&mut Bench);
    let table: [(&str, Change, (bool, bool)); 7] = [
        ("nothing", |_| {}, (false, false)),
        ("mesh address", |b| b.report.mesh = None, (true, true)),
        ("UID of the Node", |b| b.report.node_uid = Some("u2".to_owned()), (true, true)),
        ("report that the speaker does not respond", |b| b.report.silence_reports += 1, (false, true)),
        ("addresses announced", |b| b.report.summary.l2 += 1, (false, true)),
        (
            "a session",
            |b| b.object.handle_sessions([("tor".to_owned(), SessionView::default())].into()),
            (false, true),
        ),
        ("deletion of the object", |b| b.report.deletions += 1, (true, true)),
    ];
    for (what, change, expected) in table {
        let mut bench = Bench::new();
        assert_eq!(bench.poll(0), (true, true));
        bench.object.handle_written(bench.at(0));
        assert_eq!(bench.poll(5_000), (false, false), "{what}");
        change(&mut bench);
        assert_eq!(bench.poll(6_000), expected, "{what}");
    }
}

#[test]
fn writes_are_an_interval_apart() {
    let mut bench = Bench::new();
    assert_eq!(bench.poll(0), (true, true));
    bench.object.handle_written(bench.at(0));
    assert_eq!((bench.poll(10), bench.timeout()), ((false, false), None), "at rest");
    bench.report.summary.bgp = 1;
    assert_eq!((bench.poll(20), bench.timeout()), ((false, false), Some(1000)));
    bench.report.summary.bgp = 0;
    assert_eq!(bench.poll(30), (false, false));
    assert_eq!((bench.poll(1000), bench.timeout()), ((false, false), None), "the change is undone");
    bench.report.summary.bgp = 2;
    assert_eq!((bench.poll(1010), bench.timeout()), ((false, true), None));
}

fn session(attempts: u64) -> Sessions {
    [("tor".to_owned(), SessionView { attempts, ..SessionView::default() })].into()
}

/// Returns what a node with 4,000 addresses announces, none adjacent to another.
fn fragmented() -> Arc<AnnouncedList> {
    let addresses = (0..4_000u32).map(|n| IpAddr::from(Ipv4Addr::from_bits(0xc000_0200 + 2 * n)));
    Arc::new(AnnouncedList { l2: addresses.collect(), l2_count: 4_000, ..AnnouncedList::default() })
}

#[test]
fn status_is_built_only_when_it_may_be_written() {
    let mut bench = Bench::new();
    assert_eq!((bench.poll(0), bench.object.builds()), ((true, true), 1));
    bench.object.handle_written(bench.at(0));
    for ms in 1..1_000 {
        bench.object.handle_sessions(session(1 << ms.min(20)));
        assert_eq!(bench.poll(ms), (false, false), "{ms}");
    }
    assert_eq!((bench.object.builds(), bench.timeout()), (1, Some(1_000)));
    assert_eq!((bench.poll(1_000), bench.object.builds()), ((false, true), 2));
    bench.object.handle_written(bench.at(1_000));
    for ms in 2_000..3_000 {
        bench.poll(ms);
    }
    assert_eq!(bench.object.builds(), 2, "nothing changed");
}

#[test]
fn large_list_is_written_less_often() {
    let writes = |list: Arc<AnnouncedList>| {
        let mut bench = Bench::new();
        bench.report.summary.announced = list;
        let mut written_at = Vec::new();
        for ms in (0..60_000).step_by(100) {
            bench.report.summary.l2 = ms as usize;
            if bench.poll(ms).1 {
                bench.object.handle_written(bench.at(ms));
                written_at.push(ms);
            }
        }
        written_at
    };
    assert_eq!(writes(Arc::default()).len(), 60);
    let written_at = writes(fragmented());
    assert_eq!(written_at[0], 0, "the first write does not wait");
    assert!((10..=20).contains(&written_at.len()), "{written_at:?}");
}

#[test]
fn urgent_change_does_not_wait_for_the_interval_of_a_large_list() {
    type Change = fn(&mut Bench);
    let table: [(&str, Change, bool); 6] = [
        ("an address", |b| b.report.summary.l2 += 1, false),
        ("a session", |b| b.object.handle_sessions(session(1)), false),
        ("readiness", |b| b.report.summary.ready = !b.report.summary.ready, true),
        ("mesh address", |b| b.report.mesh = None, true),
        ("eligibility", |b| b.report.summary.node = Some(NotAnnouncedReason::NodeExcluded), true),
        ("drain", |b| b.report.summary.drain = Some((DrainCause::Label, DrainPhase::Deprioritized)), true),
    ];
    for (what, change, is_urgent) in table {
        let mut bench = Bench::new();
        bench.report.summary.announced = fragmented();
        assert_eq!(bench.poll(0), (true, true));
        bench.object.handle_written(bench.at(0));
        change(&mut bench);
        let (object, status) = bench.poll(1_000);
        assert_eq!(object || status, is_urgent, "{what}");
        let due = bench.timeout();
        assert_eq!(due.is_some_and(|ms| (2_000..10_000).contains(&ms)), !is_urgent, "{what}: {due:?}");
    }
}

#[test]
fn failed_write_is_retried_after_its_delay() {
    let mut bench = Bench::new();
    assert_eq!(bench.poll(0), (true, true));
    bench.object.handle_failure(bench.at(100), Duration::from_secs(8));
    assert_eq!((bench.poll(1_200), bench.timeout()), ((false, false), Some(8_100)));
    assert_eq!(bench.poll(8_100), (true, true));
    bench.object.handle_failure(bench.at(8_100), Duration::ZERO);
    assert_eq!((bench.poll(8_200), bench.timeout()), ((false, false), Some(9_100)));
}

#[test]
fn deletion_during_a_write_causes_another_write() {
    let mut bench = Bench::new();
    assert_eq!(bench.poll(0), (true, true));
    bench.report.deletions = 1;
    bench.object.handle_report(bench.report.clone());
    bench.object.handle_written(bench.at(50));
    assert_eq!((bench.poll(60), bench.timeout()), ((false, false), Some(1050)));
    assert_eq!(bench.poll(1050), (true, true));
}

#[test]
fn stopping_speaker_writes_twice_without_an_interval() {
    let mut bench = Bench::new();
    bench.report.summary.ready = true;
    assert_eq!(
        bench.object.stop(StopPhase::Stopped { is_expected: true }, Timestamp::UNIX_EPOCH),
        None,
        "there is no object"
    );
    assert_eq!(bench.poll(0), (true, true));
    bench.object.handle_written(bench.at(0));
    for (phase, reason) in
        [(StopPhase::Stopping, "Stopping"), (StopPhase::Stopped { is_expected: true }, "Stopped")]
    {
        let mut write = bench.object.stop(phase, Timestamp::UNIX_EPOCH).unwrap();
        write.set_observed_generation(Some(7));
        let status = &write.status.unwrap()["status"];
        assert_eq!((write.object, &status["ready"]), (None, &json!(false)));
        let conditions = status["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!(reason)));
        assert!(conditions.iter().all(|condition| condition["observedGeneration"] == 7), "{conditions:?}");
    }
}

#[test]
fn repeated_reports_of_silence_cause_few_writes() {
    let mut bench = Bench::new();
    let mut writes = 0;
    for ms in (0..60_000).step_by(100) {
        if bench.poll(ms) != (false, false) {
            bench.object.handle_written(bench.at(ms));
            bench.report.silence_reports += 1;
            writes += 1;
        }
    }
    assert!((4..=9).contains(&writes), "{writes} writes in a minute");
}

#[test]
fn unchanged_condition_keeps_its_transition_time() {
    let mut bench = Bench::new();
    let time = |bench: &mut Bench, ms: u64, l2: usize| {
        bench.report.summary.l2 = l2;
        bench.object.handle_report(bench.report.clone());
        let now = bench.at(ms);
        let write = bench.object.poll_write(now, Timestamp::from_millisecond(ms as i64).unwrap());
        bench.object.handle_written(now);
        write.unwrap().status.unwrap()["status"]["conditions"][0]["lastTransitionTime"].clone()
    };
    let first = time(&mut bench, 0, 1);
    assert_eq!(time(&mut bench, 60_000, 2), first);
}
