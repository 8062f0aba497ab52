//! `fairlead status node`: the speaker of each Node and what it announces.

use anyhow::Result;
use fairlead_crds::names::{DRAINED, ELIGIBLE};
use fairlead_crds::text::message;
use fairlead_crds::v1beta1::{Announced, L2Status, NotAnnounced};
use kube::ResourceExt;
use serde::Serialize;

use super::peer::{self, SessionRow};
use crate::cluster::{NodeSpeaker, Snapshot, Unread, condition};
use crate::output::{Report, indented, list, table};

/// The maximum number of entries of a list in the text.
const MAX_LISTED: usize = 20;

/// The speaker of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeRow {
    pub node: String,
    /// `Ready`, the reason for which the speaker is not ready, or `NoSpeaker`.
    pub state: String,
    pub message: String,
    /// Whether the node may announce: `Eligible`, or the reason; empty if it is unknown.
    pub eligible: String,
    /// The reason of the condition `Drained`; empty if the node is not being drained.
    pub drain: String,
    pub version: String,
    /// The number of sessions that are established, and of all.
    pub sessions: String,
    pub l2: Option<L2Status>,
    pub bgp: Option<Announced>,
    pub not_announced_count: i64,
}

/// Speakers, and the details of one if only one was asked for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeReport {
    pub nodes: Vec<NodeRow>,
    /// The sessions and what is not announced, if one Node was asked for.
    pub sessions: Vec<SessionRow>,
    pub not_announced: Vec<NotAnnounced>,
    pub unread: Vec<Unread>,
    #[serde(skip)]
    is_one: bool,
}

fn row(speaker: &NodeSpeaker<'_>) -> NodeRow {
    let status = speaker.status;
    let (state, why) =
        if speaker.is_ready() { ("Ready".to_owned(), String::new()) } else { speaker.reason() };
    let eligible = condition(&status.conditions, ELIGIBLE);
    let drained = condition(&status.conditions, DRAINED).filter(|found| found.reason() != "NotDraining");
    let established = status.sessions.iter().filter(|session| session.state == "Established").count();
    let is_ready = speaker.is_ready();
    NodeRow {
        node: speaker.node.to_owned(),
        message: if is_ready {
            let ineligible = eligible.filter(|found| found.status() == "False");
            ineligible.map(|found| found.message().to_owned()).unwrap_or_default()
        } else {
            why
        },
        state,
        eligible: eligible.map(|found| found.reason().to_owned()).unwrap_or_default(),
        drain: drained.map(|found| found.reason().to_owned()).unwrap_or_default(),
        version: status.version.clone().unwrap_or_default(),
        sessions: if status.sessions.is_empty() {
            String::new()
        } else {
            format!("{}/{}", if is_ready { established } else { 0 }, status.sessions.len())
        },
        l2: status.l2.clone(),
        bgp: status.bgp.clone(),
        not_announced_count: status.not_announced_count.unwrap_or_default(),
    }
}

impl NodeReport {
    /// Returns all Nodes and speakers, or those of this name.
    ///
    /// # Errors
    /// Returns an error if there is neither a Node nor a Speaker of this name.
    pub(crate) fn of(snapshot: &Snapshot, name: Option<&str>) -> Result<Self> {
        let speakers = snapshot.speakers();
        let is_selected = |node: &str| name.is_none_or(|name| name == node);
        let selected: Vec<_> = speakers.values().filter(|speaker| is_selected(speaker.node)).collect();
        let mut nodes: Vec<NodeRow> = selected.iter().map(|speaker| row(speaker)).collect();
        let names = snapshot.nodes.iter().map(ResourceExt::name_any);
        let silent = names.filter(|node| is_selected(node) && !speakers.contains_key(node.as_str()));
        nodes.extend(silent.map(|node| NodeRow {
            node,
            state: "NoSpeaker".to_owned(),
            message: "no speaker of this instance runs on the Node".to_owned(),
            eligible: String::new(),
            drain: String::new(),
            version: String::new(),
            sessions: String::new(),
            l2: None,
            bgp: None,
            not_announced_count: 0,
        }));
        if let Some(name) = name.filter(|_| nodes.is_empty()) {
            return Err(snapshot.absent("nodes", &format!("Node {name}, nor a Speaker of it")));
        }
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        let (mut sessions, mut not_announced) = (Vec::new(), Vec::new());
        if let (Some(name), [speaker]) = (name, selected.as_slice()) {
            sessions = peer::rows(snapshot, |node, _| node == name);
            not_announced = speaker.status.not_announced.clone();
        }
        Ok(Self { nodes, sessions, not_announced, unread: snapshot.unread.clone(), is_one: name.is_some() })
    }
}

fn number(announced: Option<&Announced>) -> String {
    announced.map(|announced| announced.announced.to_string()).unwrap_or_default()
}

/// Describes the announced addresses of a protocol.
fn addresses(protocol: &str, announced: Option<&Announced>) -> String {
    let Some(announced) = announced else { return String::new() };
    let mut text = format!("{protocol} announces {}", announced.announced);
    if !announced.addresses.is_empty() {
        text += &format!(": {}", list(&announced.addresses, MAX_LISTED));
    }
    message(text).into_owned() + "\n"
}

impl Report for NodeReport {
    const KIND: &'static str = "NodeStatusList";

    fn text(&self, wide: bool) -> String {
        let mut headers = vec!["NODE", "SPEAKER", "ELIGIBLE", "SESSIONS", "L2", "BGP", "NOT-ANNOUNCED"];
        headers.extend(wide.then_some(["VERSION", "DRAIN", "MESSAGE"]).into_iter().flatten());
        let rows = self.nodes.iter().map(|node| {
            let mut row = vec![
                node.node.clone(),
                node.state.clone(),
                node.eligible.clone(),
                node.sessions.clone(),
                number(node.l2.as_ref().map(|l2| &l2.announced)),
                number(node.bgp.as_ref()),
                node.not_announced_count.to_string(),
            ];
            if wide {
                row.extend([node.version.clone(), node.drain.clone(), node.message.clone()]);
            }
            row
        });
        let mut text = table(&headers, rows);
        let Some(node) = self.nodes.first().filter(|_| self.is_one) else {
            return text + &super::unread_text(&self.unread);
        };
        text += "\n";
        if !node.message.is_empty() {
            text += &format!("{}: {}\n", message(&*node.state), message(&*node.message));
        }
        text += &addresses("L2", node.l2.as_ref().map(|l2| &l2.announced));
        text += &addresses("BGP", node.bgp.as_ref());
        if !self.sessions.is_empty() {
            text += &format!("Sessions\n{}", indented(&peer::table_of(&self.sessions, wide)));
        }
        if !self.not_announced.is_empty() {
            text += "Not announced\n";
            for entry in self.not_announced.iter().take(MAX_LISTED) {
                let by = entry.protocol.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
                let NotAnnounced { service, address, reason, message: why, .. } = entry;
                text += &format!("  {}\n", message(format!("{address}{by} ({service}): {reason}: {why}")));
            }
            let left = node.not_announced_count.saturating_sub(MAX_LISTED as i64);
            if left > 0 {
                text += &format!("  and {left} more\n");
            }
        }
        text + &super::unread_text(&self.unread)
    }

    fn succeeds(&self) -> bool {
        // A DaemonSet may leave Nodes out on purpose.
        let is_left_out = |node: &NodeRow| node.state == "NoSpeaker" && !self.is_one;
        self.nodes.iter().all(|node| node.state == "Ready" || is_left_out(node))
    }
}
