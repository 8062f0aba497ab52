//! Who announces an address, to whom, and why others do not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_crds::model::config::Pool;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::v1beta1::SpeakerStatus;
use fairlead_plan::{AnnouncementState, NotAnnouncedReason, Plan, Protocol, Service};

use crate::cluster::Snapshot;
use crate::network::{Network, NodePlan, lists};
use crate::output::list;
use crate::status::session_reason;

/// The maximum number of nodes that a line names.
const MAX_NODES: usize = 5;

/// The announcement of the addresses of some Services.
pub(super) struct Wire<'a> {
    snapshot: &'a Snapshot,
    network: Network,
    owners: Plan,
    /// The plans of the nodes with a speaker that is ready.
    nodes: BTreeMap<String, NodePlan>,
}

/// Nodes by what they have in common.
type Grouped = BTreeMap<String, Vec<String>>;

impl<'a> Wire<'a> {
    /// Computes the announcement of these addresses.
    pub(super) fn of(snapshot: &'a Snapshot, mut network: Network, addresses: &[IpAddr]) -> Self {
        network.keep_related(addresses);
        let owners = network.plan_of_owners();
        let live = snapshot.live_nodes();
        let nodes = live.into_iter().map(|node| (node.to_owned(), network.plan_of(node))).collect();
        Self { snapshot, network, owners, nodes }
    }

    /// Returns the lines about an address of a Service.
    pub(super) fn lines(&self, key: &ObjectKey, address: IpAddr) -> Vec<String> {
        let services = &self.network.services;
        let Some((_, service)) = services.iter().find(|(known, _)| known == key) else { return Vec::new() };
        let Some(pool) = service.pool_of(&self.network.config, address) else {
            return vec![
                "no IPAddressPool in force contains this address, so no node announces it".to_owned(),
            ];
        };
        let mut lines = vec![format!("from IPAddressPool {}", pool.name)];
        if self.nodes.is_empty() && !self.snapshot.is_unread("speakers") {
            lines.push("no speaker is ready, so no node announces it".to_owned());
        }
        lines.extend(self.l2(key, service, pool, address));
        lines.extend(self.bgp(key, service, pool, address));
        lines
    }

    /// Returns true if objects that decide could not be read.
    fn is_unknown(&self) -> bool {
        self.snapshot.is_unread("nodes") || self.snapshot.is_unread("endpointslices")
    }

    fn l2(&self, key: &ObjectKey, service: &Service, pool: &Pool, address: IpAddr) -> Vec<String> {
        let ads: Vec<&str> =
            self.network.config.l2_for(pool, &service.labels).map(|ad| ad.name.as_str()).collect();
        if ads.is_empty() {
            return vec!["L2: no L2Advertisement selects the pool and the Service".to_owned()];
        }
        let order = self.owners.owner_order(address);
        let by = format!("L2 by L2Advertisement {}", ads.join(", "));
        let mut lines = Vec::new();
        match order.split_first() {
            _ if self.is_unknown() => lines.push(format!("{by}: the owner is unknown")),
            None => lines.push(format!("{by}: no node with a live speaker can announce it")),
            Some((owner, [])) => lines.push(format!("{by}: {owner} owns it; no other node can take over")),
            Some((owner, standby)) => {
                lines.push(format!("{by}: {owner} owns it; if it fails: {}", list(standby, MAX_NODES)));
            }
        }
        let speakers = self.snapshot.speakers();
        for speaker in speakers.values().filter(|speaker| speaker.is_ready()) {
            let Some(l2) = &speaker.status.l2 else { continue };
            let is_owner = order.first().is_some_and(|owner| **owner == *speaker.node);
            let is_listed = lists(&l2.announced.addresses, address);
            if is_listed {
                lines.push(format!("Speaker {} announces it by L2", speaker.node));
            } else if is_owner && l2.announced.complete == Some(true) {
                lines.push(format!("Speaker {} does not announce it by L2", speaker.node));
            }
        }
        let mut unable = Grouped::new();
        for (node, own) in self.nodes.iter().filter(|_| !self.is_unknown()) {
            if let Some(reason) = own.plan.l2_inability(key, address) {
                unable.entry(reason_text(reason)).or_default().push(node.clone());
            }
        }
        lines.extend(unable.iter().map(|(reason, nodes)| not_by("L2", nodes, reason)));
        lines
    }

