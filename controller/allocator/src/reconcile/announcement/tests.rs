use std::net::IpAddr;

use fairlead_crds::v1beta1::Speaker;
use serde_json::{Value, json};

use super::verdict::Coverage;
use super::*;

/// Returns a speaker with this status. By default it is ready, eligible and announces nothing.
fn speaker(status: Value) -> Option<ObservedSpeaker> {
    let mut object = json!({
        "apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker", "metadata": { "name": "n" }, "spec": {},
        "status": {
            "ready": true,
            "l2": { "announced": 0, "complete": true }, "bgp": { "announced": 0, "complete": true },
        },
    });
    for (field, value) in status.as_object().unwrap() {
        object["status"][field] = value.clone();
    }
    ObservedSpeaker::of(&serde_json::from_value::<Speaker>(object).unwrap(), None)
}

fn list(entries: &[&str]) -> Value {
    json!({ "announced": entries.len(), "addresses": entries, "complete": true })
}

fn not_announced(reason: &str) -> Value {
    json!([{ "service": "default/s", "address": "192.0.2.1", "reason": reason, "message": "the message" }])
}

/// Returns the condition of the Service `default/s`, whose addresses are covered by these protocols.
fn verdict(speakers: &Speakers, addresses: &[&str], l2: bool, bgp: bool) -> String {
    let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    let covered = addresses.into_iter().map(|ip| (ip, Coverage { l2, bgp }));
    let verdict = Verdict::new(speakers, "default/s", covered);
    format!("{} {}: {}", verdict.status.text(), verdict.reason, verdict.message)
}

#[test]
fn verdict_names_what_is_announced_or_why_not() {
    let not_eligible = json!({ "conditions": [{ "type": "Eligible", "status": "False" }] });
    let not_responding = json!({
        "l2": list(&["192.0.2.1"]), "conditions": [{ "type": "Ready", "status": "False" }],
    });
    let excluded_and_announcing = json!({
        "l2": list(&["192.0.2.1"]), "conditions": [{ "type": "Eligible", "status": "False" }],
    });
    let table: [(&str, Vec<Option<ObservedSpeaker>>, &str); 15] = [
        ("no speaker", vec![], "False NoSpeaker: there is no Speaker object: run the speaker on the Nodes"),
        (
            "not ready",
            vec![speaker(json!({ "ready": false, "l2": list(&["192.0.2.1"]) }))],
            "False NoSpeaker: no speaker is ready: see kubectl get speakers",
        ),
        (
            "not responding",
            vec![speaker(not_responding)],
            "False NoSpeaker: no speaker is ready: see kubectl get speakers",
        ),
        (
            "excluded",
            vec![speaker(not_eligible)],
            "False NodesExcluded: no Node with a ready speaker may announce addresses: the condition Eligible \
             of the Speaker objects contains the reasons",
        ),
        (
            "excluded, and announcing for a while",
            vec![speaker(excluded_and_announcing)],
            "True Announced: 192.0.2.1 by L2",
        ),
        (
            "earlier version without lists",
            vec![speaker(json!({ "l2": { "announced": 1 }, "bgp": { "announced": 0 } }))],
            "Unknown ListIncomplete: 192.0.2.1: no Speaker object lists the address, and a speaker of an \
             earlier version lists no addresses: run one version of the speaker on all Nodes",
        ),
        (
            "L2",
            vec![speaker(json!({ "l2": list(&["192.0.2.0-192.0.2.9"]) }))],
            "True Announced: 192.0.2.1 by L2",
        ),
        ("BGP", vec![speaker(json!({ "bgp": list(&["192.0.2.1"]) }))], "True Announced: 192.0.2.1 by BGP"),
        (
            "both, by different nodes",
            vec![
                speaker(json!({ "bgp": list(&["192.0.2.1"]) })),
                speaker(json!({ "l2": list(&["192.0.2.1"]) })),
            ],
            "True Announced: 192.0.2.1 by L2 and BGP",
        ),
        (
            "no endpoints",
            vec![speaker(json!({ "notAnnounced": not_announced("NoEndpoints") }))],
            "False NoEndpoints: 192.0.2.1: the message",
        ),
        (
            "family",
            vec![speaker(json!({ "notAnnounced": not_announced("FamilyNotCarried") }))],
            "False FamilyNotCarried: 192.0.2.1: the message",
        ),
        (
            "no peer on one node, no endpoints on another",
            vec![
                speaker(json!({ "notAnnounced": not_announced("NoPeer") })),
                speaker(json!({ "notAnnounced": not_announced("NoEndpoints") })),
            ],
            "False NoEndpoints: 192.0.2.1: the message",
        ),
        (
            "another reason",
            vec![speaker(json!({ "notAnnounced": not_announced("UnusableOnLink") }))],
            "False NotAnnounced: 192.0.2.1: the message",
        ),
        (
            "incomplete list",
            vec![speaker(json!({ "l2": { "announced": 5000, "addresses": [], "complete": false } }))],
            "Unknown ListIncomplete: 192.0.2.1: no Speaker object lists the address, and the list of one of \
             them is incomplete",
        ),
        (
            "no reason",
            vec![speaker(json!({}))],
            "False NotAnnounced: 192.0.2.1: no speaker announces it, and none reports a reason: run fairlead \
             explain service default/s, which computes the reason for each Node",
        ),
    ];
    for (name, list, expected) in table {
        let mut speakers = Speakers::default();
        speakers.reset(vec![]);
        for (n, speaker) in list.into_iter().enumerate() {
            speakers.apply(&format!("n{n}"), speaker);
        }
        assert_eq!(verdict(&speakers, &["192.0.2.1"], true, true), expected, "{name}");
    }
}

