//! The condition `fairlead.dev/Advertised` of Services.

use super::*;
use fairlead_test_support::pool;

const IP: &str = "1.2.3.0";

/// Returns a `Speaker` that announces these addresses by L2.
fn announcing(addresses: &[&str]) -> Value {
    json!({
        "ready": true,
        "l2": { "announced": addresses.len(), "addresses": addresses, "complete": true },
        "bgp": { "announced": 0, "complete": true },
    })
}

impl World {
    /// Creates or updates a `Speaker`, and applies all patches.
    fn speaker(&mut self, name: &str, status: Value) {
        let object = json!({
            "apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker", "metadata": { "name": name },
            "spec": {}, "status": status,
        });
        let speaker: v1beta1::Speaker = serde_json::from_value(object).unwrap();
        self.index.speaker_applied(name, ObservedSpeaker::of(&speaker, None), self.now);
        self.speakers.insert(name.to_owned(), speaker);
        self.sync();
    }

    fn delete_speaker(&mut self, name: &str) {
        self.speakers.remove(name);
        self.index.speaker_applied(name, None, self.now);
        self.sync();
    }

    fn advertised(&self) -> String {
        self.message("s", names::ADVERTISED)
    }
}

fn world() -> World {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("s", json!({})));
    world
}

/// A world whose Service is announced by the speaker of n1.
fn announced_world() -> World {
    let mut world = world();
    world.speaker("n1", announcing(&[IP]));
    assert_eq!(world.advertised(), "True/Announced: 1.2.3.0 by L2");
    world.take_writes();
    world
}

#[test]
fn service_without_any_speaker_says_so_with_its_address() {
    let world = world();
    assert_eq!(
        world.advertised(),
        "False/NoSpeaker: there is no Speaker object: run the speaker on the Nodes"
    );
    assert_eq!(world.writes.len(), 1, "in the write of the address");
}

#[test]
fn service_without_advertisement_is_not_advertised() {
    let mut world = announced_world();
    world.config.l2_advertisements.clear();
    world.reconfigure();
    assert!(world.message("s", names::COVERED).starts_with("False/NoAdvertisement"));
    assert!(world.advertised().starts_with("False/NoAdvertisement"));
    assert_eq!(world.take_writes(), 1, "both in one write");
}

#[test]
fn refused_service_has_no_condition_about_announcements() {
    let mut world = World::new([]);
    world.apply(service("s", json!({})));
    let conditions = world.service("s").status.unwrap().conditions.unwrap();
    assert_eq!(conditions.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), [names::ALLOCATED]);
}

#[test]
fn move_between_nodes_writes_nothing() {
    let mut world = announced_world();
    world.speaker("n2", announcing(&[IP]));
    world.speaker("n1", announcing(&[]));
    world.wait(60);
    assert_eq!((world.take_writes(), world.advertised().as_str()), (0, "True/Announced: 1.2.3.0 by L2"));
}

#[test]
fn short_gap_of_a_rolling_restart_writes_nothing() {
    let mut world = announced_world();
    for _ in 0..5 {
        world.speaker("n1", json!({ "ready": false }));
        world.wait(3);
        world.speaker("n1", announcing(&[IP]));
        world.wait(3);
    }
    world.wait(60);
    assert_eq!(world.take_writes(), 0);
}

#[test]
fn loss_is_written_once_and_after_a_while() {
    let mut world = announced_world();
    world.delete_speaker("n1");
    assert_eq!(world.take_writes(), 0);
    assert!(world.index.poll_timeout().is_some());
    world.wait(5);
    assert_eq!(world.take_writes(), 1);
    assert!(world.advertised().starts_with("False/NoSpeaker"), "{}", world.advertised());
    world.wait(600);
    assert_eq!(world.take_writes(), 0);
    assert_eq!(world.index.poll_timeout(), None);
    world.speaker("n1", announcing(&[IP]));
    assert_eq!(world.take_writes(), 1, "what becomes true is written at once");
}

#[test]
fn flapping_speaker_causes_fewer_and_fewer_writes() {
    let mut world = announced_world();
    for _ in 0..100 {
        world.speaker("n1", json!({ "ready": false }));
        world.wait(15);
        world.speaker("n1", announcing(&[IP]));
        world.wait(15);
    }
    let writes = world.take_writes();
    assert!((2..=30).contains(&writes), "{writes} writes in 50 minutes");
}

#[test]
fn change_of_the_protocols_is_shown() {
    let mut world = announced_world();
    let mut both = announcing(&[IP]);
    both["bgp"] = json!({ "announced": 1, "addresses": [IP], "complete": true });
    world.speaker("n1", both);
    world.wait(10);
    assert_eq!(world.advertised(), "True/Announced: 1.2.3.0 by L2 and BGP");
    assert_eq!(world.take_writes(), 1);
}

#[test]
fn new_leader_writes_nothing_that_is_unchanged() {
    let mut world = announced_world();
    world.apply(service("t", json!({})));
    world.speaker("n1", announcing(&["1.2.3.0-1.2.3.1"]));
    world.take_writes();
    world.check_restart("announced Services");
    world.speaker("n1", json!({ "ready": false }));
    world.wait(60);
    world.check_restart("Services without a speaker");
}

