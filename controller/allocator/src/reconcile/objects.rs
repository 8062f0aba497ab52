//! The configuration objects: what they say together, and the status of each.

use fairlead_crds::resolve::{Accepted, Kind, ObjectRef, Objects, Resolution, resolve};
use fairlead_crds::store::ObjectChange;
use fairlead_crds::v1beta1::{
    ACCEPTED, BFDProfile, BGPAdvertisement, BGPPeer, Community, IPAddressPool, L2Advertisement,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use serde_json::{Value, json};

use super::status::whole_seconds;

/// All configuration objects as last seen, and what they resolve to.
#[derive(Debug, Default)]
pub struct Configuration {
    objects: Objects,
    listed: std::collections::BTreeSet<Kind>,
    resolution: Resolution,
}

/// What to write to a configuration object: a merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectPatch {
    /// The object.
    pub object: ObjectRef,
    /// On which part of it.
    pub part: Part,
    /// The version that was decided on.
    pub resource_version: String,
    /// The body of the patch.
    pub body: Value,
}

/// The parts of an object that are written apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The `status` subresource.
    Status,
    /// Everything else; of that, only finalizers are ours.
    Main,
}

/// A kind of configuration objects.
pub trait Configures: Clone + PartialEq + Sized {
    /// The kind.
    const KIND: Kind;
    /// Whether its status has counts.
    fn is_pool() -> bool {
        Self::KIND == Kind::IPAddressPool
    }
    /// The objects of this kind.
    fn list(objects: &mut Objects) -> &mut Vec<Self>;
    /// Metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// Metadata.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// Conditions of the status.
    fn conditions(&self) -> &[Condition];
    /// The object as far as the configuration depends on it.
    fn meaning(&self) -> Self;
    /// Which object it is.
    fn reference(&self) -> ObjectRef {
        ObjectRef { kind: Self::KIND, name: self.metadata().name.clone().unwrap_or_default() }
    }
}

