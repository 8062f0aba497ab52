//! The configuration objects: their resolution and the status of each.

use std::collections::BTreeSet;

use fairlead_crds::conditions::{self, NewCondition};
use fairlead_crds::kinds::{ConfigurationObject, Kind, ObjectRef, ObjectView};
use fairlead_crds::model::config::{Closed, Config};
use fairlead_crds::names::ACCEPTED;
use fairlead_crds::resolve::{Accepted, InForce, Resolution, ResolutionChange};
use fairlead_crds::store::{ConfigurationChange, ConfigurationStore, ObjectChange};
use fairlead_crds::v1beta1::{BGPPeer, IPAddressPool};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cooldowns::Cooldowns;
use super::removal::Removal;

/// All configuration objects as last observed, and their resolution.
#[derive(Debug, Default)]
pub struct Configuration {
    store: ConfigurationStore,
    resolution: Resolution,
    cooldowns: Cooldowns,
    /// The load balancer class of this instance.
    class: Option<String>,
    removal: Removal,
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

impl Configuration {
    /// Returns a configuration without objects, for the instance with this load balancer class.
    pub fn new(class: Option<&str>) -> Self {
        Self { class: class.map(str::to_owned), ..Self::default() }
    }

    /// Returns the configuration in force for this instance, without the pools of other classes.
    pub fn config(&self) -> Config {
        let mut config = self.resolution.config.clone();
        config.keep_class(self.class.as_deref());
        if self.removal.definition {
            // All pools disappear soon, one after the other: none takes the Services of those before it.
            config.pools.values_mut().for_each(|pool| pool.closed = Some(Closed::Deleting));
        }
        config
    }

    /// Stores which parts of Fairlead are being deleted. Returns whether that differs: then the finalizers of
    /// all pools may differ.
    pub fn set_removal(&mut self, removal: Removal) -> bool {
        std::mem::replace(&mut self.removal, removal) != removal
    }

    /// Returns which parts of Fairlead are being deleted.
    pub fn removal(&self) -> Removal {
        self.removal
    }

    /// Applies a change.
    pub fn apply(&mut self, change: ConfigurationChange) -> AppliedChange {
        let objects = change.objects();
        AppliedChange { differs: self.store.handle_change(change), objects }
    }

    /// Applies a change of one kind. Returns true if the resolution may change; a change of a status makes no
    /// difference.
    pub fn change<K: ConfigurationObject>(&mut self, change: ObjectChange<K>) -> bool {
        self.store.change(change)
    }

    /// Requires a new list of every kind before the next resolution, and of the cool-downs.
    pub fn forget_lists(&mut self) {
        self.store.clear_listed();
        self.cooldowns.forget_list();
    }

    /// Returns the recorded cool-downs.
    pub(super) fn cooldowns(&self) -> &Cooldowns {
        &self.cooldowns
    }

    /// Returns the recorded cool-downs for an update.
    pub(super) fn cooldowns_mut(&mut self) -> &mut Cooldowns {
        &mut self.cooldowns
    }

    /// Resolves the objects that changed since the last call. Returns `None` until every kind was listed
    /// once. For the controller that leads, what it has accepted before is in force, also if the conditions
    /// do not say so yet. The difference contains only the pools of this instance.
    pub fn resolve(&mut self, in_force: InForce) -> Option<ResolutionChange> {
        let mut change = self.store.update(&mut self.resolution, in_force)?;
        change.delta.keep_class(self.class.as_deref());
        Some(change)
    }

    /// Returns the last resolution.
    pub fn resolution(&self) -> &Resolution {
        &self.resolution
    }

    /// Returns the kinds that the API server does not serve.
    pub fn missing(&self) -> impl Iterator<Item = Kind> {
        self.store.missing()
    }

    /// Returns the status patch for an object that is not a pool, if its status must change. The status of a
    /// BGPPeer of another class is written by its own instance. Objects without a class have the same status
    /// by the decision of every instance.
    pub fn status_patch(&self, object: &ObjectRef, now: Timestamp) -> Option<ObjectPatch> {
        let view = self.store.view(object).filter(|view| !self.is_foreign_peer(&view.object))?;
        self.accepted_patch(&view, now)
    }

