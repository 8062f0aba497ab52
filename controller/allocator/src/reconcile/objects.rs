//! The configuration objects: their resolution and the status of each.

use std::collections::BTreeSet;

use fairlead_crds::conditions::whole_seconds;
use fairlead_crds::names::ACCEPTED;
use fairlead_crds::resolve::{Accepted, Kind, ObjectRef, Objects, Resolution, resolve};
use fairlead_crds::store::ObjectChange;
use fairlead_crds::v1beta1::{
    BFDProfile, BGPAdvertisement, BGPPeer, Community, IPAddressPool, L2Advertisement,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::Resource;
use serde_json::{Value, json};

/// Calls the macro `$callback` with the list of configuration kinds, each with its field in [`Objects`].
///
/// This is the only list of these kinds in the controller.
#[macro_export]
macro_rules! for_each_configuration_kind {
    ($callback:ident) => {
        $callback! {
            IPAddressPool in pools;
            L2Advertisement in l2_advertisements;
            BGPAdvertisement in bgp_advertisements;
            BGPPeer in peers;
            BFDProfile in bfd_profiles;
            Community in communities;
        }
    };
}

/// All configuration objects as last observed, and their resolution.
#[derive(Debug, Default)]
pub struct Configuration {
    /// Each list is sorted by name.
    objects: Objects,
    listed: BTreeSet<Kind>,
    resolution: Resolution,
}

/// A configuration object.
pub trait ConfigurationObject: Resource<DynamicType = ()> + Clone + PartialEq + Sized {
    /// The kind.
    const KIND: Kind;
    /// Returns the list of all objects of this kind.
    fn list(objects: &Objects) -> &Vec<Self>;
    /// Returns the list of all objects of this kind.
    fn list_mut(objects: &mut Objects) -> &mut Vec<Self>;
    /// Returns the conditions of the status.
    fn conditions(&self) -> &[Condition];
    /// Returns the parts of the object that the configuration depends on: the spec and some of the metadata.
    fn configuration_part(&self) -> Self;
    /// Returns the kind and the name.
    fn reference(&self) -> ObjectRef {
        ObjectRef { kind: Self::KIND, name: self.meta().name.clone().unwrap_or_default() }
    }
}

/// The effect of [`Configuration::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedChange {
    /// True if the resolution may change. A change of a status makes no difference.
    pub differs: bool,
    /// The objects that were created, updated or listed.
    pub objects: Vec<ObjectRef>,
}

/// A merge patch for a configuration object.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct ObjectPatch {
    pub object: ObjectRef,
    pub part: ObjectPart,
    /// The resourceVersion on which the patch was decided. The body contains it too.
    pub resource_version: String,
    pub body: Value,
}

/// The parts of an object that are written by separate requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectPart {
    /// The `status` subresource.
    Status,
    /// `metadata.finalizers`.
    Finalizers,
}

macro_rules! configuration_objects {
    ($($kind:ident in $list:ident;)*) => {
        /// A change to the configuration objects of one kind.
        #[derive(Clone, Debug)]
        #[allow(missing_docs)]
        pub enum ConfigurationChange {
            $($kind(ObjectChange<$kind>),)*
        }

        $(impl ConfigurationObject for $kind {
            const KIND: Kind = Kind::$kind;
            fn list(objects: &Objects) -> &Vec<Self> {
                &objects.$list
            }
            fn list_mut(objects: &mut Objects) -> &mut Vec<Self> {
                &mut objects.$list
            }
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
            fn configuration_part(&self) -> Self {
                let ObjectMeta { name, uid, labels, creation_timestamp, deletion_timestamp, .. } =
                    self.metadata.clone();
                let metadata = ObjectMeta {
                    name,
                    uid,
                    labels,
                    creation_timestamp,
                    deletion_timestamp,
                    ..ObjectMeta::default()
                };
                Self { metadata, spec: self.spec.clone(), status: None }
            }
        }

        impl From<ObjectChange<$kind>> for ConfigurationChange {
            fn from(change: ObjectChange<$kind>) -> Self {
                Self::$kind(change)
            }
        })*

        impl Configuration {
            /// Applies a change.
            pub fn apply(&mut self, change: ConfigurationChange) -> AppliedChange {
                match change {
                    $(ConfigurationChange::$kind(change) => {
                        let objects = match &change {
                            ObjectChange::Apply(object) => vec![object.reference()],
                            ObjectChange::Reset(objects) => {
                                objects.iter().map(ConfigurationObject::reference).collect()
                            }
                            ObjectChange::Delete(_) => Vec::new(),
                        };
                        AppliedChange { differs: self.change(change), objects }
                    })*
                }
            }

            /// Returns the status patch for an object that is not a pool, if its status must change.
            pub fn status_patch(&self, object: &ObjectRef, now: Timestamp) -> Option<ObjectPatch> {
                match object.kind {
                    $(Kind::$kind => self.accepted_patch(self.find::<$kind>(&object.name)?, now),)*
                }
            }

            /// Returns the resourceVersion of an object as last observed.
            pub fn resource_version(&self, object: &ObjectRef) -> Option<&str> {
                match object.kind {
                    $(Kind::$kind => self.find::<$kind>(&object.name)?.metadata.resource_version.as_deref(),)*
                }
            }

            /// Returns all objects, ordered by kind and name.
            fn references(&self) -> impl Iterator<Item = ObjectRef> {
                let lists = [$(
                    self.objects.$list.iter().map(ConfigurationObject::reference).collect::<Vec<ObjectRef>>(),
                )*];
                lists.into_iter().flatten()
            }

            fn is_listed(&self) -> bool {
                [$(Kind::$kind),*].iter().all(|kind| self.listed.contains(kind))
            }
        }
    };
}

