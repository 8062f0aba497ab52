//! The part of `fairlead explain` about refused objects that announcements depend on. Their last accepted
//! form is in force, as in the resolution that the speakers use.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::kinds::{Kind, ObjectRef};
use fairlead_crds::model::service::LoadBalancer;
use fairlead_crds::resolve::{ObjectVerdict, Resolution};
use fairlead_crds::text::message;

use crate::cluster::ObjectState;

/// The refused objects in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptObjects(Vec<String>);

impl KeptObjects {
    /// Returns the advertisements that cover addresses of these Services, and the BGPPeers of this class that
    /// receive them, as far as they are refused and an earlier form is in force. `states` contains the state
    /// of each object.
    pub(super) fn of<'a>(
        resolution: &Resolution,
        class: Option<&str>,
        services: impl Iterator<Item = &'a LoadBalancer>,
        states: &BTreeMap<ObjectRef, ObjectState>,
    ) -> Self {
        let mut objects = BTreeSet::new();
        for service in services {
            objects.extend(dependencies(resolution, class, service));
        }
        Self(objects.iter().filter_map(|object| line(resolution, object, states.get(object))).collect())
    }
}

impl KeptObjects {
    /// Returns a line for each object. Each text is escaped and cut, because it quotes objects of users.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.iter().map(|line| message(&**line).into_owned()).collect()
    }
}

/// Returns the objects in force by which the addresses of a Service are announced.
fn dependencies(resolution: &Resolution, class: Option<&str>, service: &LoadBalancer) -> BTreeSet<ObjectRef> {
    let config = &resolution.config;
    let mut objects = BTreeSet::new();
    let object = |kind, name: &str| ObjectRef { kind, name: name.to_owned() };
    for (n, address) in service.ingress.iter().enumerate() {
        let Some(pool) = config.pool_of_held(*address, n, service.allocated_from.as_deref()) else {
            continue;
        };
        let l2 = config.l2_for(pool, &service.labels);
        objects.extend(l2.map(|ad| object(Kind::L2Advertisement, &ad.name)));
        for ad in config.bgp_for(pool, &service.labels) {
            objects.insert(object(Kind::BGPAdvertisement, &ad.name));
            let receives = |name: &String| ad.peers.is_empty() || ad.peers.contains(name);
            let peers = config.peers.values().filter(|peer| peer.class.as_deref() == class);
            let peers = peers.filter(|peer| receives(&peer.name));
            objects.extend(peers.map(|peer| object(Kind::BGPPeer, &peer.name)));
        }
    }
    objects
}

/// Describes an object that is refused and in force; `None` for any other.
fn line(resolution: &Resolution, object: &ObjectRef, state: Option<&ObjectState>) -> Option<String> {
    let Some(ObjectVerdict::Refused { reason, message }) = resolution.verdicts.get(object) else {
        return None;
    };
    let form = resolution.last_accepted(object).filter(|_| resolution.is_kept(object));
    let generation = state.and_then(|state| state.generation);
    let at = generation.map(|generation| format!(" at generation {generation}")).unwrap_or_default();
    let kept = match form.and_then(|form| form.generation) {
        Some(kept) => format!("generation {kept} stays in force"),
        None => "the form that was accepted last stays in force".to_owned(),
    };
    resolution.is_kept(object).then(|| format!("{object} is refused{at}: {reason}: {message}; {kept}"))
}