    /// Returns the status patch for each object that is not a pool; `None` where the status is correct or
    /// another instance writes it.
    pub fn status_patches(&self, now: Timestamp) -> Vec<(ObjectRef, Option<ObjectPatch>)> {
        let views = self.store.views().filter(|view| view.object.kind != Kind::IPAddressPool);
        let views = views.filter(|view| !self.is_foreign_peer(&view.object));
        views.map(|view| (view.object.clone(), self.accepted_patch(&view, now))).collect()
    }

    /// Returns the resourceVersion of an object as last observed.
    pub fn resource_version(&self, object: &ObjectRef) -> Option<&str> {
        self.store.resource_version(object)
    }

    /// Returns the names of all pools of this instance, accepted or not.
    pub fn pool_names(&self) -> impl Iterator<Item = &str> {
        self.pools().filter_map(|pool| pool.metadata.name.as_deref())
    }

    /// Returns a pool of this instance, accepted or not, and the content of its condition `Accepted`. The
    /// statuses and finalizers of other pools are written by their own instances.
    pub(super) fn pool(&self, name: &str) -> Option<(&IPAddressPool, Accepted)> {
        let pool = self.store.get::<IPAddressPool>(name).filter(|pool| self.is_own(pool))?;
        Some((pool, self.resolution.accepted(&pool.reference())?))
    }

    /// Returns the load balancer classes of the other instances: those of their pools and BGPPeers.
    pub fn served_classes(&self) -> BTreeSet<Option<&str>> {
        let pools = self.store.list::<IPAddressPool>().iter().map(|pool| &pool.spec.load_balancer_class);
        let peers = self.store.list::<BGPPeer>().iter().map(|peer| &peer.spec.load_balancer_class);
        let classes = pools.chain(peers).map(|class| class.as_deref().filter(|class| !class.is_empty()));
        classes.filter(|class| *class != self.class.as_deref()).collect()
    }

    /// Returns a pool for an update.
    pub(super) fn pool_mut(&mut self, name: &str) -> Option<&mut IPAddressPool> {
        self.store.get_mut(name)
    }

    /// Returns all pools of this instance, accepted or not.
    pub(super) fn pools(&self) -> impl Iterator<Item = &IPAddressPool> {
        self.store.list::<IPAddressPool>().iter().filter(|pool| self.is_own(pool))
    }

    fn is_own(&self, pool: &IPAddressPool) -> bool {
        self.is_own_class(pool.spec.load_balancer_class.as_deref())
    }

    /// Returns true if the object is a BGPPeer of another instance.
    fn is_foreign_peer(&self, object: &ObjectRef) -> bool {
        let peer = || self.store.get::<BGPPeer>(&object.name);
        object.kind == Kind::BGPPeer
            && peer().is_some_and(|peer| !self.is_own_class(peer.spec.load_balancer_class.as_deref()))
    }

    fn is_own_class(&self, class: Option<&str>) -> bool {
        class.filter(|class| !class.is_empty()) == self.class.as_deref()
    }

    /// Returns the patch that updates the condition `Accepted`, if it must change.
    fn accepted_patch(&self, view: &ObjectView<'_>, now: Timestamp) -> Option<ObjectPatch> {
        let Accepted { status, reason, message } = self.resolution.accepted(&view.object)?;
        let new = NewCondition::new(ACCEPTED, status, reason, message)
            .observed_generation(view.metadata.generation);
        // A merge moves the condition to the end, so merged conditions may differ from correct ones in order.
        if view.conditions.contains(&new.clone().after(view.conditions, now)) {
            return None;
        }
        let conditions = conditions::merge(view.conditions, &[ACCEPTED], [new], now);
        Some(status_patch(view, json!({ "conditions": conditions })))
    }
}

/// Returns a patch of the status of an object.
pub(super) fn status_patch(view: &ObjectView<'_>, status: Value) -> ObjectPatch {
    let resource_version = view.metadata.resource_version.clone().unwrap_or_default();
    ObjectPatch {
        object: view.object.clone(),
        part: ObjectPart::Status,
        body: json!({ "metadata": { "resourceVersion": resource_version }, "status": status }),
        resource_version,
    }
}
