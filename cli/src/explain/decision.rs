//! The decisions that a controller would make on the objects of a cluster if it started now.

use anyhow::{Context, Result};
use fairlead_allocator::ipam::{NodeNetwork, OtherService, service_ranges};
use fairlead_allocator::reconcile::objects::Configuration;
use fairlead_allocator::reconcile::{Index, ObservedService, RecordedCooldown};
use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::labels::{LabelBounds, Labels};
use fairlead_crds::model::service::LoadBalancer;
use fairlead_crds::resolve::InForce;
use kube::ResourceExt;

use super::in_force::KeptObjects;
use crate::cluster::Snapshot;

/// The kinds on which the decisions depend.
const INPUTS: [&str; 6] = ["ipaddresspools", "services", "namespaces", "nodes", "servicecidrs", "ipclaims"];

/// The decisions of a controller, and the configuration on which it would make them.
pub(crate) struct Decisions {
    pub index: Index,
    pub configuration: Configuration,
}

/// Returns the configuration in force.
///
/// # Errors
/// Returns an error if a kind was not listed.
pub(crate) fn resolved(snapshot: &Snapshot) -> Result<Configuration> {
    let mut configuration = Configuration::new(snapshot.instance.class.as_deref());
    for change in &snapshot.configuration {
        configuration.apply(change.clone());
    }
    configuration.resolve(InForce::ByConditions).context("a configuration kind was not listed")?;
    Ok(configuration)
}

impl Decisions {
    /// Makes the decisions.
    ///
    /// # Errors
    /// Returns an error if a kind was not listed.
    pub(crate) fn of(snapshot: &Snapshot) -> Result<Self> {
        let (now, class) = (snapshot.now, snapshot.instance.class.as_deref());
        let mut configuration = resolved(snapshot)?;
        let mut index = Index::default();
        index.set_config(&configuration.config(), now);
        let namespaces = snapshot.namespaces.iter().map(|namespace| {
            (namespace.name_any(), Labels::within(LabelBounds::Administrators, namespace.labels()))
        });
        index.namespaces_reset(namespaces.collect(), now);
        let nodes = snapshot.nodes.iter().map(|node| (node.name_any(), NodeNetwork::of(node)));
        index.nodes_reset(nodes.collect(), now);
        let ranges = snapshot.ranges.iter().map(|one| (one.name_any(), service_ranges(one)));
        index.service_ranges_reset(ranges.collect());
        let services = &snapshot.services;
        index.others_reset(services.iter().filter_map(|one| OtherService::of(one, class)).collect(), now);
        let observed = services.iter().filter_map(|service| ObservedService::of(service, class));
        index.services_reset(observed.collect(), now);
        let claims = snapshot.claims.iter().map(Claim::from_read);
        index.claims_reset(claims.filter(|claim| claim.class.as_deref() == class).collect(), now);
        let recorded = snapshot.cooldowns.iter();
        let recorded = recorded.map(|object| (object.name_any(), RecordedCooldown::from(object)));
        configuration.cooldowns_listed(recorded.collect());
        index.begin(configuration.released(), now);
        Ok(Self { index, configuration })
    }

    /// Returns the refused objects in force by which the selected Services are announced.
    pub(crate) fn kept(&self, snapshot: &Snapshot, selects: impl Fn(&LoadBalancer) -> bool) -> Vec<String> {
        let services: Vec<LoadBalancer> =
            snapshot.balancers().map(|(_, balancer)| balancer).filter(selects).collect();
        let (resolution, class) = (self.configuration.resolution(), snapshot.instance.class.as_deref());
        KeptObjects::of(resolution, class, services.iter(), &snapshot.objects).lines()
    }
}

/// Returns a note that the decision may be another one, because objects were not read.
pub(crate) fn note_of_unread(snapshot: &Snapshot) -> Option<String> {
    let missing: Vec<&str> = INPUTS.into_iter().filter(|plural| snapshot.is_unread(plural)).collect();
    let note = || format!("without {}, which could not be read, this may differ", missing.join(", "));
    (!missing.is_empty()).then(note)
}
