//! The one task that decides: watches, mesh and links come in, differences go to the engines.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use fairlead_crds::resolve::{ObjectRef, ObjectVerdict, Resolution};
use fairlead_runtime::http::Health;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cluster_state::Known;
use crate::excluded_interfaces::Excluded;
use crate::metrics::Metrics;
use crate::tasks::l2::{self, usable};
use crate::tasks::links;
use crate::tasks::speaker_object::Report;
use crate::tasks::{bgp, mesh, until};
use crate::watches::Input;
use fairlead_plan::AnnouncementChange;
use fairlead_plan::membership_gate::MembershipGate;
use fairlead_plan::node_status::Summary;

/// Messages taken at once before anything is decided, so that a burst is decided once.
const BURST: usize = 256;

/// Everything the deciding task is connected to.
pub(crate) struct Deciding {
    /// What is known and planned.
    pub known: Known,
    /// From the watches.
    pub inputs: mpsc::Receiver<Input>,
    /// From the mesh.
    pub live: watch::Receiver<mesh::Live>,
    /// The node's interfaces.
    pub links: links::Known,
    /// Interfaces never used for L2.
    pub excluded: Excluded,
    /// UDP port of the mesh.
    pub mesh_port: u16,
    /// To the L2 engine.
    pub l2: mpsc::UnboundedSender<l2::Command>,
    /// The BGP engine.
    pub bgp: bgp::Engine,
    /// To the BGP sessions.
    pub node_addresses: watch::Sender<Vec<IpAddr>>,
    /// To the mesh.
    pub surroundings: watch::Sender<mesh::Surroundings>,
    /// To the writer.
    pub report: watch::Sender<Report>,
    /// What `/readyz` answers.
    pub health: Health,
    /// Gauges.
    pub metrics: Metrics,
    /// Told to stop deciding.
    pub stop: CancellationToken,
}

