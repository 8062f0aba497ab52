//! The coordinator: turns watch events, mesh membership and links into commands for the other tasks.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_crds::resolve::{ObjectRef, ObjectVerdict};
use fairlead_l2::{InterfaceSet, MAX_SERVED_INTERFACES, Mac};
use fairlead_plan::announced_lists::AnnouncedLists;
use fairlead_plan::membership_gate::MembershipGate;
use fairlead_plan::node_status::Summary;
use fairlead_plan::occurrences::{ConflictReport, TakeoverReport};
use fairlead_plan::speaker_object::{MeshEndpoint, SpeakerReport};
use fairlead_plan::{AnnouncementChange, LinkNetwork, LinkNetworks, ProbeAnswer};
use fairlead_probe::Detection;
use fairlead_runtime::http::Health;
use fairlead_runtime::watch::missing_kinds_note;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cluster_state::{ClusterState, Departure};
use crate::excluded_interfaces::ExcludedInterfaces;
use crate::mesh_link::MeshLink;
use crate::metrics::Metrics;
use crate::tasks::bgp::BgpPeers;
use crate::tasks::events::{ConflictSender, TakeoverSender};
use crate::tasks::gateways::GatewaysReceiver;
use crate::tasks::l2::{L2CommandSender, L2Report, L2ReportReceiver, served_families, usable};
use crate::tasks::links::LinksReceiver;
use crate::tasks::mesh::{Membership, MeshInput};
use crate::tasks::mesh_key::MeshKey;
use crate::tasks::sleep_until_or_forever;
use crate::trim::MAX_MACS;
use crate::watches::WatchEvent;

/// Most watch events that are handled before the plan is updated, so that a burst costs one update.
const MAX_EVENTS_PER_UPDATE: usize = 256;

/// State and channels of the coordinator.
pub(crate) struct Coordinator {
    pub state: ClusterState,
    pub events: mpsc::Receiver<WatchEvent>,
    pub membership: watch::Receiver<Membership>,
    pub mesh_key: watch::Receiver<MeshKey>,
    pub links: LinksReceiver,
    pub gateways: GatewaysReceiver,
    pub excluded_interfaces: ExcludedInterfaces,
    /// How failures of other nodes are detected, as published in the Speaker object; `None` without L2.
    pub l2_detection: Option<Detection>,
    /// UDP port of the mesh, as published in the Speaker object.
    pub mesh_port: u16,
    pub l2: Arc<L2CommandSender>,
    pub l2_reports: L2ReportReceiver,
    pub bgp: BgpPeers,
    /// Addresses of this node, for the BGP peer tasks.
    pub node_addresses: watch::Sender<Vec<IpAddr>>,
    /// The turn of this node to replace sessions, for the BGP peer tasks.
    pub turn: watch::Sender<Duration>,
    pub mesh_input: watch::Sender<MeshInput>,
    /// True while the data path task must send probes.
    pub probe_wanted: watch::Sender<bool>,
    pub probe_answers: mpsc::Receiver<ProbeAnswer>,
    pub report: watch::Sender<SpeakerReport>,
    pub health: Health,
    pub metrics: Metrics,
    pub announced: AnnouncedLists,
    pub takeovers: TakeoverSender,
    pub conflicts: ConflictSender,
    /// Ends [`Coordinator::run`].
    pub stop: CancellationToken,
}