#[test]
fn address_by_bgp_without_a_session_has_no_session() {
    let mut speakers = Speakers::default();
    let session = |state| json!({ "sessions": [{ "peer": "tor", "state": state }] });
    speakers.reset(vec![("n1".to_owned(), speaker(session("Active")).unwrap())]);
    let no_session = "False NoSession: 192.0.2.1: no BGP session is established: see kubectl get bgppeers";
    assert_eq!(verdict(&speakers, &["192.0.2.1"], false, true), no_session);
    assert!(verdict(&speakers, &["192.0.2.1"], true, true).starts_with("False NotAnnounced"));
    let change = speakers.apply("n2", speaker(session("Established")));
    assert!(change.all_unannounced, "the verdict on all addresses may differ");
    assert!(verdict(&speakers, &["192.0.2.1"], false, true).starts_with("False NotAnnounced"));
}

#[test]
fn verdict_without_a_list_of_speakers_is_unknown() {
    let speakers = Speakers::default();
    assert!(verdict(&speakers, &["192.0.2.1"], true, true).starts_with("Unknown SpeakersUnknown"));
}

#[test]
fn verdict_depends_on_the_current_speakers_only() {
    let excluded = json!({
        "l2": list(&["192.0.2.1"]), "conditions": [{ "type": "Eligible", "status": "False" }],
    });
    let mut with_history = Speakers::default();
    with_history.reset(vec![("n1".to_owned(), speaker(json!({ "l2": list(&["192.0.2.1"]) })).unwrap())]);
    let before = verdict(&with_history, &["192.0.2.1"], true, false);
    let change = with_history.apply("n1", speaker(excluded.clone()));
    // The change concerns no Service that is announced, so the verdict on it must be the same.
    assert!(change.ranges.is_empty() && change.addresses.is_empty());
    let mut fresh = Speakers::default();
    fresh.reset(vec![("n1".to_owned(), speaker(excluded).unwrap())]);
    assert_eq!(verdict(&fresh, &["192.0.2.1"], true, false), before);
}

#[test]
fn each_address_of_a_service_counts() {
    let mut speakers = Speakers::default();
    speakers.reset(vec![("n1".to_owned(), speaker(json!({ "l2": list(&["192.0.2.1"]) })).unwrap())]);
    let addresses = ["192.0.2.1", "2001:db8::1"];
    assert_eq!(
        verdict(&speakers, &addresses, true, false),
        "False NotAnnounced: 2001:db8::1: no speaker announces it, and none reports a reason: run fairlead \
         explain service default/s, which computes the reason for each Node"
    );
    speakers.apply("n2", speaker(json!({ "bgp": list(&["2001:db8::-2001:db8::f"]) })));
    assert_eq!(
        verdict(&speakers, &addresses, true, true),
        "True Announced: 192.0.2.1 by L2; 2001:db8::1 by BGP"
    );
}

#[test]
fn move_between_nodes_concerns_no_service() {
    let mut speakers = Speakers::default();
    speakers
        .reset(vec![("n1".to_owned(), speaker(json!({ "l2": list(&["192.0.2.1-192.0.2.9"]) })).unwrap())]);
    let change = speakers.apply("n2", speaker(json!({ "l2": list(&["192.0.2.1-192.0.2.9"]) })));
    assert!(change.ranges.is_empty() && change.addresses.is_empty(), "{change:?}");
    let change = speakers.apply("n1", speaker(json!({ "ready": false })));
    assert!(change.ranges.is_empty() && !change.all_unannounced, "{change:?}");
    let change = speakers.apply("n2", None);
    assert_eq!(change.ranges.len(), 1);
    assert!(change.all_unannounced);
}

#[test]
fn speaker_of_another_class_is_ignored() {
    let object = json!({
        "apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker", "metadata": { "name": "n" },
        "spec": { "loadBalancerClass": "example.com/b" }, "status": { "ready": true },
    });
    let object: Speaker = serde_json::from_value(object).unwrap();
    assert_eq!(ObservedSpeaker::of(&object, None), None);
    assert!(ObservedSpeaker::of(&object, Some("example.com/b")).is_some());
}

#[test]
fn sessions_are_counted_by_peer() {
    let mut speakers = Speakers::default();
    let sessions = |tor, spine| json!({ "sessions": [{ "peer": "tor", "state": tor }, { "peer": "spine", "state": spine }] });
    speakers.reset(vec![]);
    speakers.apply("n1", speaker(sessions("Established", "Active")));
    speakers.apply("n2", speaker(sessions("Established", "Established")));
    let shown = |speakers: &Speakers| ["tor", "spine"].map(|peer| speakers.peer(peer).to_string());
    assert_eq!(shown(&speakers), ["2/2", "1/2"]);
    let mut dead = sessions("Established", "Established");
    dead["ready"] = json!(false);
    let change = speakers.apply("n2", speaker(dead));
    assert_eq!(change.peers.len(), 2);
    assert_eq!(shown(&speakers), ["1/2", "0/2"], "the sessions of a speaker that is not live do not count");
    speakers.apply("n2", None);
    speakers.apply("n1", None);
    assert_eq!(shown(&speakers), ["0/0", "0/0"]);
}
