//! The part of `fairlead explain` about announcements: the reasons of the Speaker objects.

use std::collections::BTreeMap;
use std::fmt;

use fairlead_crds::model::instance::Instance;
use fairlead_crds::text::{MAX_NAME, message, printable};
use fairlead_crds::v1beta1::{NotAnnounced, Speaker};
use kube::ResourceExt;

/// The maximum number of nodes that a line names.
const MAX_NODES: usize = 5;

/// The addresses that speakers do not announce, with the reasons. Its `Display` form is empty if there are
/// none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NotAnnouncedAddresses {
    /// Address, protocol, reason and message, each with the nodes.
    reasons: BTreeMap<[String; 4], Vec<String>>,
    /// The nodes whose Speaker object does not list all addresses, with the numbers of listed and of all.
    incomplete: Vec<(String, usize, i64)>,
}

impl NotAnnouncedAddresses {
    /// Collects the entries that `concerns` selects, of the speakers of the instance with this class.
    pub(super) fn of(
        speakers: &[Speaker],
        class: Option<&str>,
        concerns: impl Fn(&NotAnnounced) -> bool,
    ) -> Self {
        let mut all = Self::default();
        for speaker in speakers {
            let (Some(node), Some(status)) = (node(speaker, class), &speaker.status) else { continue };
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

/// Each text is escaped and cut, because a program that may write Speaker objects can write any text.
impl fmt::Display for NotAnnouncedAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.reasons.is_empty() {
            writeln!(f, "Speakers that do not announce:")?;
        }
        for ([address, protocol, reason, why], nodes) in &self.reasons {
            let by = if protocol.is_empty() { String::new() } else { format!(" by {protocol}") };
            let text = format!("{address}{by}, on {}: {reason}: {why}", list(nodes));
            writeln!(f, "  {}", message(text))?;
        }
        if !self.incomplete.is_empty() {
            let nodes = self.incomplete.iter().map(|(node, listed, count)| {
                format!("{} lists {listed} of {count}", printable(&**node, MAX_NAME))
            });
            let nodes = list(&nodes.collect::<Vec<_>>());
            writeln!(f, "Speaker objects do not list all addresses that are not announced: {nodes}")?;
        }
        Ok(())
    }
}

/// Returns the node of a Speaker object, if it belongs to an instance with this class.
fn node(speaker: &Speaker, class: Option<&str>) -> Option<String> {
    let name = speaker.name_any();
    // The name of an instance with a class ends with its namespace, which contains no dot.
    let namespace = name.rsplit_once('.').map(|(_, namespace)| namespace.to_owned()).unwrap_or_default();
    let instance = Instance { class: class.map(str::to_owned), namespace };
    instance.node_of_speaker(&name, speaker.spec.load_balancer_class.as_deref()).map(str::to_owned)
}

fn list(names: &[String]) -> String {
    let mut text = names.iter().take(MAX_NODES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NODES {
        text += &format!(" and {} more", names.len() - MAX_NODES);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn speaker(name: &str, class: Option<&str>, entries: Value, count: usize) -> Speaker {
        serde_json::from_value(json!({
            "apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker", "metadata": { "name": name },
            "spec": { "loadBalancerClass": class },
            "status": { "notAnnounced": entries, "notAnnouncedCount": count },
        }))
        .unwrap()
    }

    fn text(speakers: &[Speaker], class: Option<&str>) -> String {
        NotAnnouncedAddresses::of(speakers, class, |entry| entry.service == "shop/web").to_string()
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
            text(&speakers, None),
            "Speakers that do not announce:\n\
             \x20 192.0.2.0, on n1: NoEndpoints: a message\n\
             \x20 192.0.2.0 by L2, on n1, n2: UnusableOnLink: a message\n\
             Speaker objects do not list all addresses that are not announced: n2 lists 1 of 65\n"
        );
        assert_eq!(
            text(&speakers, Some("example.com/b")),
            "Speakers that do not announce:\n  192.0.2.0 by L2, on n3: UnusableOnLink: a message\n"
        );
        assert_eq!(text(&speakers, Some("example.com/c")), "");
        speakers.extend((10..20).map(|n| speaker(&format!("n{n}"), None, json!([unusable]), 1)));
        assert!(text(&speakers, None).contains("on n1, n2, n10, n11, n12 and 7 more: "));
    }

    #[test]
    fn texts_of_speakers_cannot_forge_lines() {
        let entry = json!({ "service": "shop/web", "address": "192.0.2.0\nService x", "reason": "\u{1b}[2J",
                            "message": "x".repeat(10_000) });
        let text = text(&[speaker("n1\nx", None, json!([entry]), 9)], None);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.len() < 3000 && !text.contains('\u{1b}'), "{text}");
    }
}
