//! What the watches report.

use std::collections::BTreeSet;

use fairlead_allocator::ipam::NodeNetwork;
use fairlead_allocator::reconcile::Removal;
use fairlead_allocator::reconcile::announcement::ObservedSpeaker;
use fairlead_allocator::reconcile::objects::AppliedChange;
use fairlead_crds::resolve::{Kind, ObjectRef};
use fairlead_crds::store::{ConfigurationChange, ObjectChange};
use jiff::Timestamp;

use super::ClusterState;
use crate::watches::{ClusterChange, WatchedNamespace, WatchedService};

impl ClusterState {
    /// Handles a change that a watch reported.
    pub(in crate::reconciler) fn handle_change(&mut self, change: ClusterChange, now: Timestamp) {
        if !matches!(change, ClusterChange::Configuration(_)) {
            self.resolve_configuration(now);
        }
        match change {
            ClusterChange::Services(change) => self.handle_services(change, now),
            ClusterChange::Claims(ObjectChange::Apply(claim)) if claim.class == self.class => {
                self.index.claim_applied(*claim, now)
            }
            // Another instance handles its class.
            ClusterChange::Claims(ObjectChange::Apply(claim)) => self.index.claim_deleted(&claim.key, now),
            ClusterChange::Claims(ObjectChange::Delete(key)) => self.index.claim_deleted(&key, now),
            ClusterChange::Claims(ObjectChange::Reset(list)) => {
                self.claims_missing = false;
                let own = list.into_iter().map(|claim| *claim).filter(|claim| claim.class == self.class);
                self.index.claims_reset(own.collect(), now);
            }
            ClusterChange::Claims(ObjectChange::Missing) => self.claims_missing = true,
            ClusterChange::Namespaces(change) => self.handle_namespaces(change, now),
            ClusterChange::Definition(kind, change) => {
                let is_deleted = match change {
                    ObjectChange::Apply(is_terminating) => is_terminating,
                    ObjectChange::Delete(_) => false,
                    ObjectChange::Reset(list) => list.into_iter().any(|is_terminating| is_terminating),
                    // Every API server serves CustomResourceDefinitions.
                    ObjectChange::Missing => return,
                };
                self.set_removal(self.configuration.removal().with_definition(kind, is_deleted));
                // The definition of this version may be installed now.
                self.observed_objects.extend(self.unstored.take());
                if kind == Kind::IPAddressPool && self.configured {
                    self.index.set_config(&self.configuration.config(), now);
                }
            }
            ClusterChange::Nodes(ObjectChange::Apply(node)) => {
                self.index.node_applied(&node.name, node.network, now);
            }
            ClusterChange::Nodes(ObjectChange::Delete(key)) => {
                self.index.node_applied(&key.name, NodeNetwork::default(), now);
            }
            // Every API server serves Nodes.
            ClusterChange::Nodes(ObjectChange::Missing) => {}
            ClusterChange::Nodes(ObjectChange::Reset(list)) => {
                self.nodes_listed = true;
                let networks = list.into_iter().map(|node| (node.name, node.network));
                self.index.nodes_reset(networks.collect(), now);
            }
            // Only the reports of silent speakers depend on them.
            ClusterChange::SpeakerEndpoints(_) => {}
            ClusterChange::ServiceCidrs(change) => match change {
                ObjectChange::Apply((name, ranges)) => self.index.service_ranges_applied(&name, ranges),
                ObjectChange::Delete(key) => self.index.service_ranges_applied(&key.name, BTreeSet::new()),
                ObjectChange::Reset(list) => self.index.service_ranges_reset(list),
                ObjectChange::Missing => self.index.service_ranges_reset(Vec::new()),
            },
            ClusterChange::Speakers(change) => self.handle_speakers(change, now),
            ClusterChange::Configuration(change) => self.handle_configuration(*change),
            ClusterChange::Cooldowns(list) => self.configuration.cooldowns_listed(list),
        }
    }

    fn handle_speakers(&mut self, change: ObjectChange<(String, Option<ObservedSpeaker>)>, now: Timestamp) {
        let peers = match change {
            ObjectChange::Apply((name, speaker)) => self.index.speaker_applied(&name, speaker, now),
            ObjectChange::Delete(key) => self.index.speaker_applied(&key.name, None, now),
            ObjectChange::Reset(list) => {
                let own = list.into_iter().filter_map(|(name, speaker)| Some((name, speaker?)));
                self.list_speakers(own.collect(), now)
            }
            // Without their definition, there are no speakers.
            ObjectChange::Missing => self.list_speakers(Vec::new(), now),
        };
        self.session_reports.handle_changed(peers);
    }