macro_rules! configures {
    ($($kind:ident in $list:ident;)*) => {$(
        impl Configures for $kind {
            const KIND: Kind = Kind::$kind;
            fn list(objects: &mut Objects) -> &mut Vec<Self> {
                &mut objects.$list
            }
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
            fn meaning(&self) -> Self {
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
    )*};
}

configures! {
    IPAddressPool in pools;
    L2Advertisement in l2_advertisements;
    BGPAdvertisement in bgp_advertisements;
    BGPPeer in peers;
    BFDProfile in bfd_profiles;
    Community in communities;
}

/// Keeps of an object what is used, so that whole objects are not held.
pub fn trim<K: Configures>(mut object: K) -> K {
    let metadata = object.metadata_mut();
    metadata.managed_fields = None;
    metadata.annotations = None;
    object
}

impl Configuration {
    /// Takes a change in. Returns whether the configuration may be another now; a change of status alone makes no
    /// difference.
    pub fn change<K: Configures>(&mut self, change: ObjectChange<K>) -> bool {
        let list = K::list(&mut self.objects);
        let name = |object: &K| object.metadata().name.clone();
        match change {
            ObjectChange::Reset(new) => {
                let before: Vec<K> = list.iter().map(K::meaning).collect();
                *list = new;
                list.sort_by_key(name);
                let differs = before != list.iter().map(K::meaning).collect::<Vec<K>>();
                self.listed.insert(K::KIND) || differs
            }
            ObjectChange::Apply(new) => match list.iter_mut().find(|old| name(old) == name(&new)) {
                Some(old) => {
                    let differs = old.meaning() != new.meaning();
                    *old = new;
                    differs
                }
                None => {
                    list.push(new);
                    list.sort_by_key(name);
                    true
                }
            },
            ObjectChange::Delete(gone) => {
                list.retain(|object| name(object) != name(&gone));
                true
            }
        }
    }

    /// Every kind is to be listed anew before anything is resolved.
    pub fn forget_lists(&mut self) {
        self.listed.clear();
    }

    /// Resolves what is there; `None` until every kind was listed once.
    pub fn resolve(&mut self) -> Option<&Resolution> {
        if self.listed.len() < 6 {
            return None;
        }
        self.resolution = resolve(&self.objects);
        Some(&self.resolution)
    }

    /// What to write to each object other than pools, if anything.
    pub fn patches(&self, now: Timestamp) -> Vec<(ObjectRef, Option<ObjectPatch>)> {
        let Objects { pools: _, l2_advertisements, bgp_advertisements, peers, bfd_profiles, communities } =
            &self.objects;
        let mut patches = Vec::new();
        patches.extend(l2_advertisements.iter().map(|o| (o.reference(), self.patch(o, now))));
        patches.extend(bgp_advertisements.iter().map(|o| (o.reference(), self.patch(o, now))));
        patches.extend(peers.iter().map(|o| (o.reference(), self.patch(o, now))));
        patches.extend(bfd_profiles.iter().map(|o| (o.reference(), self.patch(o, now))));
        patches.extend(communities.iter().map(|o| (o.reference(), self.patch(o, now))));
        patches
    }

    /// What to write to an object other than a pool.
    pub fn patch<K: Configures>(&self, object: &K, now: Timestamp) -> Option<ObjectPatch> {
        let accepted = self.accepted(object)?;
        let conditions = with_accepted(object, &accepted, now)?;
        Some(object_patch(object, json!({ "conditions": conditions })))
    }

    /// Names of all pools, accepted or not.
    pub fn pool_names(&self) -> impl Iterator<Item = &str> {
        self.objects.pools.iter().filter_map(|pool| pool.metadata.name.as_deref())
    }

    /// The resourceVersion of an object as last seen.
    pub fn version(&self, object: &ObjectRef) -> Option<&str> {
        fn of<'a, K: Configures>(objects: &'a [K], name: &str) -> Option<&'a str> {
            // They are sorted by name.
            let name_of = |object: &K| object.metadata().name.as_deref().cmp(&Some(name));
            let place = objects.binary_search_by(name_of).ok()?;
            objects.get(place)?.metadata().resource_version.as_deref()
        }
        let (objects, name) = (&self.objects, &*object.name);
        match object.kind {
            Kind::IPAddressPool => of(&objects.pools, name),
            Kind::L2Advertisement => of(&objects.l2_advertisements, name),
            Kind::BGPAdvertisement => of(&objects.bgp_advertisements, name),
            Kind::BGPPeer => of(&objects.peers, name),
            Kind::BFDProfile => of(&objects.bfd_profiles, name),
            Kind::Community => of(&objects.communities, name),
        }
    }

    fn accepted<K: Configures>(&self, object: &K) -> Option<Accepted> {
        let name = object.metadata().name.clone()?;
        self.resolution.accepted(&ObjectRef { kind: K::KIND, name })
    }

    /// A pool, accepted or not, and the verdict on it.
    pub(super) fn pool(&self, name: &str) -> Option<(&IPAddressPool, Accepted)> {
        let pool = self.objects.pools.get(self.place_of_pool(name)?)?;
        Some((pool, self.accepted(pool)?))
    }

    /// Changes what is known of a pool.
    pub(super) fn update_pool(&mut self, name: &str, change: impl FnOnce(&mut IPAddressPool)) {
        let place = self.place_of_pool(name);
        if let Some(pool) = place.and_then(|place| self.objects.pools.get_mut(place)) {
            change(pool);
        }
    }

    /// They are sorted by name.
    fn place_of_pool(&self, name: &str) -> Option<usize> {
        self.objects.pools.binary_search_by(|pool| pool.metadata.name.as_deref().cmp(&Some(name))).ok()
    }

    /// All pools, accepted or not.
    pub(super) fn pools(&self) -> &[IPAddressPool] {
        &self.objects.pools
    }
}

/// All conditions of an object with `Accepted` as it should be; `None` when it is.
fn with_accepted<K: Configures>(object: &K, accepted: &Accepted, now: Timestamp) -> Option<Vec<Condition>> {
    let Accepted { status, reason, message } = accepted.clone();
    let new = dated(object, ACCEPTED, status, reason, message, now);
    if object.conditions().contains(&new) {
        return None;
    }
    let others = object.conditions().iter().filter(|condition| condition.type_ != ACCEPTED).cloned();
    Some(others.chain([new]).collect())
}

/// A condition of an object, with the time of the last change of its status.
pub(super) fn dated<K: Configures>(
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
        observed_generation: object.metadata().generation,
    }
}

pub(super) fn object_patch<K: Configures>(object: &K, status: Value) -> ObjectPatch {
    let metadata = object.metadata();
    let resource_version = metadata.resource_version.clone().unwrap_or_default();
    ObjectPatch {
        object: object.reference(),
        part: Part::Status,
        body: json!({ "metadata": { "resourceVersion": resource_version }, "status": status }),
        resource_version,
    }
}
