//! `fairlead routes`: the routes that a node sends to its BGP peers.

use anyhow::{Result, bail};
use serde::Serialize;

use crate::cluster::{Snapshot, Unread};
use crate::explain::resolved;
use crate::network::{Network, Route};
use crate::output::{Format, Report, count, render as render_report, table};

/// The routes of a node.
#[derive(Serialize)]
pub(crate) struct RoutesReport {
    pub node: String,
    pub peers: Vec<PeerRoutes>,
    pub unread: Vec<Unread>,
}

/// The routes that a node sends to one peer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerRoutes {
    pub peer: String,
    pub address: String,
    /// The state of the session, as the Speaker object reports it; `NotReported` if it does not.
    pub state: String,
    /// The number of prefixes that the Speaker object reports as announced.
    pub reported: Option<i64>,
    pub routes: Vec<Route>,
}

impl PeerRoutes {
    fn is_well(&self) -> bool {
        let computed = i64::try_from(self.routes.len()).unwrap_or(i64::MAX);
        self.state == "Established" && self.reported == Some(computed)
    }
}

impl RoutesReport {
    fn of(snapshot: &Snapshot, node: &str, peer: Option<&str>) -> Result<Self> {
        let network = Network::of(snapshot, resolved(snapshot)?.resolution().config.clone());
        if !network.nodes.iter().any(|(name, _)| **name == *node) {
            if snapshot.is_unread("nodes") {
                bail!("the routes of Node {node} are unknown, because the Nodes cannot be read");
            }
            bail!("there is no Node {node}");
        }
        let own = network.plan_of(node);
        let selected: Vec<_> =
            own.peers.values().filter(|one| peer.is_none_or(|name| one.name == name)).collect();
        if let Some(peer) = peer.filter(|_| selected.is_empty()) {
            bail!(
                "Node {node} has no session with a BGPPeer {peer}: no accepted BGPPeer of this name selects it"
            );
        }
        let speakers = snapshot.speakers();
        let sessions = speakers.get(node).filter(|speaker| speaker.is_ready());
        let peers = selected.into_iter().map(|peer| {
            let sessions = sessions.iter().flat_map(|speaker| &speaker.status.sessions);
            let session = sessions.into_iter().find(|session| session.peer == peer.name);
            PeerRoutes {
                peer: peer.name.clone(),
                address: peer.address.to_string(),
                state: session.map_or_else(|| "NotReported".to_owned(), |session| session.state.clone()),
                reported: session.map(|session| session.prefixes),
                routes: own.routes.iter().filter(|route| route.peer == peer.name).cloned().collect(),
            }
        });
        Ok(Self { node: node.to_owned(), peers: peers.collect(), unread: snapshot.unread.clone() })
    }
}

impl Report for RoutesReport {
    const KIND: &'static str = "Routes";

    fn text(&self, _: bool) -> String {
        if self.peers.is_empty() {
            return format!("No accepted BGPPeer selects Node {}.\n", self.node);
        }
        let mut text = String::new();
        for PeerRoutes { peer, address, state, reported, routes } in &self.peers {
            let reported = match reported {
                Some(reported) => format!("the Speaker reports {reported}"),
                None => "the Speaker reports none".to_owned(),
            };
            let header = format!(
                "BGPPeer {peer} ({address}): {state}, {} computed, {reported}",
                count(routes.len(), "route")
            );
            text += &format!("{}\n", fairlead_crds::text::message(header));
            if !routes.is_empty() {
                let headers = ["PREFIX", "AS-PATH", "MED", "LOCAL-PREF", "COMMUNITIES"];
                let number = |number: Option<u32>| number.map(|one| one.to_string()).unwrap_or_default();
                let rows = routes.iter().map(|route| {
                    vec![
                        route.prefix.to_string(),
                        route.path(),
                        number(route.med),
                        number(route.local_pref),
                        route.communities.join(" "),
                    ]
                });
                text += &crate::output::indented(&table(&headers, rows));
            }
        }
        text + &crate::status::unread_text(&self.unread)
    }

    fn succeeds(&self) -> bool {
        self.peers.iter().all(PeerRoutes::is_well)
    }
}

/// Returns the routes of a node.
///
/// # Errors
/// Returns an error if there is no such Node, or no such peer of it.
pub(crate) fn render(
    snapshot: &Snapshot,
    node: &str,
    peer: Option<&str>,
    format: Format,
) -> Result<(String, bool)> {
    let report = RoutesReport::of(snapshot, node, peer)?;
    Ok((render_report(&report, format)?, report.succeeds()))
}