for_each_configuration_kind!(configuration_objects);

/// Removes metadata that is not used, to save memory.
pub fn trim<K: ConfigurationObject>(mut object: K) -> K {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.annotations = None;
    object
}

impl Configuration {
    /// Applies a change. Returns whether the resolution may change; a change of a status makes no difference.
    pub fn change<K: ConfigurationObject>(&mut self, change: ObjectChange<K>) -> bool {
        let list = K::list_mut(&mut self.objects);
        let name = |object: &K| object.meta().name.clone();
        match change {
            ObjectChange::Reset(new) => {
                let before: Vec<K> = list.iter().map(K::configuration_part).collect();
                *list = new;
                list.sort_by_key(name);
                let differs = before != list.iter().map(K::configuration_part).collect::<Vec<K>>();
                self.listed.insert(K::KIND) || differs
            }
            ObjectChange::Apply(new) => match list.iter_mut().find(|old| name(old) == name(&new)) {
                Some(old) => {
                    let differs = old.configuration_part() != new.configuration_part();
                    *old = new;
                    differs
                }
                None => {
                    list.push(new);
                    list.sort_by_key(name);
                    true
                }
            },
            ObjectChange::Delete(deleted) => {
                list.retain(|object| name(object) != name(&deleted));
                true
            }
        }
    }

    /// Requires a new list of every kind before the next resolution.
    pub fn forget_lists(&mut self) {
        self.listed.clear();
    }

    /// Resolves the objects. Returns `None` until every kind was listed once.
    pub fn resolve(&mut self) -> Option<&Resolution> {
        if !self.is_listed() {
            return None;
        }
        self.resolution = resolve(&self.objects);
        Some(&self.resolution)
    }

    /// Returns the status patch for each object that is not a pool; `None` where the status is correct.
    pub fn status_patches(&self, now: Timestamp) -> Vec<(ObjectRef, Option<ObjectPatch>)> {
        let objects = self.references().filter(|object| object.kind != Kind::IPAddressPool);
        objects.map(|object| (object.clone(), self.status_patch(&object, now))).collect()
    }

    /// Returns the names of all pools, accepted or not.
    pub fn pool_names(&self) -> impl Iterator<Item = &str> {
        self.objects.pools.iter().filter_map(|pool| pool.metadata.name.as_deref())
    }

    /// Returns a pool, accepted or not, and the content of its condition `Accepted`.
    pub(super) fn pool(&self, name: &str) -> Option<(&IPAddressPool, Accepted)> {
        let pool = self.find::<IPAddressPool>(name)?;
        Some((pool, self.accepted(pool)?))
    }

    /// Returns a pool for an update.
    pub(super) fn pool_mut(&mut self, name: &str) -> Option<&mut IPAddressPool> {
        let index = index_of(&self.objects.pools, name)?;
        self.objects.pools.get_mut(index)
    }

    /// Returns all pools, accepted or not.
    pub(super) fn pools(&self) -> &[IPAddressPool] {
        &self.objects.pools
    }

    fn find<K: ConfigurationObject>(&self, name: &str) -> Option<&K> {
        let list = K::list(&self.objects);
        list.get(index_of(list, name)?)
    }

    fn accepted<K: ConfigurationObject>(&self, object: &K) -> Option<Accepted> {
        let name = object.meta().name.clone()?;
        self.resolution.accepted(&ObjectRef { kind: K::KIND, name })
    }

    /// Returns the patch that updates the condition `Accepted`, if it must change.
    fn accepted_patch<K: ConfigurationObject>(&self, object: &K, now: Timestamp) -> Option<ObjectPatch> {
        let Accepted { status, reason, message } = self.accepted(object)?;
        let new = condition(object, ACCEPTED, status, reason, message, now);
        if object.conditions().contains(&new) {
            return None;
        }
        let others = object.conditions().iter().filter(|condition| condition.type_ != ACCEPTED).cloned();
        let conditions: Vec<Condition> = others.chain([new]).collect();
        Some(status_patch(object, json!({ "conditions": conditions })))
    }
}

/// Returns the index of the object with this name in a list that is sorted by name.
fn index_of<K: ConfigurationObject>(list: &[K], name: &str) -> Option<usize> {
    list.binary_search_by(|object| object.meta().name.as_deref().cmp(&Some(name))).ok()
}

/// Returns a condition of an object. It keeps `lastTransitionTime` if the status does not change.
pub(super) fn condition<K: ConfigurationObject>(
    object: &K,
    type_: &str,
    status: bool,
    reason: String,
    message: String,
    now: Timestamp,
) -> Condition {
    let status = if status { "True" } else { "False" };
    let old = object.conditions().iter().find(|condition| condition.type_ == type_);
    let since = old.filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        last_transition_time: since.unwrap_or_else(|| Time(whole_seconds(now))),
        observed_generation: object.meta().generation,
    }
}

/// Returns a patch of the status of an object.
pub(super) fn status_patch<K: ConfigurationObject>(object: &K, status: Value) -> ObjectPatch {
    let resource_version = object.meta().resource_version.clone().unwrap_or_default();
    ObjectPatch {
        object: object.reference(),
        part: ObjectPart::Status,
        body: json!({ "metadata": { "resourceVersion": resource_version }, "status": status }),
        resource_version,
    }
}
