//! The part of `fairlead explain` about announcements: the reasons of the Speaker objects.

use std::collections::BTreeMap;

use fairlead_crds::text::{MAX_NAME, message, printable};
use fairlead_crds::v1beta1::NotAnnounced;

use crate::cluster::{NodeSpeaker, Snapshot};
use crate::output::list;

/// The maximum number of nodes that a line names.
const MAX_NODES: usize = 5;

/// The addresses that speakers do not announce, with the reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NotAnnouncedAddresses {
    /// Address, protocol, reason and message, each with the nodes.
    reasons: BTreeMap<[String; 4], Vec<String>>,
    /// The nodes whose Speaker object does not list all addresses, with the numbers of listed and of all.
    incomplete: Vec<(String, usize, i64)>,
}

impl NotAnnouncedAddresses {
    /// Collects the entries that `concerns` selects, of the speakers of the instance that are ready.
    pub(super) fn of(snapshot: &Snapshot, concerns: impl Fn(&NotAnnounced) -> bool) -> Self {
        Self::collect(snapshot, |_| true, concerns)
    }

    /// Collects all entries of the speaker of a node.
    pub(super) fn of_node(snapshot: &Snapshot, node: &str) -> Self {
        Self::collect(snapshot, |name| name == node, |_| true)
    }

    fn collect(
        snapshot: &Snapshot,
        selects: impl Fn(&str) -> bool,
        concerns: impl Fn(&NotAnnounced) -> bool,
    ) -> Self {
        let mut all = Self::default();
        let ready = |speaker: &&NodeSpeaker<'_>| speaker.is_ready() && selects(speaker.node);
        for speaker in snapshot.speakers().values().filter(ready) {
            let (node, status) = (speaker.node.to_owned(), speaker.status);
            for entry in status.not_announced.iter().filter(|entry| concerns(entry)) {
                let NotAnnounced { address, protocol, reason, message, .. } = entry;
                let protocol = protocol.clone().unwrap_or_default();
                let key = [address.clone(), protocol, reason.clone(), message.clone()];
                let nodes = all.reasons.entry(key).or_default();
                if nodes.last() != Some(&node) {
                    nodes.push(node.clone());
                }
            }
            let (listed, count) =
                (status.not_announced.len(), status.not_announced_count.unwrap_or_default());
            if usize::try_from(count).is_ok_and(|count| count > listed) {
                all.incomplete.push((node, listed, count));
            }
        }
        all
    }
}

impl NotAnnouncedAddresses {
    /// Returns a line for each reason, and one for the speakers whose object does not list all addresses.
    /// Each text is escaped and cut, because a program that may write Speaker objects can write any text.
    pub(super) fn lines(&self) -> Vec<String> {
        let reasons = self.reasons.iter().map(|([address, protocol, reason, why], nodes)| {
            let by = if protocol.is_empty() { String::new() } else { format!(" by {protocol}") };
            let text = format!("{address}{by}, on {}: {reason}: {why}", list(nodes, MAX_NODES));
            message(text).into_owned()
        });
        let mut lines: Vec<String> = reasons.collect();
        if !self.incomplete.is_empty() {
            let nodes = self.incomplete.iter().map(|(node, listed, count)| {
                format!("{} lists {listed} of {count}", printable(&**node, MAX_NAME))
            });
            let nodes = list(&nodes.collect::<Vec<_>>(), MAX_NODES);
            lines.push(format!("not all addresses that are not announced are listed: {nodes}"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use fairlead_crds::v1beta1::Speaker;
    use serde_json::{Value, json};

    use super::*;

    fn speaker(name: &str, class: Option<&str>, entries: Value, count: usize) -> Speaker {
        serde_json::from_value(json!({
            "apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker", "metadata": { "name": name },
            "spec": { "loadBalancerClass": class },
            "status": { "ready": true, "notAnnounced": entries, "notAnnouncedCount": count },
        }))
        .unwrap()
    }

    fn lines(speakers: &[Speaker], class: Option<&str>) -> Vec<String> {
        let mut snapshot = Snapshot::empty(class, "b");
        snapshot.all_speakers = speakers.to_vec();
        NotAnnouncedAddresses::of(&snapshot, |entry| entry.service == "shop/web").lines()
    }

    #[test]
    fn reasons_are_grouped_with_their_nodes() {
        let entry = |service: &str, address: &str, protocol: Option<&str>, reason: &str| {
            json!({ "service": service, "address": address, "protocol": protocol, "reason": reason,
                    "message": "a message" })
        };
        let unusable = entry("shop/web", "192.0.2.0", Some("L2"), "UnusableOnLink");
        let both = json!([
            unusable,
            entry("shop/web", "192.0.2.0", None, "NoEndpoints"),
            entry("shop/other", "192.0.2.0", None, "NoEndpoints")
        ]);
        let mut speakers = vec![
            speaker("n1", None, both, 3),
            speaker("n2", None, json!([unusable]), 65),
            speaker("n3.b", Some("example.com/b"), json!([unusable]), 1),
        ];
        assert_eq!(
            lines(&speakers, None),
            [
                "192.0.2.0, on n1: NoEndpoints: a message",
                "192.0.2.0 by L2, on n1, n2: UnusableOnLink: a message",
                "not all addresses that are not announced are listed: n2 lists 1 of 65",
            ]
        );
        assert_eq!(
            lines(&speakers, Some("example.com/b")),
            ["192.0.2.0 by L2, on n3: UnusableOnLink: a message"]
        );
        assert!(lines(&speakers, Some("example.com/c")).is_empty());
        speakers.extend((10..20).map(|n| speaker(&format!("n{n}"), None, json!([unusable]), 1)));
        let all = lines(&speakers, None).concat();
        assert!(all.contains("on n1, n10, n11, n12, n13 and 7 more: "), "{all}");
    }

    #[test]
    fn texts_of_speakers_cannot_forge_lines() {
        let entry = json!({ "service": "shop/web", "address": "192.0.2.0\nService x", "reason": "\u{1b}[2J",
                            "message": "x".repeat(10_000) });
        let text = lines(&[speaker("n1\nx", None, json!([entry]), 9)], None).join("\n");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.len() < 3000 && !text.contains('\u{1b}'), "{text}");
    }
}