impl Coordinator {
    /// Runs until stopped. Returns the BGP peers, so that the caller can shut them down, and why this node
    /// remains without a speaker; `None` if the speaker restarts.
    pub(crate) async fn run(mut self) -> (BgpPeers, Option<Departure>) {
        self.membership.mark_changed();
        self.links.mark_changed();
        let mut refused = BTreeSet::new();
        let mut waiting_for = String::new();
        let mut gate = MembershipGate::default();
        let mut arrivals = 0;
        let mut may_claim = true;
        let mut speaker_macs = BTreeSet::new();
        let mut mesh_link = MeshLink::default();
        let mut mesh_address = None;
        let mut last_probe = String::new();
        let stop = self.stop.clone();
        loop {
            let timeouts = [gate.poll_timeout(), self.state.poll_timeout(), self.announced.poll_timeout()];
            let timeout = timeouts.into_iter().flatten().min();
            let mut member_joined = false;
            let mut links_changed = false;
            tokio::select! {
                biased;
                () = stop.cancelled() => return (self.bgp, self.state.departure()),
                // Before the watches, because failover waits for it.
                Ok(()) = self.membership.changed() => {
                    let view = self.membership.borrow_and_update().clone();
                    let new_arrivals = view.as_ref().map_or(0, |view| view.arrivals);
                    member_joined = new_arrivals != arrivals;
                    arrivals = new_arrivals;
                    if let Some(view) = &view {
                        self.state.set_interfaces(&view.interfaces);
                        self.state.set_departed(&view.departed);
                    }
                    gate.handle_members(Instant::now(), view.map(|view| view.members));
                }
                Ok(()) = self.links.changed() => {
                    links_changed = true;
                    self.update_links();
                }
                Some(report) = self.l2_reports.recv() => self.handle_l2_report(report),
                Ok(()) = self.gateways.changed() => self.update_links(),
                Some(answer) = self.probe_answers.recv() => {
                    self.state.handle_probe(&answer);
                    last_probe = match answer {
                        ProbeAnswer::NotReady(reason) => reason,
                        ProbeAnswer::Ready { .. } | ProbeAnswer::KubeProxy(_) => "the data path answers".to_owned(),
                    };
                }
                // Read below, when the node is reported.
                Ok(()) = self.mesh_key.changed() => {}
                () = sleep_until_or_forever(timeout) => {}
                event = self.events.recv() => match event {
                    Some(event) => self.handle_watch_events(event),
                    // The watches end only at shutdown.
                    None => return (self.bgp, self.state.departure()),
                },
            }
            let began = Instant::now();
            let address = self.state.node_addresses().first().copied();
            if links_changed || address != mesh_address {
                mesh_address = address;
                let up = mesh_link.is_up(&self.links.borrow(), address, self.state.has_links());
                gate.handle_link(Instant::now(), up);
            }
            let elects_owners = *self.mesh_key.borrow() != MeshKey::NotNeeded;
            if elects_owners && (gate.poll_timeout().is_some() || gate.members().is_none()) {
                gate.handle_expected(self.state.expected_members());
                if gate.handle_timeout(Instant::now()) {
                    tracing::info!(
                        members = gate.members().map(BTreeSet::len),
                        "mesh membership is known; electing L2 owners"
                    );
                }
            }
            self.state.set_live(gate.members());
            if may_claim != gate.may_claim() {
                may_claim = gate.may_claim();
                self.state.set_may_claim(may_claim);
                self.l2.set_quiet(!may_claim);
            }
            if speaker_macs != *self.state.speaker_macs() {
                speaker_macs.clone_from(self.state.speaker_macs());
                self.l2.set_speaker_macs(speaker_macs.clone());
            }
            self.state.set_time(Instant::now());
            let (changes, objects) = self.state.changes();
            for object in objects {
                let kept = self.state.kept_message(&object);
                log_refusal(&mut refused, self.state.verdict(&object), kept, object);
            }
            // Before the changes: a session that opens reads the addresses of the node.
            self.publish();
            self.bgp.set_cause(self.state.take_endpoint_event());
            for change in changes {
                self.apply(change);
            }
            if member_joined {
                // During a partition the other side may have announced every address. After the changes,
                // because an address that this node hands over must not be announced again.
                self.l2.announce_all_again();
            }
            self.bgp.start_opened();
            self.report_takeovers(began);
            self.report_unconfirmed(&last_probe);
            self.update_readiness(&mut waiting_for);
            // A burst of watch events delays the other tasks of this thread by one update at a time.
            tokio::task::yield_now().await;
        }
    }

    fn handle_l2_report(&mut self, report: L2Report) {
        match report {
            L2Report::Yielded(address) => {
                self.state.yield_address(address);
                // The node may have been told to announce it again meanwhile.
                self.l2.withdraw(address, false);
            }
            L2Report::Confirmed(address) => self.state.confirm_address(address),
            L2Report::Conflict(conflict) => {
                let (now, at) = (Instant::now(), Timestamp::now());
                let Some((services, conflict)) = self.state.handle_conflict(now, at, conflict) else {
                    return;
                };
                for service in services {
                    self.conflicts.send(ConflictReport { service, conflict: conflict.clone(), at });
                }
            }
        }
    }

