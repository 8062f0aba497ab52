//! The status of a `Speaker` whose speaker does not run: it announces nothing, whatever it wrote before.
//!
//! A speaker that stops writes it for itself. For a speaker that does not respond, a speaker of another node
//! writes it, or the controller. `config/rbac/policy.yaml` admits only what [`report`] returns from these
//! writers: change both together.

use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use serde_json::{Value, json};

use crate::conditions::{self, NewCondition, RawCondition};
use crate::names::{READY, reasons};
use crate::v1beta1::{Announced, L2Status, Session, Speaker, SpeakerStatus};

/// State of the BGP sessions of a speaker that does not run (RFC 4271).
const IDLE: &str = "Idle";

/// Message of the condition `Ready` with the reason `Stopped`, of a speaker that is expected to start again.
pub const STOPPED: &str = "the speaker has stopped";

/// The same, of a speaker whose Node is to remain without one.
pub const LEFT: &str = "the speaker has stopped, and its Node is to remain without one: it is being drained \
     or shut down, or the DaemonSet was deleted";

/// Message of the condition `Ready` with the reason `NotResponding`.
pub const NOT_RESPONDING: &str =
    "the speaker does not respond: see the state of the Node, and of its Pod in kubectl get pods";

/// Returns the status of a speaker that begins to stop. What it announces is withdrawn from now on.
pub fn stopping(before: &SpeakerStatus, now: Timestamp) -> SpeakerStatus {
    let ready = NewCondition::new(READY, false, reasons::STOPPING, "the speaker is stopping");
    SpeakerStatus {
        ready: Some(false),
        conditions: with_ready(&before.conditions, ready, now),
        ..before.clone()
    }
}

/// Returns the status of a speaker that has stopped. `is_expected`: it is expected to start again. Then its
/// BGP sessions remain, so that the BGPPeers count them as not established; else its Node is to have none.
pub fn stopped(before: &SpeakerStatus, is_expected: bool, now: Timestamp) -> SpeakerStatus {
    let message = if is_expected { STOPPED } else { LEFT };
    let ready = NewCondition::new(READY, false, reasons::STOPPED, message);
    let stopped = without_announcements(before, ready, now);
    if is_expected { with_idle_sessions(stopped, before) } else { stopped }
}

