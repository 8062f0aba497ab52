//! Which speakers do not respond according to Kubernetes, and when that is reported in their `Speaker`
//! objects.
//!
//! The other speakers report a speaker that does not respond within seconds
//! (`fairlead_plan::silent_speakers`). The controller does where they cannot: no other speaker is left, they
//! use no mesh, or several fell silent at once. It looks at the endpoints of the Service of the speakers,
//! whose Pods the kubelet probes, and at the condition `Ready` of the Nodes.
//!
//! ```text
//! handle_speaker, handle_node, handle_slice ──▶ SilentSpeakers ──┬─▶ poll_report   the speaker to report
//!                                                                └─▶ poll_timeout  when to call it again
//! ```
//!
//! A speaker is reported once. If it replaces the report, it runs although its Pod is not ready, and is not
//! reported again before the Pod was ready.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::conditions;
use fairlead_crds::names::READY;
use fairlead_crds::objects::{EndpointSlice, Node};
use jiff::{SignedDuration, Timestamp};

/// Time from the loss of readiness to the report: long enough for a restart, and for the report of another
/// speaker.
const HOLD_OFF: SignedDuration = SignedDuration::from_secs(10);

/// Time after which a report that had no effect is repeated.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// The nodes of one EndpointSlice of the Service of the speakers: whether their endpoint is ready.
pub type SpeakerEndpoints = BTreeMap<String, bool>;

/// Reads the endpoints of a slice.
pub fn speaker_endpoints(slice: &EndpointSlice) -> SpeakerEndpoints {
    let endpoints = slice.endpoints.iter().filter_map(|endpoint| {
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
        // Kubernetes: unknown counts as ready.
        Some((endpoint.node_name.clone()?, is_ready.unwrap_or(true)))
    });
    endpoints.collect()
}

/// Returns false if the condition `Ready` of a Node is not true: its kubelet does not respond, or reports a
/// fault.
pub fn is_node_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
    let ready = conditions.and_then(|conditions| conditions::find(conditions, READY));
    ready.is_none_or(|ready| ready.status() == conditions::status(true))
}

/// The speakers of this instance, by node, and the evidence on them.
#[derive(Debug, Default)]
pub struct SilentSpeakers {
    /// Whether the object of each speaker says that it runs.
    running: BTreeMap<String, bool>,
    failed_nodes: BTreeSet<String>,
    slices: BTreeMap<String, SpeakerEndpoints>,
    silent: BTreeMap<String, Silence>,
}

/// The state of a speaker that does not respond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// It is to be reported at this time.
    Due(Timestamp),
    /// Its object has shown that it does not run.
    Reported,
}

impl SilentSpeakers {
    /// Stores whether the object of the speaker on a node says that it runs; `None` if there is no object.
    pub fn handle_speaker(&mut self, node: &str, runs: Option<bool>, now: Timestamp) {
        match runs {
            Some(runs) => drop(self.running.insert(node.to_owned(), runs)),
            None => drop(self.running.remove(node)),
        }
        if runs == Some(false)
            && let Some(silence) = self.silent.get_mut(node)
        {
            *silence = Silence::Reported;
        }
        self.evaluate(node, now);
    }

