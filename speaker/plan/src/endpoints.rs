//! The EndpointSlices, by Service.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::model::service::ObjectKey;

use crate::input::{NodeName, Slice, SliceKey};

/// All EndpointSlices.
///
/// The methods that change it pass every Service whose endpoints may have changed to `changed`.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    slices: BTreeMap<SliceKey, Slice>,
    /// Names of the slices of each Service.
    by_service: BTreeMap<ObjectKey, Vec<Box<str>>>,
}

/// Where the ready endpoints of one Service are.
pub(crate) struct ServingNodes<'a> {
    any: bool,
    nodes: Vec<&'a [NodeName]>,
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

    /// Returns where the endpoints of a Service are that can serve.
    pub(crate) fn serving(&self, service: &ObjectKey) -> ServingNodes<'_> {
        let mut serving = ServingNodes { any: false, nodes: Vec::new() };
        for name in self.by_service.get(service).into_iter().flatten() {
            let key = SliceKey { namespace: service.namespace.clone(), name: name.to_string() };
            if let Some(slice) = self.slices.get(&key).filter(|slice| slice.serving) {
                serving.any = true;
                serving.nodes.push(&slice.nodes);
            }
        }
        serving
    }
}

impl ServingNodes<'_> {
    /// Returns whether any endpoint can serve, on whatever node.
    pub(crate) fn any(&self) -> bool {
        self.any
    }

    /// Returns whether an endpoint on this node can serve.
    pub(crate) fn on(&self, node: &str) -> bool {
        self.nodes.iter().any(|nodes| nodes.binary_search_by(|name| (**name).cmp(node)).is_ok())
    }
}