    fn list_speakers(&mut self, list: Vec<(String, ObservedSpeaker)>, now: Timestamp) -> BTreeSet<Box<str>> {
        let peers = self.index.speakers_reset(list, now);
        self.configuration.set_speakers_listed();
        self.observed_objects.extend(self.configuration.peers());
        peers
    }

    /// Evaluates the BGPPeers whose sessions differ.
    pub(super) fn report_sessions(&mut self, now: Timestamp) {
        for peer in self.session_reports.take_due(now) {
            if let Some(sessions) = self.index.peer_sessions(&peer) {
                self.configuration.set_peer_sessions(&peer, sessions);
                self.observed_objects.insert(ObjectRef { kind: Kind::BGPPeer, name: peer.into() });
            }
        }
    }

    fn handle_namespaces(&mut self, change: ObjectChange<WatchedNamespace>, now: Timestamp) {
        let list = match &change {
            ObjectChange::Apply(namespace) => std::slice::from_ref(namespace),
            ObjectChange::Delete(_) | ObjectChange::Missing => &[],
            ObjectChange::Reset(list) => list,
        };
        if let Some(own) = list.iter().find(|namespace| namespace.name == self.namespace) {
            let removal = Removal { namespace: own.is_terminating, ..self.configuration.removal() };
            self.set_removal(removal);
        }
        match change {
            ObjectChange::Apply(WatchedNamespace { name, labels, .. }) => {
                self.index.namespace_applied(name, labels, now);
            }
            ObjectChange::Delete(key) => self.index.namespace_deleted(&key.name),
            ObjectChange::Reset(list) => {
                let list = list.into_iter().map(|namespace| (namespace.name, namespace.labels));
                self.index.namespaces_reset(list.collect(), now);
            }
            // Every API server serves Namespaces.
            ObjectChange::Missing => {}
        }
    }

    fn set_removal(&mut self, removal: Removal) {
        if self.configuration.set_removal(removal) {
            tracing::info!(being_deleted = %removal, "the parts of Fairlead that are being deleted changed");
            self.pools.handle_changed_pools(self.configuration.pool_names().map(str::to_owned));
            self.observed_objects.extend(self.configuration.referable());
        }
    }

    fn handle_services(&mut self, mut change: ObjectChange<WatchedService>, now: Timestamp) {
        match &mut change {
            ObjectChange::Apply(service) => {
                self.marked.remove(&service.key);
                self.marked.extend(service.marked.take().map(|marked| (service.key.clone(), *marked)));
            }
            ObjectChange::Delete(key) => drop(self.marked.remove(key)),
            ObjectChange::Reset(list) => {
                let marked = list.iter_mut().filter_map(|service| service.marked.take());
                self.marked = marked.map(|marked| (marked.key.clone(), *marked)).collect();
            }
            ObjectChange::Missing => {}
        }
        match change {
            ObjectChange::Apply(WatchedService { observed: Some(service), .. }) => {
                self.index.service_applied(*service, now);
            }
            ObjectChange::Apply(WatchedService { other: Some(other), .. }) => {
                self.index.other_applied(*other, now)
            }
            ObjectChange::Apply(WatchedService { key, .. }) | ObjectChange::Delete(key) => {
                self.index.service_deleted(&key, now)
            }
            ObjectChange::Reset(list) => {
                let (mut own, mut others) = (Vec::new(), Vec::new());
                for WatchedService { observed, other, .. } in list {
                    own.extend(observed.map(|service| *service));
                    others.extend(other.map(|other| *other));
                }
                self.index.others_reset(others, now);
                self.index.services_reset(own, now);
            }
            // Every API server serves Services.
            ObjectChange::Missing => {}
        }
    }

    fn handle_configuration(&mut self, change: ConfigurationChange) {
        let AppliedChange { differs, objects } = self.configuration.apply(change);
        self.unresolved |= differs;
        // Statuses may differ too: this controller wrote them, or they must be corrected.
        self.observed_objects.extend(objects);
    }
}
