//! The EndpointSlices, by Service.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::{ObjectKey, TrafficPolicy};

use crate::input::{EndpointNodes, Slice, SliceKey};
use crate::reason::NotAnnouncedReason;

/// All EndpointSlices.
///
/// The methods that change it pass every Service whose endpoints may have changed to `changed`.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    slices: BTreeMap<SliceKey, Slice>,
    /// Names of the slices of each Service.
    by_service: BTreeMap<ObjectKey, Vec<Box<str>>>,
}

/// The endpoints of one Service and one address family.
pub(crate) struct FamilyEndpoints<'a> {
    ready: Vec<&'a EndpointNodes>,
    terminating: Vec<&'a EndpointNodes>,
    other_family: bool,
}

/// How well a node can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serving {
    /// Not at all.
    No,
    /// Only with endpoints on the node that are terminating. The health check node port of kube-proxy already
    /// answers that the node does not serve.
    Terminating,
    /// Without restriction.
    Yes,
}

impl Endpoints {
    pub(crate) fn apply(&mut self, key: SliceKey, slice: Slice, changed: &mut impl FnMut(&ObjectKey)) {
        match self.slices.get(&key) {
            Some(known) if *known == slice => return,
            Some(known) if known.service != slice.service => self.delete(&key, changed),
            _ => {}
        }
        let service = ObjectKey { namespace: key.namespace.clone(), name: slice.service.clone() };
        changed(&service);
        let names = self.by_service.entry(service).or_default();
        if !names.iter().any(|name| **name == *key.name) {
            names.push(key.name.as_str().into());
        }
        self.slices.insert(key, slice);
    }

    pub(crate) fn delete(&mut self, key: &SliceKey, changed: &mut impl FnMut(&ObjectKey)) {
        let Some(slice) = self.slices.remove(key) else { return };
        let service = ObjectKey { namespace: key.namespace.clone(), name: slice.service };
        if let Some(names) = self.by_service.get_mut(&service) {
            names.retain(|name| **name != *key.name);
            if names.is_empty() {
                self.by_service.remove(&service);
            }
        }
        changed(&service);
    }

    pub(crate) fn reset(&mut self, all: Vec<(SliceKey, Slice)>, changed: &mut impl FnMut(&ObjectKey)) {
        let listed: BTreeSet<&SliceKey> = all.iter().map(|(key, _)| key).collect();
        let deleted: Vec<_> = self.slices.keys().filter(|key| !listed.contains(key)).cloned().collect();
        deleted.iter().for_each(|key| self.delete(key, changed));
        all.into_iter().for_each(|(key, slice)| self.apply(key, slice, changed));
    }

    /// Returns the endpoints of a Service for one address family.
    pub(crate) fn of(&self, service: &ObjectKey, family: Family) -> FamilyEndpoints<'_> {
        let mut endpoints =
            FamilyEndpoints { ready: Vec::new(), terminating: Vec::new(), other_family: false };
        for name in self.by_service.get(service).into_iter().flatten() {
            let key = SliceKey { namespace: service.namespace.clone(), name: name.to_string() };
            let Some(slice) = self.slices.get(&key) else { continue };
            if slice.family != family {
                endpoints.other_family |= slice.ready.any() || slice.terminating.any();
                continue;
            }
            endpoints.ready.extend(Some(&slice.ready).filter(|set| set.any()));
            endpoints.terminating.extend(Some(&slice.terminating).filter(|set| set.any()));
        }
        endpoints
    }
}

impl FamilyEndpoints<'_> {
    /// Returns the reason if no node can serve.
    pub(crate) fn reason(&self) -> Option<NotAnnouncedReason> {
        if !self.ready.is_empty() || !self.terminating.is_empty() {
            None
        } else if self.other_family {
            Some(NotAnnouncedReason::NoEndpointsOfFamily)
        } else {
            Some(NotAnnouncedReason::NoEndpoints)
        }
    }

    /// Returns how well a node can serve under the traffic policy. As kube-proxy, it falls back to endpoints
    /// that are terminating.
    pub(crate) fn serving(&self, policy: TrafficPolicy, node: &str) -> Serving {
        let on_node = |sets: &[&EndpointNodes]| sets.iter().any(|set| set.on(node) > 0);
        match policy {
            TrafficPolicy::Cluster if self.reason().is_none() => Serving::Yes,
            TrafficPolicy::Local if on_node(&self.ready) => Serving::Yes,
            TrafficPolicy::Local if on_node(&self.terminating) => Serving::Terminating,
            TrafficPolicy::Cluster | TrafficPolicy::Local => Serving::No,
        }
    }

    /// Returns true if an endpoint on some node is ready.
    pub(crate) fn ready_on_a_node(&self) -> bool {
        self.ready.iter().any(|set| set.nodes() > 0)
    }

    /// Returns the number of endpoints on a node that serve: the ready ones, or if there are none, those that
    /// are terminating.
    pub(crate) fn serving_on(&self, node: &str) -> u32 {
        let count = |sets: &[&EndpointNodes]| sets.iter().map(|set| set.on(node)).sum();
        match count(&self.ready) {
            0 => count(&self.terminating),
            ready => ready,
        }
    }
}