#[test]
fn conditions_stay_until_speakers_are_listed() {
    let mut world = announced_world();
    let speakers = world.observed_speakers();
    world.index = Index::default();
    world.index.set_config(&world.config, world.now);
    world.index.namespaces_reset(world.namespaces.clone().into_iter().collect(), world.now);
    world.index.services_reset(world.observed(), world.now);
    world.index.claims_reset(Vec::new(), world.now);
    world.index.begin(Vec::new(), world.now);
    world.sync();
    world.wait(600);
    assert_eq!((world.take_writes(), world.advertised().as_str()), (0, "True/Announced: 1.2.3.0 by L2"));
    world.apply(service("new", json!({})));
    assert!(world.message("new", names::ADVERTISED).starts_with("Unknown/SpeakersUnknown"));
    world.take_writes();
    world.index.speakers_reset(speakers, world.now);
    world.sync();
    world.wait(600);
    assert_eq!(world.take_writes(), 1, "only the new Service");
}

/// A world in which the controller was upgraded before the speakers: the Service has the condition of the
/// earlier version, and the speaker publishes no lists.
fn upgraded_world() -> World {
    let mut world = announced_world();
    let unpublished =
        json!({ "ready": true, "l2": { "announced": 1 }, "bgp": { "announced": 0 }, "version": "0.1.0" });
    world.speaker("n1", unpublished);
    let service = world.services.get_mut(&key("s")).unwrap();
    let conditions = service["status"]["conditions"].as_array_mut().unwrap();
    conditions.retain(|condition| condition["type"] != names::COVERED);
    let advertised = conditions.iter_mut().find(|condition| condition["type"] == names::ADVERTISED).unwrap();
    advertised["reason"] = json!("Covered");
    advertised["message"] = json!("an advertisement covers these addresses");
    world.restart();
    world
}

const EARLIER: &str = "True/Covered: an advertisement covers these addresses";

#[test]
fn upgrade_keeps_the_condition_until_speakers_publish_lists() {
    let mut world = upgraded_world();
    world.wait(300);
    assert_eq!((world.take_writes(), world.advertised().as_str()), (0, EARLIER));
    world.speaker("n1", announcing(&[IP]));
    world.wait(10);
    assert_eq!(world.advertised(), "True/Announced: 1.2.3.0 by L2");
    assert!(world.message("s", names::COVERED).starts_with("True/Covered"));
    assert_eq!(world.take_writes(), 1, "both conditions in one write");
}

#[test]
fn upgrade_keeps_the_condition_for_a_bounded_time() {
    let mut world = upgraded_world();
    world.wait(599);
    assert_eq!((world.take_writes(), world.advertised().as_str()), (0, EARLIER));
    world.wait(1);
    assert!(world.advertised().starts_with("Unknown/ListIncomplete"), "{}", world.advertised());
    world.wait(3600);
    assert_eq!((world.take_writes(), world.index.poll_timeout()), (1, None));
}

#[test]
fn loss_after_an_upgrade_is_written_after_the_usual_time() {
    let mut world = upgraded_world();
    world.wait(60);
    world.speaker("n1", announcing(&[]));
    world.wait(4);
    assert_eq!((world.take_writes(), world.advertised().as_str()), (0, EARLIER));
    world.wait(1);
    assert!(world.advertised().starts_with("False/NotAnnounced"), "{}", world.advertised());
}

#[test]
fn announcement_alone_is_a_background_write() {
    let mut world = world();
    let speaker: v1beta1::Speaker = serde_json::from_value(json!({
        "apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker", "metadata": { "name": "n1" }, "spec": {},
        "status": announcing(&[IP]),
    }))
    .unwrap();
    let is_background = |world: &mut World| -> Vec<bool> {
        let decisions = world.index.take_decisions().into_iter();
        let patches = decisions.filter_map(|decision| match decision {
            Decision::Status { patch: Some(patch), .. } => Some(patch.is_background),
            _ => None,
        });
        patches.collect()
    };
    world.index.speaker_applied("n1", ObservedSpeaker::of(&speaker, None), world.now);
    assert_eq!(is_background(&mut world), [true]);
    world.apply_silently(service("t", json!({})));
    assert_eq!(is_background(&mut world), [false]);
}

#[test]
fn own_write_of_the_condition_is_no_conflict() {
    let mut world = announced_world();
    for _ in 0..20 {
        world.delete_speaker("n1");
        world.wait(600);
        world.speaker("n1", announcing(&[IP]));
        world.wait(600);
    }
    let conditions = world.service("s").status.unwrap().conditions.unwrap();
    assert!(conditions.iter().all(|condition| condition.type_ != names::STATUS_CONFLICT));
    assert_eq!(world.index.counters().status_replacements, 0);
}

#[test]
fn removed_condition_is_written_again() {
    let mut world = announced_world();
    let mut edited = world.services[&key("s")].clone();
    edited["status"]["conditions"].as_array_mut().unwrap().retain(|c| c["type"] != names::ADVERTISED);
    world.apply(edited);
    assert_eq!(world.advertised(), "True/Announced: 1.2.3.0 by L2");
}