    /// Passes the networks of the interfaces that can announce to the plan, and what they can announce to the
    /// mesh.
    fn update_links(&mut self) {
        // Not listed yet: a node always has the loopback interface.
        if self.links.borrow().by_index.is_empty() {
            return;
        }
        let (links, gateways) = (self.links.borrow().clone(), self.gateways.borrow().clone());
        let gateways = [gateways.v4, gateways.v6].concat();
        let usable = usable(&links, &self.excluded_interfaces);
        let mut networks: LinkNetworks = usable
            .map(|link| {
                let on_link = gateways.iter().filter(|gateway| gateway.ifindex == link.index);
                let gateways = on_link.map(|gateway| gateway.address).collect();
                let addresses = link.addresses.clone();
                (link.name.clone(), LinkNetwork { addresses, gateways, families: served_families(link) })
            })
            .collect();
        // This node counts on the same interfaces as the others, which learn of no more.
        while networks.len() > MAX_SERVED_INTERFACES {
            networks.pop_last();
        }
        let served = networks.iter().map(|(name, network)| (name.clone(), network.families)).collect();
        self.state.set_links(networks);
        // Before the plan is updated: other nodes take over the addresses of an interface that is down.
        let served = Some(Arc::new(served));
        self.mesh_input.send_if_modified(|input| replace(&mut input.interfaces, served));
    }

    fn handle_watch_events(&mut self, first: WatchEvent) {
        self.state.handle_watch_event(first);
        for _ in 1..MAX_EVENTS_PER_UPDATE {
            match self.events.try_recv() {
                Ok(event) => self.state.handle_watch_event(event),
                Err(_) => return,
            }
        }
    }

    fn apply(&mut self, change: AnnouncementChange) {
        match change {
            AnnouncementChange::PeerOpen(peer) => self.bgp.open(*peer),
            AnnouncementChange::PeerUpdate { peer, wanted, delay } => self.bgp.update(&peer, wanted, delay),
            AnnouncementChange::GracefulShutdown(graceful_shutdown) => {
                if let Some(cause) = self.state.plan().drain_cause() {
                    tracing::info!(%cause, "moving the addresses of this node to other nodes");
                }
                self.bgp.set_graceful_shutdown(graceful_shutdown);
            }
            AnnouncementChange::PeerClose { peer } => self.bgp.close(&peer),
            AnnouncementChange::RouteAnnounce { peer, prefix, attributes } => {
                self.bgp.announce(&peer, prefix, attributes)
            }
            AnnouncementChange::RouteWithdraw { peer, prefix } => self.bgp.withdraw(&peer, prefix),
            AnnouncementChange::L2Announce { address, interfaces, claim } => {
                self.l2.announce(address, interfaces, claim)
            }
            AnnouncementChange::L2Withdraw { address, handover } => self.l2.withdraw(address, handover),
        }
    }

    /// Sends new values to the other tasks. A task is woken only if its value changed.
    fn publish(&mut self) {
        let addresses = self.state.node_addresses();
        self.node_addresses.send_if_modified(|current| {
            let changed = current.as_slice() != addresses;
            if changed {
                *current = addresses.to_vec();
            }
            changed
        });
        self.turn.send_if_modified(|current| replace(current, self.state.plan().turn()));
        let synced = self.state.waiting_for().is_none();
        let own = addresses.first().copied();
        // Join the mesh only when synced: members are elected as owners.
        let peers = self.state.mesh_peers().filter(|_| synced);
        self.mesh_input.send_if_modified(|current| {
            let changed = current.own != own || current.peers != peers;
            (current.own, current.peers) = (own, peers);
            changed
        });
        self.probe_wanted.send_if_modified(|wanted| replace(wanted, self.state.plan().awaits_data_path()));
        let announced = self.announced.update(self.state.plan(), Instant::now());
        let mut summary = Summary::new(self.state.plan(), announced, synced);
        summary.l2_detection = self.l2_detection.map(Detection::as_str);
        self.metrics.l2_announced.set(self.state.plan().l2_announced() as i64);
        self.metrics.not_announced.set(summary.not_announced_count as i64);
        let key = self.mesh_key.borrow().clone();
        // Report only when synced: before, the status would show addresses as not announced. Without the
        // result of reading the key, the object would be written twice at each start.
        let is_known = synced && key != MeshKey::Unread;
        let macs = {
            let links = self.links.borrow();
            let macs: BTreeSet<Mac> =
                usable(&links, &self.excluded_interfaces).filter_map(|link| link.mac).collect();
            macs.into_iter().take(MAX_MACS).collect()
        };
        let report = SpeakerReport {
            node_uid: self.state.node_uid().filter(|_| is_known).map(str::to_owned),
            // A speaker without a key takes no part in the mesh: the others would wait for its answers.
            mesh: own.zip(key.fingerprint()).map(|(address, fingerprint)| MeshEndpoint {
                address: SocketAddr::new(address, self.mesh_port),
                key_fingerprint: fingerprint.to_owned(),
                macs,
            }),
            deletions: self.state.own_object_deletions(),
            silence_reports: self.state.silence_reports(),
            summary,
        };
        self.report.send_if_modified(|current| replace(current, report));
    }

