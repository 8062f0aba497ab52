//! The configuration objects: their resolution and the status of each.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::conditions::{self, NewCondition, RawCondition};
use fairlead_crds::kinds::{ConfigurationObject, Kind, ObjectRef, ObjectView};
use fairlead_crds::model::config::{Closed, Config};
use fairlead_crds::names::{ACCEPTED, IN_FORCE, IN_USE, READY, SESSIONS_ESTABLISHED, STALLED, reasons};
use fairlead_crds::resolve::{Accepted, InForce, Resolution, ResolutionChange};
use fairlead_crds::store::{ConfigurationChange, ConfigurationStore, ObjectChange};
use fairlead_crds::v1beta1::{AcceptedForm, BGPPeer, IPAddressPool};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::announcement::PeerSessions;
use super::cooldowns::Cooldowns;
use super::health::health;
use super::left_objects::ClassChanges;
use super::object_events::{EventObject, ObjectEvent, problems};
use super::removal::Removal;

/// The conditions of objects that are not pools.
pub(super) const OWN_CONDITIONS: [&str; 6] =
    [ACCEPTED, READY, STALLED, IN_FORCE, IN_USE, SESSIONS_ESTABLISHED];

/// All configuration objects as last observed, and their resolution.
#[derive(Debug, Default)]
pub struct Configuration {
    store: ConfigurationStore,
    resolution: Resolution,
    cooldowns: Cooldowns,
    /// The load balancer class of this instance.
    class: Option<String>,
    removal: Removal,
    class_changes: ClassChanges,
    /// The sessions with the BGPPeers of this instance, by name of the BGPPeer; `None` until Speakers were
    /// listed.
    sessions: Option<BTreeMap<String, PeerSessions>>,
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
    /// The object for Events, and the problems that the status shows. Empty for finalizers.
    pub problems: Option<(EventObject, Vec<ObjectEvent>)>,
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
        if self.removal.pools {
            // All pools disappear soon, one after the other: none takes the Services of those before it.
            config.pools.values_mut().for_each(|pool| pool.closed = Some(Closed::Deleting));
        }
        config
    }

    /// Returns the load balancer class of this instance.
    pub(super) fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    /// Stores which parts of Fairlead are being deleted. Returns whether that differs: then the finalizers of
    /// all objects may differ.
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
        let before = self.before_change(&objects);
        let differs = self.store.handle_change(change);
        self.update_class_changes(before);
        AppliedChange { differs, objects }
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
    /// BGPPeer of another class is written by the instance of that class. If such a BGPPeer left this
    /// instance, the patch removes what this instance wrote. Every instance decides on the same status for
    /// objects without a class.
    pub fn status_patch(&self, object: &ObjectRef, now: Timestamp) -> Option<ObjectPatch> {
        let view = self.store.view(object)?;
        if self.is_foreign_peer(object) {
            return self.departure_patch(object, now);
        }
        self.object_patch(&view, now)
    }

    /// Returns the status patch for each object that is not a pool; `None` where the status is correct or
    /// another instance writes it.
    pub fn status_patches(&self, now: Timestamp) -> Vec<(ObjectRef, Option<ObjectPatch>)> {
        let views = self.store.views().filter(|view| view.object.kind != Kind::IPAddressPool);
        let views = views.filter(|view| !self.is_foreign_peer(&view.object));
        views.map(|view| (view.object.clone(), self.object_patch(&view, now))).collect()
    }

    /// Returns the resourceVersion of an object as last observed.
    pub fn resource_version(&self, object: &ObjectRef) -> Option<&str> {
        self.store.resource_version(object)
    }

    /// Returns the objects, except pools, that have a finalizer while others refer to them.
    pub fn referable(&self) -> impl Iterator<Item = ObjectRef> {
        let objects = self.store.views().map(|view| view.object);
        objects.filter(|object| object.kind != Kind::IPAddressPool && object.kind.finalizer().is_some())
    }

    /// Returns the parts of an object that all kinds have in common.
    pub(super) fn view(&self, object: &ObjectRef) -> Option<ObjectView<'_>> {
        self.store.view(object)
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

    /// Returns an object of any instance.
    pub(super) fn stored<K: ConfigurationObject>(&self, name: &str) -> Option<&K> {
        self.store.get(name)
    }

    /// Returns the observed changes of class.
    pub(super) fn class_changes(&self) -> &ClassChanges {
        &self.class_changes
    }

    /// Returns the observed changes of class for an update.
    pub(super) fn class_changes_mut(&mut self) -> &mut ClassChanges {
        &mut self.class_changes
    }

    pub(super) fn is_own_class(&self, class: Option<&str>) -> bool {
        class.filter(|class| !class.is_empty()) == self.class.as_deref()
    }

    /// Sets the sessions with a BGPPeer, which speakers report.
    pub fn set_peer_sessions(&mut self, peer: &str, sessions: PeerSessions) {
        let all = self.sessions.get_or_insert_default();
        if sessions == PeerSessions::default() {
            all.remove(peer);
        } else {
            all.insert(peer.to_owned(), sessions);
        }
    }

    /// Stores that speakers were listed: a BGPPeer whose sessions were not set has none.
    pub fn set_speakers_listed(&mut self) {
        self.sessions.get_or_insert_default();
    }

    /// Returns all BGPPeers.
    pub fn peers(&self) -> impl Iterator<Item = ObjectRef> {
        self.store.list::<BGPPeer>().iter().map(ConfigurationObject::reference)
    }

    /// Returns the sessions with a BGPPeer; `None` for other objects, and while they are unknown.
    fn peer_sessions(&self, view: &ObjectView<'_>) -> Option<PeerSessions> {
        let all = self.sessions.as_ref().filter(|_| view.object.kind == Kind::BGPPeer)?;
        Some(all.get(&view.object.name).copied().unwrap_or_default())
    }

    /// Returns the patch that updates the conditions and the last accepted form, if they must change.
    fn object_patch(&self, view: &ObjectView<'_>, now: Timestamp) -> Option<ObjectPatch> {
        let Accepted { status, reason, message } = self.resolution.accepted(&view.object)?;
        let condition = |type_, status, reason: String, message: String| {
            NewCondition::new(type_, status, reason, message).observed_generation(view.metadata.generation)
        };
        let health: Vec<NewCondition> = health(view.metadata, status, &reason, &message).collect();
        let mut new = vec![condition(ACCEPTED, status, reason, message)];
        let sessions = self.peer_sessions(view);
        // Without speakers, what an earlier leader wrote about sessions stays.
        let owned: Vec<&str> =
            OWN_CONDITIONS.into_iter().filter(|type_| *type_ != SESSIONS_ESTABLISHED).collect();
        let owned = if sessions.is_some() { OWN_CONDITIONS.to_vec() } else { owned };
        let established = sessions.map(|sessions| sessions.to_string());
        let is_established_correct =
            established.is_none() || established.as_deref() == view.established_sessions;
        let kept = self.resolution.kept_message(&view.object);
        new.extend(kept.map(|message| condition(IN_FORCE, true, reasons::LAST_ACCEPTED.to_owned(), message)));
        new.extend(health);
        let of_sessions = sessions.map(|sessions| sessions.condition());
        new.extend(of_sessions.map(|condition| condition.observed_generation(view.metadata.generation)));
        let waiting = self.waiting_condition(view);
        new.extend(waiting.map(|waiting| waiting.observed_generation(view.metadata.generation)));
        let form = self.resolution.last_accepted(&view.object);
        // A merge moves conditions to the end, so merged conditions may differ from correct ones in order.
        let is_correct = owned.iter().all(|type_| {
            let new = new.iter().find(|condition| condition.type_ == *type_);
            let new = new.map(|condition| condition.clone().after(view.conditions, now));
            conditions::find(view.conditions, type_) == new.as_ref()
        });
        let is_current = view.observed_generation == view.metadata.generation;
        if is_correct && is_current && is_established_correct && form == view.in_force {
            return None;
        }
        let mut status = json!({
            "observedGeneration": view.metadata.generation,
            "conditions": conditions::merge(view.conditions, &owned, new, now),
        });
        if !is_established_correct {
            status["establishedSessions"] = json!(established);
        }
        if form != view.in_force {
            let value = |form: Option<&AcceptedForm>| serde_json::to_value(form).unwrap_or_default();
            status["inForce"] = merge_patch(&value(view.in_force), value(form));
        }
        Some(status_patch(view, status))
    }
}

/// Returns the merge patch (RFC 7386) that turns one value into another, which contains no null.
fn merge_patch(old: &Value, new: Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, &new) else { return new };
    let removed = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(*value)).map(|(key, value)| {
        let old = old.get(key).unwrap_or(&Value::Null);
        (key.clone(), merge_patch(old, value.clone()))
    });
    removed.chain(changed).collect()
}

/// Returns a patch of the status of an object.
pub(super) fn status_patch(view: &ObjectView<'_>, status: Value) -> ObjectPatch {
    let resource_version = view.metadata.resource_version.clone().unwrap_or_default();
    let object = EventObject::new(view.object.kind, view.metadata);
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let conditions: Vec<RawCondition> =
        conditions.filter_map(|condition| serde_json::from_value(condition.clone()).ok()).collect();
    let problems = problems(&object, view.conditions, &conditions);
    ObjectPatch {
        object: view.object.clone(),
        part: ObjectPart::Status,
        body: json!({ "metadata": { "resourceVersion": resource_version }, "status": status }),
        resource_version,
        problems: Some((object, problems)),
    }
}