/// Returns the status of a speaker that does not respond; `None` if its object already shows that it does not
/// run. `generation` is `metadata.generation` of the object.
///
/// The BGP sessions remain, so that the BGPPeers count them as not established: the speaker should have them.
pub fn not_responding(
    before: &SpeakerStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<SpeakerStatus> {
    if before.ready != Some(true) {
        return None;
    }
    let ready = NewCondition::new(READY, false, reasons::NOT_RESPONDING, NOT_RESPONDING);
    let silent = without_announcements(before, ready.observed_generation(generation), now);
    Some(with_idle_sessions(silent, before))
}

/// Returns the server-side apply patch of the status subresource that reports that a speaker does not
/// respond; `None` if its object already shows that it does not run. Apply it with the field manager
/// [`names::SPEAKER`](crate::names::SPEAKER), as the speaker itself does, so that the next write of the
/// speaker replaces it. The API server rejects the patch if the object changed since it was read: the speaker
/// has written it.
pub fn report(speaker: &Speaker, now: Timestamp) -> Option<Value> {
    let metadata = &speaker.metadata;
    let status = not_responding(speaker.status.as_ref()?, metadata.generation, now)?;
    Some(json!({
        "apiVersion": Speaker::api_version(&()),
        "kind": Speaker::kind(&()),
        "metadata": { "name": metadata.name, "resourceVersion": metadata.resource_version },
        "status": status,
    }))
}

/// Returns whether the condition `Ready` says that the speaker does not respond.
pub fn is_reported(conditions: &[RawCondition]) -> bool {
    conditions::find(conditions, READY).is_some_and(|ready| {
        ready.status() == conditions::status(false) && ready.reason() == reasons::NOT_RESPONDING
    })
}

fn without_announcements(before: &SpeakerStatus, ready: NewCondition, now: Timestamp) -> SpeakerStatus {
    let nothing = Announced { announced: 0, addresses: Vec::new(), complete: Some(true) };
    SpeakerStatus {
        version: before.version.clone(),
        ready: Some(false),
        l2: Some(L2Status {
            announced: nothing.clone(),
            interfaces: Some(Vec::new()),
            ..L2Status::default()
        }),
        bgp: Some(nothing),
        not_announced_count: Some(0),
        conditions: with_ready(&before.conditions, ready, now),
        ..SpeakerStatus::default()
    }
}

/// Adds the sessions that the speaker should have, none of them established.
fn with_idle_sessions(status: SpeakerStatus, before: &SpeakerStatus) -> SpeakerStatus {
    let sessions: Vec<Session> = before.sessions.iter().map(idle).collect();
    let established_sessions = (!sessions.is_empty()).then(|| format!("0/{}", sessions.len()));
    SpeakerStatus { established_sessions, sessions, ..status }
}

fn with_ready(before: &[RawCondition], ready: NewCondition, now: Timestamp) -> Vec<RawCondition> {
    conditions::merge(before, &[READY], [ready], now)
}

fn idle(session: &Session) -> Session {
    Session {
        peer: session.peer.clone(),
        address: session.address.clone(),
        state: IDLE.to_owned(),
        ..Session::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1beta1::L2Interface;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The status of a speaker that runs.
    fn running() -> SpeakerStatus {
        let announced = |address: &str| Announced {
            announced: 1,
            addresses: vec![address.to_owned()],
            complete: Some(true),
        };
        let condition = |type_, reason: &'static str| NewCondition::new(type_, true, reason, "").since(at(1));
        SpeakerStatus {
            version: Some("1.2.3".to_owned()),
            ready: Some(true),
            sessions: vec![Session {
                peer: "tor".to_owned(),
                address: "192.0.2.1".to_owned(),
                state: "Established".to_owned(),
                phase: "Established".to_owned(),
                prefixes: 1,
                ..Session::default()
            }],
            established_sessions: Some("1/1".to_owned()),
            l2: Some(L2Status {
                announced: announced("192.0.2.200"),
                interfaces: Some(vec![L2Interface {
                    name: "eth0".to_owned(),
                    families: vec!["IPv4".to_owned()],
                }]),
                ..L2Status::default()
            }),
            bgp: Some(announced("198.51.100.1")),
            not_announced: vec![Default::default()],
            not_announced_count: Some(1),
            l2_detection: Some("fast".to_owned()),
            conditions: vec![condition("Eligible", "Eligible"), condition(READY, "Running")],
        }
    }

    fn ready(status: &SpeakerStatus) -> (&str, &str, Option<Timestamp>) {
        let ready = conditions::find(&status.conditions, READY).unwrap();
        (ready.status(), ready.reason(), ready.last_transition_time())
    }

    #[test]
    fn stopping_speaker_keeps_what_it_still_announces() {
        let status = stopping(&running(), at(9));
        assert_eq!(ready(&status), ("False", "Stopping", Some(at(9))));
        assert_eq!(
            (status.ready, &status.l2, &status.sessions),
            (Some(false), &running().l2, &running().sessions)
        );
    }

    #[test]
    fn stopped_speaker_announces_nothing() {
        let status = stopped(&stopping(&running(), at(9)), true, at(12));
        assert_eq!(ready(&status), ("False", "Stopped", Some(at(9))));
        assert_eq!(status.ready, Some(false));
        assert_eq!(status.l2.as_ref().unwrap().interfaces, Some(vec![]));
        for announced in [status.l2.map(|l2| l2.announced), status.bgp] {
            let announced = announced.unwrap();
            assert_eq!(
                (announced.announced, announced.addresses.len(), announced.complete),
                (0, 0, Some(true))
            );
        }
        assert_eq!((status.not_announced.len(), status.not_announced_count), (0, Some(0)));
        assert_eq!(status.conditions[0], running().conditions[0], "the node remains eligible");
    }

    #[test]
    fn sessions_are_wanted_while_the_node_is_to_have_a_speaker() {
        let (running, now) = (running(), at(9));
        let without = SpeakerStatus { sessions: vec![], established_sessions: None, ..running.clone() };
        for (what, status, wanted) in [
            ("runs", running.clone(), Some("1/1")),
            ("is stopping", stopping(&running, now), Some("1/1")),
            ("restarts", stopped(&running, true, now), Some("0/1")),
            ("does not respond", not_responding(&running, None, now).unwrap(), Some("0/1")),
            ("is to remain without one", stopped(&running, false, now), None),
            ("restarts without BGPPeers", stopped(&without, true, now), None),
        ] {
            assert_eq!(status.established_sessions.as_deref(), wanted, "{what}");
            assert_eq!(status.sessions.is_empty(), wanted.is_none(), "{what}");
            let up = status.sessions.iter().filter(|session| session.state == "Established").count();
            assert_eq!(up > 0, wanted == Some("1/1"), "{what}");
        }
    }

    #[test]
    fn silent_speaker_keeps_its_sessions_as_idle() {
        let status = not_responding(&running(), Some(3), at(9)).unwrap();
        assert_eq!(ready(&status), ("False", "NotResponding", Some(at(9))));
        let condition = conditions::find(&status.conditions, READY).unwrap();
        assert_eq!((condition.observed_generation(), condition.message()), (Some(3), NOT_RESPONDING));
        assert_eq!(status.established_sessions.as_deref(), Some("0/1"));
        let [session] = status.sessions.as_slice() else { panic!("{:?}", status.sessions) };
        let expected = ("tor", "192.0.2.1", "Idle", "", 0);
        let Session { peer, address, state, phase, prefixes, .. } = session;
        assert_eq!((&**peer, &**address, &**state, &**phase, *prefixes), expected);
        assert!(is_reported(&status.conditions) && !is_reported(&running().conditions));
    }

    #[test]
    fn speaker_that_does_not_run_is_not_reported_again() {
        let table = [
            stopping(&running(), at(2)),
            stopped(&running(), true, at(2)),
            stopped(&running(), false, at(2)),
            not_responding(&running(), None, at(2)).unwrap(),
            SpeakerStatus::default(),
        ];
        for status in table {
            assert_eq!(not_responding(&status, None, at(3)), None, "{status:?}");
        }
    }
}