impl Deciding {
    /// Decides until told to stop; gives the BGP engine back for its shutdown.
    pub(crate) async fn run(mut self) -> bgp::Engine {
        self.live.mark_changed();
        self.links.mark_changed();
        let mut refused = BTreeSet::new();
        let mut awaited = String::new();
        let mut gate = MembershipGate::default();
        let mut arrivals = 0;
        let stop = self.stop.clone();
        loop {
            let gate_timeout = gate.poll_timeout();
            let mut claim_again = false;
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.bgp,
                // Who lives comes first: that is what failover waits for.
                Ok(()) = self.live.changed() => {
                    let members = self.live.borrow_and_update().clone();
                    let came = members.as_ref().map_or(0, |members| members.arrivals);
                    claim_again = came != arrivals;
                    arrivals = came;
                    gate.handle_members(Instant::now(), members.map(|members| members.alive));
                }
                Ok(()) = self.links.changed() => {
                    let links = self.links.borrow_and_update().clone();
                    let usable = links.by_index.values().filter(|link| usable(link, &self.excluded));
                    let names: BTreeSet<String> = usable.map(|link| link.name.clone()).collect();
                    gate.handle_link(Instant::now(), !names.is_empty());
                    self.known.set_links(names);
                }
                () = until(gate_timeout) => {}
                input = self.inputs.recv() => match input {
                    Some(input) => self.take(input),
                    // The watches never end by themselves.
                    None => return self.bgp,
                },
            }
            if gate.poll_timeout().is_some() || gate.members().is_none() {
                gate.handle_expected(self.known.peers().map(|peers| peers.keys().cloned().collect()));
                if gate.handle_timeout(Instant::now()) {
                    tracing::info!(
                        members = gate.members().map(BTreeSet::len),
                        "mesh membership is known; electing L2 owners"
                    );
                }
            }
            self.known.set_live(gate.members());
            let (changes, resolution) = self.known.changes();
            if let Some(resolution) = resolution {
                say_refused(&mut refused, &resolution);
            }
            // Before the changes: a session that opens needs the node's addresses.
            self.publish();
            for change in changes {
                self.carry_out(change);
            }
            if claim_again {
                // After the changes: what this node hands over it claims no more.
                let _ = self.l2.send(l2::Command::ClaimAgain);
            }
            self.bgp.start();
            self.set_ready(&mut awaited);
        }
    }

    fn take(&mut self, input: Input) {
        self.known.take(input);
        for _ in 1..BURST {
            match self.inputs.try_recv() {
                Ok(input) => self.known.take(input),
                Err(_) => return,
            }
        }
    }

    fn carry_out(&mut self, change: AnnouncementChange) {
        match change {
            AnnouncementChange::PeerOpen(peer) => self.bgp.open(*peer),
            AnnouncementChange::PeerClose { peer } => self.bgp.close(&peer),
            AnnouncementChange::RouteAnnounce { peer, prefix, attributes } => {
                self.bgp.announce(&peer, prefix, attributes)
            }
            AnnouncementChange::RouteWithdraw { peer, prefix } => self.bgp.withdraw(&peer, prefix),
            AnnouncementChange::L2Announce { address, interfaces } => {
                // The engine ends only after this task.
                let _ = self.l2.send(l2::Command::Announce { address, interfaces });
            }
            AnnouncementChange::L2Withdraw { address, handover } => {
                let _ = self.l2.send(l2::Command::Withdraw { address, handover });
            }
        }
    }

    /// Tells the other tasks what changed for them.
    fn publish(&self) {
        let addresses = self.known.own_addresses();
        self.node_addresses.send_if_modified(|known| {
            let new = known.as_slice() != addresses;
            if new {
                *known = addresses.to_vec();
            }
            new
        });
        let ready = self.known.awaited().is_none();
        let own = addresses.first().copied();
        // Whoever appears in the mesh is given addresses: only one that knows the Services can take them.
        let peers = self.known.peers().filter(|_| ready);
        self.surroundings.send_if_modified(|known| replace(known, mesh::Surroundings { own, peers }));
        let summary = Summary::new(self.known.plan(), ready);
        self.metrics.l2_announced.set(summary.l2 as i64);
        self.metrics.not_announced.set(summary.not_announced_count as i64);
        let report = Report {
            // Before everything was seen there is nothing to say, and much that would be wrong.
            uid: self.known.uid().filter(|_| ready).map(str::to_owned),
            mesh: own.map(|address| SocketAddr::new(address, self.mesh_port)),
            vanished: self.known.vanished(),
            summary,
        };
        self.report.send_if_modified(|known| replace(known, report));
    }

    fn set_ready(&self, said: &mut String) {
        let awaited = match self.known.awaited() {
            Some(awaited) => awaited,
            None if self.known.plan().own_node().is_none() => {
                "the Node object of this node; is --node-name right?".to_owned()
            }
            None => {
                if !self.health.is_ready() {
                    tracing::info!("ready");
                    self.health.set_ready();
                    said.clear();
                }
                return;
            }
        };
        if *said != awaited {
            // Lists come one by one, all in a moment when all is well.
            if self.known.awaited().is_some() {
                tracing::debug!("waiting for {awaited}");
            } else {
                tracing::warn!("waiting for {awaited}");
            }
            self.health.set_awaiting(&awaited);
            *said = awaited;
        }
    }
}

fn replace<T: PartialEq>(known: &mut T, new: T) -> bool {
    let differs = *known != new;
    if differs {
        *known = new;
    }
    differs
}

/// Logs each refusal once; the controller writes them into the objects.
fn say_refused(said: &mut BTreeSet<ObjectRef>, resolution: &Resolution) {
    let mut refused = BTreeSet::new();
    for (object, verdict) in &resolution.verdicts {
        if let ObjectVerdict::Refused { reason, message } = verdict {
            if !said.contains(object) {
                tracing::warn!(%object, %reason, message, "refused");
            }
            refused.insert(object.clone());
        }
    }
    *said = refused;
}