    /// Reports the L2 addresses that this node begins to announce. `began` is the time of the change that
    /// caused it.
    fn report_takeovers(&mut self, began: Instant) {
        let takeovers = self.state.take_takeovers();
        if takeovers.is_empty() {
            return;
        }
        let (duration, at) = (began.elapsed(), Timestamp::now());
        let mut names: Vec<String> = {
            let links = self.links.borrow();
            let usable = usable(&links, &self.excluded_interfaces);
            usable.map(|link| link.name.clone()).collect()
        };
        names.sort();
        for takeover in takeovers {
            let announces = |name: &&String| match &takeover.interfaces {
                InterfaceSet::All => true,
                InterfaceSet::Named(listed) => listed.contains(*name),
            };
            let interfaces: Vec<&str> = names.iter().filter(announces).map(String::as_str).collect();
            let interfaces = interfaces.join(", ").into();
            self.takeovers.send(TakeoverReport { takeover, interfaces, duration, at });
        }
    }

    /// Logs the addresses that are announced because they have waited for the data path for too long.
    fn report_unconfirmed(&mut self, last_probe: &str) {
        let unconfirmed = self.state.take_unconfirmed();
        let Some((service, address)) = unconfirmed.first() else { return };
        self.metrics.data_path_timeouts.inc_by(unconfirmed.len() as u64);
        tracing::warn!(
            addresses = unconfirmed.len(),
            %service,
            %address,
            last_probe,
            "announcing addresses although the data path of this node was not ready in time; check the \
             Service proxy and --data-path-probe"
        );
    }

    /// Sets what `/readyz` returns, and logs it. `logged` is the last text that was logged.
    fn update_readiness(&self, logged: &mut String) {
        self.health.set_note(missing_kinds_note(self.state.missing_kinds()));
        let waiting_for = match (self.state.waiting_for(), self.mesh_key.borrow().waiting_for()) {
            (Some(waiting_for), _) => waiting_for,
            (None, _) if self.state.plan().own_node().is_none() => {
                "the Node object of this node; check --node-name".to_owned()
            }
            // L2 needs the mesh; BGP routes are announced without it.
            (None, Some(key)) => key,
            (None, None) => {
                if !self.health.is_ready() {
                    tracing::info!("ready");
                    self.health.set_ready();
                    logged.clear();
                }
                return;
            }
        };
        if *logged != waiting_for {
            // The first lists and the key arrive one by one, normally within a second.
            if self.state.waiting_for().is_some() || *self.mesh_key.borrow() == MeshKey::Unread {
                tracing::debug!("waiting for {waiting_for}");
            } else {
                tracing::warn!("waiting for {waiting_for}");
            }
            self.health.set_awaiting(&waiting_for);
            *logged = waiting_for;
        }
    }
}

/// Stores the new value. Returns true if it differs from the current one.
fn replace<T: PartialEq>(current: &mut T, new: T) -> bool {
    let changed = *current != new;
    if changed {
        *current = new;
    }
    changed
}

/// Logs a refused object once, until it is accepted. `logged` contains the objects that are refused already.
fn log_refusal(
    logged: &mut BTreeSet<ObjectRef>,
    verdict: Option<&ObjectVerdict>,
    kept: Option<String>,
    object: ObjectRef,
) {
    match verdict {
        Some(ObjectVerdict::Refused { reason, message }) => {
            if !logged.contains(&object) {
                tracing::warn!(%object, %reason, message, in_force = kept, "refused configuration object");
                logged.insert(object);
            }
        }
        Some(ObjectVerdict::Accepted) | None => drop(logged.remove(&object)),
    }
}
