//! The objects of a cluster by kind: lists fill them, and watches keep them up to date.

use std::collections::BTreeMap;

use fairlead_crds::configuration_kinds;
use fairlead_crds::kinds::{ConfigurationObject as _, ObjectRef};
use fairlead_crds::model::instance::Instance;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::objects::{EndpointSlice, Namespace, Node, Service, ServiceCIDR};
use fairlead_crds::read::Custom;
use fairlead_crds::store::{ConfigurationChange, ObjectChange, trim};
use fairlead_crds::v1beta1::{self, IPClaim, PoolCooldown, Speaker};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::Value;

use super::{Leader, ObjectState, Snapshot, Unread, Workload};

/// The objects of one kind, by namespace and name.
#[derive(Debug)]
pub(super) struct Kept<K>(BTreeMap<ObjectKey, K>);

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Resource + Clone> Kept<K> {
    pub(super) fn handle_change(&mut self, change: ObjectChange<K>) {
        match change {
            ObjectChange::Apply(object) => drop(self.0.insert(key(&object), object)),
            ObjectChange::Delete(key) => drop(self.0.remove(&key)),
            ObjectChange::Reset(list) => {
                self.0 = list.into_iter().map(|object| (key(&object), object)).collect();
            }
            ObjectChange::Missing => {}
        }
    }

    fn all(&self) -> impl Iterator<Item = &K> {
        self.0.values()
    }

    fn cloned(&self) -> Vec<K> {
        self.0.values().cloned().collect()
    }
}

macro_rules! define {
    ($($kind:ident => $field:ident,)*) => {
        /// The configuration objects.
        #[derive(Debug, Default)]
        pub(super) struct Configuration {
            $(pub(super) $field: Kept<Custom<v1beta1::$kind>>,)*
        }

        impl Configuration {
            /// Returns the objects in the form in which decisions read them.
            fn changes(&self) -> Vec<ConfigurationChange> {
                vec![$(ConfigurationChange::$kind(ObjectChange::Reset(
                    self.$field.all().cloned().map(trim).collect(),
                )),)*]
            }

            /// Returns the state of each object.
            fn states(&self) -> BTreeMap<ObjectRef, ObjectState> {
                let mut states = BTreeMap::new();
                $(for Custom { object, .. } in self.$field.all() {
                    let state = ObjectState {
                        generation: object.metadata.generation,
                        conditions: object.conditions().to_vec(),
                    };
                    states.insert(object.reference(), state);
                })*
                states
            }
        }
    };
}

configuration_kinds!(define);

/// All objects that are read.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) configuration: Configuration,
    pub(super) speakers: Kept<Custom<Speaker>>,
    pub(super) services: Kept<Service>,
    pub(super) claims: Kept<Custom<IPClaim>>,
    pub(super) slices: Kept<EndpointSlice>,
    pub(super) nodes: Kept<Node>,
    pub(super) namespaces: Kept<Namespace>,
    pub(super) ranges: Kept<ServiceCIDR>,
    pub(super) named: Named,
    pub(super) unread: Vec<Unread>,
}

/// What is read again from time to time, because it is small. The leader renews the Lease every few seconds,
/// so a watch would deliver more.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Named {
    pub(super) lease: Option<Value>,
    pub(super) deployment: Option<Value>,
    pub(super) daemonset: Option<Value>,
    pub(super) cooldowns: Vec<PoolCooldown>,
}

impl State {
    /// Handles that a kind is served: it may have been missing before.
    pub(super) fn handle_served(&mut self, plural: &str) {
        self.unread.retain(|unread| unread.resource != plural || unread.reason != super::NOT_SERVED);
    }

    pub(super) fn is_unread(&self, plural: &str) -> bool {
        self.unread.iter().any(|unread| unread.resource == plural)
    }

    /// Returns the leader of the controllers.
    pub(super) fn leader(&self, now: Timestamp) -> Leader {
        match &self.named.lease {
            Some(lease) => Leader::of(lease, now),
            None if self.is_unread("leases") => Leader::Unknown,
            None => Leader::None,
        }
    }

    /// Returns the objects as they are now. `namespace` is that of Services whose name contains none.
    pub(super) fn snapshot(
        &self,
        instance: Instance,
        namespace: &str,
        only_namespace: Option<&str>,
        now: Timestamp,
    ) -> Snapshot {
        let Named { deployment, daemonset, cooldowns, .. } = &self.named;
        Snapshot {
            now,
            instance,
            namespace: namespace.to_owned(),
            only_namespace: only_namespace.map(str::to_owned),
            configuration: self.configuration.changes(),
            objects: self.configuration.states(),
            pools: self.configuration.pools.all().map(|pool| pool.object.clone()).collect(),
            services: self.services.cloned(),
            claims: self.claims.cloned(),
            cooldowns: cooldowns.clone(),
            slices: self.slices.cloned(),
            nodes: self.nodes.cloned(),
            namespaces: self.namespaces.cloned(),
            ranges: self.ranges.cloned(),
            all_speakers: self.speakers.all().map(|speaker| speaker.object.clone()).collect(),
            leader: self.leader(now),
            deployment: deployment.as_ref().map(Workload::of),
            daemonset: daemonset.as_ref().map(Workload::of),
            unread: self.unread.clone(),
        }
    }
}

fn key<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        serde_json::from_value(serde_json::json!({ "metadata": { "name": name } })).unwrap_or_default()
    }

    #[test]
    fn changes_of_a_watch_are_kept() {
        let mut nodes = Kept::default();
        nodes.handle_change(ObjectChange::Reset(vec![node("b"), node("a")]));
        nodes.handle_change(ObjectChange::Apply(node("c")));
        nodes.handle_change(ObjectChange::Delete(ObjectKey {
            namespace: String::new(),
            name: "b".to_owned(),
        }));
        nodes.handle_change(ObjectChange::Missing);
        let names = |nodes: &Kept<Node>| nodes.all().map(ResourceExt::name_any).collect::<Vec<_>>();
        assert_eq!(names(&nodes), ["a", "c"]);
        nodes.handle_change(ObjectChange::Reset(vec![node("d")]));
        assert_eq!(names(&nodes), ["d"]);
    }

    #[test]
    fn kind_that_is_served_later_is_no_longer_unread() {
        let unread =
            |resource: &str, reason| Unread { resource: resource.to_owned(), reason, message: String::new() };
        let mut state = State {
            unread: vec![unread("bgppeers", super::super::NOT_SERVED), unread("nodes", "Forbidden")],
            ..State::default()
        };
        state.handle_served("bgppeers");
        state.handle_served("nodes");
        assert!(!state.is_unread("bgppeers") && state.is_unread("nodes"));
    }
}