    fn bgp(&self, key: &ObjectKey, service: &Service, pool: &Pool, address: IpAddr) -> Vec<String> {
        let ads: Vec<&str> =
            self.network.config.bgp_for(pool, &service.labels).map(|ad| ad.name.as_str()).collect();
        if ads.is_empty() {
            return vec!["BGP: no BGPAdvertisement selects the pool and the Service".to_owned()];
        }
        let speakers = self.snapshot.speakers();
        let mut sent: BTreeMap<String, (Vec<String>, Grouped)> = BTreeMap::new();
        let mut silent = Grouped::new();
        for (node, own) in self.nodes.iter().filter(|_| !self.is_unknown()) {
            if let Some(AnnouncementState::Not(reason)) = own.plan.state(key, address, Protocol::Bgp) {
                silent.entry(reason_text(reason)).or_default().push(node.clone());
                continue;
            }
            for route in own.routes.iter().filter(|route| route.prefix.contains(&address)) {
                let router = own.peers.get(&route.peer).map(|peer| peer.address.to_string());
                let what = format!(
                    "{} to BGPPeer {} ({}), {}",
                    route.prefix,
                    route.peer,
                    router.unwrap_or_default(),
                    route.attributes()
                );
                let (carried, down) = sent.entry(what).or_default();
                let status = speakers.get(node.as_str()).map(|speaker| speaker.status);
                let sessions = status.into_iter().flat_map(|status| &status.sessions);
                let session = sessions.into_iter().find(|session| session.peer == route.peer);
                match session {
                    Some(session) if session.state == "Established" => carried.push(node.clone()),
                    Some(session) => down.entry(session_reason(session)).or_default().push(node.clone()),
                    None => down.entry("no session yet".to_owned()).or_default().push(node.clone()),
                }
            }
        }
        let unknown = if self.is_unknown() { ": the routes are unknown" } else { "" };
        let mut lines = vec![format!("BGP by BGPAdvertisement {}{unknown}", ads.join(", "))];
        for (what, (carried, down)) in sent {
            if !carried.is_empty() {
                lines.push(format!("{what}: from {}", list(&carried, MAX_NODES)));
            }
            for (reason, nodes) in down {
                let nodes = list(&nodes, MAX_NODES);
                lines.push(format!("{what}: not from {nodes}, whose session is not established: {reason}"));
            }
        }
        let announces =
            |status: &SpeakerStatus| status.bgp.as_ref().is_some_and(|bgp| lists(&bgp.addresses, address));
        let reported = speakers.values().filter(|speaker| speaker.is_ready() && announces(speaker.status));
        let reported: Vec<&str> = reported.map(|speaker| speaker.node).collect();
        if !reported.is_empty() {
            let nodes = list(&reported, MAX_NODES);
            let (plural, verb) = if reported.len() == 1 { ("", "s") } else { ("s", "") };
            lines.push(format!("Speaker{plural} {nodes} announce{verb} it by BGP"));
        }
        lines.extend(silent.iter().map(|(reason, nodes)| not_by("BGP", nodes, reason)));
        lines
    }
}

fn not_by(protocol: &str, nodes: &[String], reason: &str) -> String {
    format!("not by {protocol} from {}: {reason}", list(nodes, MAX_NODES))
}

/// Returns a reason with its message.
pub(super) fn reason_text(reason: NotAnnouncedReason) -> String {
    format!("{reason}: {}", reason.message())
}