    /// Stores the objects of all speakers: the node, and whether the object says that it runs.
    pub fn reset_speakers<'a>(&mut self, speakers: impl Iterator<Item = (&'a str, bool)>, now: Timestamp) {
        let mut deleted: BTreeSet<String> = self.running.keys().cloned().collect();
        for (node, runs) in speakers {
            deleted.remove(node);
            self.handle_speaker(node, Some(runs), now);
        }
        deleted.iter().for_each(|node| self.handle_speaker(node, None, now));
    }

    /// Stores whether a Node is ready. A Node that was deleted is: its Speaker object is deleted too.
    pub fn handle_node(&mut self, node: &str, is_ready: bool, now: Timestamp) {
        let changed = match is_ready {
            true => self.failed_nodes.remove(node),
            false => self.failed_nodes.insert(node.to_owned()),
        };
        if changed {
            self.evaluate(node, now);
        }
    }

    /// Stores the endpoints of a slice; `None` if it was deleted.
    pub fn handle_slice(&mut self, name: &str, endpoints: Option<SpeakerEndpoints>, now: Timestamp) {
        match endpoints {
            Some(endpoints) => drop(self.slices.insert(name.to_owned(), endpoints)),
            None => drop(self.slices.remove(name)),
        }
        self.evaluate_all(now);
    }

    /// Stores all slices.
    pub fn reset_slices(&mut self, slices: impl Iterator<Item = (String, SpeakerEndpoints)>, now: Timestamp) {
        self.slices = slices.collect();
        self.evaluate_all(now);
    }

    /// Forgets the evidence, which is listed again.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns a node whose speaker must be reported now. It is returned again after a while unless
    /// [`Self::handle_speaker`] shows the effect.
    pub fn poll_report(&mut self, now: Timestamp) -> Option<String> {
        let (node, silence) = self.silent.iter_mut().find(|(_, silence)| match silence {
            Silence::Due(due) => *due <= now,
            Silence::Reported => false,
        })?;
        *silence = Silence::Due(now.checked_add(RETRY).unwrap_or(Timestamp::MAX));
        Some(node.clone())
    }

    /// Returns when to call [`Self::poll_report`] again; `None` if nothing waits.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let due = self.silent.values().filter_map(|silence| match silence {
            Silence::Due(due) => Some(*due),
            Silence::Reported => None,
        });
        due.min()
    }

    /// Evaluates every speaker after a change of endpoints: a node without an endpoint is silent only if
    /// others have one.
    fn evaluate_all(&mut self, now: Timestamp) {
        let nodes: Vec<String> = self.running.keys().cloned().collect();
        nodes.iter().for_each(|node| self.evaluate(node, now));
    }

    fn evaluate(&mut self, node: &str, now: Timestamp) {
        let Some(runs) = self.running.get(node) else {
            self.silent.remove(node);
            return;
        };
        if !self.is_silent(node) {
            self.silent.remove(node);
        } else if *runs && !self.silent.contains_key(node) {
            let due = now.checked_add(HOLD_OFF).unwrap_or(Timestamp::MAX);
            self.silent.insert(node.to_owned(), Silence::Due(due));
        }
    }

    fn is_silent(&self, node: &str) -> bool {
        let mut endpoints = self.slices.values().filter_map(|endpoints| endpoints.get(node)).peekable();
        // Without any endpoint, the Service does not exist, or nothing is known yet.
        let has_slices = self.slices.values().any(|endpoints| !endpoints.is_empty());
        let is_unready = has_slices && (endpoints.peek().is_none() || endpoints.all(|ready| !ready));
        is_unready || self.failed_nodes.contains(node)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Two speakers that run, with ready endpoints and Nodes.
    fn cluster() -> SilentSpeakers {
        let mut speakers = SilentSpeakers::default();
        for node in ["n1", "n2"] {
            speakers.handle_speaker(node, Some(true), at(0));
            speakers.handle_node(node, true, at(0));
        }
        speakers.handle_slice("a", Some(endpoints([("n1", true), ("n2", true)])), at(0));
        assert_eq!(speakers.poll_timeout(), None);
        speakers
    }

    fn endpoints<const N: usize>(nodes: [(&str, bool); N]) -> SpeakerEndpoints {
        nodes.into_iter().map(|(node, ready)| (node.to_owned(), ready)).collect()
    }

    /// Returns the reports until a time, with the times at which they are due.
    fn reports(speakers: &mut SilentSpeakers, until: i64) -> Vec<(i64, String)> {
        let mut reports = Vec::new();
        while let Some(due) = speakers.poll_timeout().filter(|due| *due <= at(until)) {
            reports.push((due.as_second(), speakers.poll_report(due).unwrap()));
        }
        reports
    }

    #[test]
    fn evidence_decides_who_is_silent() {
        type Change = fn(&mut SilentSpeakers);
        let table: [(&str, Change, bool); 8] = [
            ("nothing", |_| {}, false),
            (
                "the endpoint is not ready",
                |s| s.handle_slice("a", Some(endpoints([("n1", true), ("n2", false)])), at(100)),
                true,
            ),
            ("the endpoint is gone", |s| s.handle_slice("a", Some(endpoints([("n1", true)])), at(100)), true),
            (
                "the endpoint moved to another slice",
                |s| {
                    s.handle_slice("b", Some(endpoints([("n2", true)])), at(100));
                    s.handle_slice("a", Some(endpoints([("n1", true)])), at(100));
                },
                false,
            ),
            ("no endpoints at all", |s| s.handle_slice("a", Some(endpoints([])), at(100)), false),
            ("the slice was deleted", |s| s.handle_slice("a", None, at(100)), false),
            ("the Node is not ready", |s| s.handle_node("n2", false, at(100)), true),
            (
                "the Node is not ready, and its speaker has stopped",
                |s| {
                    s.handle_speaker("n2", Some(false), at(100));
                    s.handle_node("n2", false, at(100));
                },
                false,
            ),
        ];
        for (name, change, is_silent) in table {
            let mut speakers = cluster();
            change(&mut speakers);
            let reported = reports(&mut speakers, 110);
            let expected = if is_silent { vec![(110, "n2".to_owned())] } else { Vec::new() };
            assert_eq!(reported, expected, "{name}");
        }
    }

    #[test]
    fn last_speaker_is_reported_although_no_endpoint_is_ready() {
        let mut speakers = cluster();
        speakers.handle_slice("a", Some(endpoints([("n1", false), ("n2", false)])), at(100));
        assert_eq!(reports(&mut speakers, 110), [(110, "n1".to_owned()), (110, "n2".to_owned())]);
    }

    #[test]
    fn restart_is_not_reported() {
        let mut speakers = cluster();
        speakers.handle_slice("a", Some(endpoints([("n1", true)])), at(100));
        assert_eq!(reports(&mut speakers, 109), []);
        speakers.handle_slice("a", Some(endpoints([("n1", true), ("n2", true)])), at(109));
        assert_eq!(reports(&mut speakers, 1_000), []);
    }

    #[test]
    fn speaker_is_reported_once_until_it_was_ready() {
        let mut speakers = cluster();
        let silent = || Some(endpoints([("n1", true), ("n2", false)]));
        speakers.handle_slice("a", silent(), at(100));
        // The first report has no effect, the second has.
        assert_eq!(reports(&mut speakers, 149), [(110, "n2".to_owned()), (140, "n2".to_owned())]);
        speakers.handle_speaker("n2", Some(false), at(150));
        assert_eq!(reports(&mut speakers, 1_000), []);
        // It runs, and replaces the report.
        speakers.handle_speaker("n2", Some(true), at(1_000));
        assert_eq!(reports(&mut speakers, 2_000), []);
        speakers.handle_slice("a", Some(endpoints([("n1", true), ("n2", true)])), at(2_000));
        speakers.handle_slice("a", silent(), at(3_000));
        assert_eq!(reports(&mut speakers, 3_010), [(3_010, "n2".to_owned())]);
    }

    #[test]
    fn deleted_speaker_is_not_reported() {
        let mut speakers = cluster();
        speakers.handle_node("n2", false, at(100));
        speakers.handle_speaker("n2", None, at(105));
        assert_eq!(reports(&mut speakers, 1_000), []);
    }

    #[test]
    fn objects_are_read() {
        let slice = json!({ "endpoints": [
            { "nodeName": "n1", "conditions": { "ready": false } }, { "nodeName": "n2" },
            { "conditions": { "ready": true } },
        ] });
        let read = speaker_endpoints(&from_value(slice).unwrap());
        assert_eq!(read, endpoints([("n1", false), ("n2", true)]));
        for (status, is_ready) in [("True", true), ("False", false), ("Unknown", false)] {
            let node = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
            assert_eq!(is_node_ready(&from_value(node).unwrap()), is_ready, "{status}");
        }
        assert!(is_node_ready(&Node::default()));
    }
}
