//! `fairlead status peer`: the BGP sessions, as `show bgp summary` of a router.

use anyhow::Result;
use fairlead_crds::kinds::{Kind, ObjectRef};
use fairlead_crds::v1beta1::Session;
use jiff::Timestamp;
use serde::Serialize;

use super::{is_down, session_reason};
use crate::cluster::{NodeSpeaker, Snapshot, Unread};
use crate::output::{Report, age, table};

/// A BGP session of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionRow {
    pub peer: String,
    pub node: String,
    /// The address of the router, or the interface that connects to it.
    pub address: String,
    /// The AS number of the router; unset unless the session is established.
    #[serde(rename = "asn")]
    pub asn: Option<i64>,
    /// The state of RFC 4271, or `SpeakerNotReady` if the speaker is gone.
    pub state: String,
    /// What the session waits for, and the last error; empty if it is established.
    pub reason: String,
    /// The time since which the session has been in its state, established or not.
    pub since: Option<Timestamp>,
    /// The number of prefixes that are announced over the session.
    pub sent: i64,
    /// The number of received prefixes, which the speaker discards; rounded down to a power of two.
    pub received: i64,
    /// The number of times the session was lost.
    pub flaps: i64,
    /// The state of the BFD session; unset without BFD.
    pub bfd: Option<String>,
    pub is_down: bool,
    #[serde(skip)]
    pub age: String,
}

impl SessionRow {
    pub(crate) fn of(speaker: &NodeSpeaker<'_>, session: &Session, now: Timestamp) -> Self {
        let is_ready = speaker.is_ready();
        let since = session.state_since.as_ref().map(|time| time.0);
        let is_established = session.state == "Established";
        let reason = if !is_ready {
            format!("speaker: {}", speaker.reason().0)
        } else if is_established {
            String::new()
        } else {
            session_reason(session)
        };
        Self {
            peer: session.peer.clone(),
            node: speaker.node.to_owned(),
            address: session.address.clone(),
            asn: session.negotiated.as_ref().map(|negotiated| negotiated.peer_asn),
            state: if is_ready { session.state.clone() } else { "SpeakerNotReady".to_owned() },
            reason,
            since,
            sent: if is_ready { session.prefixes } else { 0 },
            received: session.families.iter().map(|family| family.received).sum(),
            flaps: session.flaps,
            bfd: session.bfd.as_ref().map(|bfd| bfd.state.clone()),
            is_down: !is_ready || is_down(session),
            age: age(since, now),
        }
    }
}

/// BGP sessions.
#[derive(Serialize)]
pub(crate) struct PeerReport {
    pub sessions: Vec<SessionRow>,
    pub unread: Vec<Unread>,
}

/// Returns the sessions that `selects` selects, by peer and node.
pub(crate) fn rows(snapshot: &Snapshot, selects: impl Fn(&str, &Session) -> bool) -> Vec<SessionRow> {
    let speakers = snapshot.speakers();
    let mut rows: Vec<SessionRow> = Vec::new();
    for speaker in speakers.values() {
        let sessions = speaker.status.sessions.iter().filter(|session| selects(speaker.node, session));
        rows.extend(sessions.map(|session| SessionRow::of(speaker, session, snapshot.now)));
    }
    rows.sort_by(|a, b| (&a.peer, &a.node).cmp(&(&b.peer, &b.node)));
    rows
}

/// Returns the table of sessions.
pub(crate) fn table_of(sessions: &[SessionRow], wide: bool) -> String {
    let mut headers =
        vec!["PEER", "NODE", "NEIGHBOR", "AS", "STATE", "UP/DOWN", "PFX-SENT", "PFX-RCVD", "REASON"];
    headers.extend(wide.then_some(["FLAPS", "BFD"]).into_iter().flatten());
    let rows = sessions.iter().map(|session| {
        let mut row = vec![
            session.peer.clone(),
            session.node.clone(),
            session.address.clone(),
            session.asn.map(|asn| asn.to_string()).unwrap_or_default(),
            session.state.clone(),
            session.age.clone(),
            session.sent.to_string(),
            session.received.to_string(),
            session.reason.clone(),
        ];
        if wide {
            row.extend([session.flaps.to_string(), session.bfd.clone().unwrap_or_default()]);
        }
        row
    });
    table(&headers, rows)
}

impl PeerReport {
    /// Returns all sessions, or those with the BGPPeer of this name.
    ///
    /// # Errors
    /// Returns an error if there is no such BGPPeer.
    pub(crate) fn of(snapshot: &Snapshot, name: Option<&str>) -> Result<Self> {
        if let Some(name) = name {
            let peer = ObjectRef { kind: Kind::BGPPeer, name: name.to_owned() };
            if !snapshot.objects.contains_key(&peer) {
                return Err(snapshot.absent("bgppeers", &format!("BGPPeer {name}")));
            }
        }
        let selects = |_: &str, session: &Session| name.is_none_or(|name| session.peer == name);
        Ok(Self { sessions: rows(snapshot, selects), unread: snapshot.unread.clone() })
    }
}

impl Report for PeerReport {
    const KIND: &'static str = "SessionList";

    fn text(&self, wide: bool) -> String {
        if self.sessions.is_empty() {
            return "No BGP sessions: no BGPPeer selects a Node with a speaker.\n".to_owned()
                + &super::unread_text(&self.unread);
        }
        let up = self.sessions.iter().filter(|session| session.state == "Established").count();
        let total =
            format!("\n{up} of {} established\n", crate::output::count(self.sessions.len(), "session"));
        table_of(&self.sessions, wide) + &total + &super::unread_text(&self.unread)
    }

    fn succeeds(&self) -> bool {
        self.sessions.iter().all(|session| !session.is_down)
    }
}
