//! The pools and BGPPeers whose load balancer class changed from that of this instance to another one. The
//! instance of the new class may not exist, so this one removes what it wrote: its conditions, the counts and
//! the finalizer would otherwise never be removed.
//!
//! The condition `Accepted` tells whether the status is still that of this instance: then its
//! `observedGeneration` is a generation at which the object had the class of this instance. As soon as it is
//! another one, or the condition is missing, this instance no longer writes the object. The same holds if a
//! pool gets the finalizer again.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use fairlead_crds::conditions;
use fairlead_crds::kinds::{Kind, ObjectRef, ObjectView};
use fairlead_crds::names::ACCEPTED;
use fairlead_crds::v1beta1::{BGPPeer, IPAddressPool};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::finalizers::{finalizer_patch, has_finalizer};
use super::objects::{Configuration, OWN_CONDITIONS, ObjectPatch, status_patch};
use super::pools::POOL_CONDITIONS;

/// The pools and BGPPeers whose class changed while this process observed them.
#[derive(Debug, Default)]
pub(super) struct ClassChanges {
    /// The objects of this instance that another one had before, with the generations since then.
    arrived: BTreeMap<ObjectRef, OwnGenerations>,
    /// The objects that left this instance and still have the status that it wrote.
    left: BTreeMap<ObjectRef, Left>,
}

#[derive(Debug)]
struct Left {
    own: OwnGenerations,
    /// True if the object was observed without the finalizer of its kind since it left.
    is_released: bool,
}

/// The generations of an object at which it had the class of this instance.
#[derive(Clone, Debug)]
struct OwnGenerations {
    /// UID of the object. An object that is created under the same name is another one.
    uid: Option<String>,
    range: RangeInclusive<i64>,
}

/// A pool or BGPPeer before a change.
pub(super) struct Before {
    object: ObjectRef,
    is_own: bool,
    uid: Option<String>,
    generation: i64,
}

impl OwnGenerations {
    /// Returns true if an instance wrote the status of the object at one of these generations.
    fn contain(&self, view: &ObjectView<'_>) -> bool {
        let accepted = conditions::find(view.conditions, ACCEPTED);
        let observed = accepted.and_then(|accepted| accepted.observed_generation());
        self.uid == view.metadata.uid && observed.is_some_and(|observed| self.range.contains(&observed))
    }
}

impl Configuration {
    /// Returns the pools and BGPPeers among the objects as they are before a change.
    pub(super) fn before_change(&self, objects: &[ObjectRef]) -> Vec<Before> {
        let before = objects.iter().filter_map(|object| {
            let (is_own, view) = (self.has_own_class(object)?, self.view(object)?);
            let generation = view.metadata.generation.unwrap_or_default();
            Some(Before { object: object.clone(), is_own, uid: view.metadata.uid.clone(), generation })
        });
        before.collect()
    }

    /// Handles a change of objects, which were as in `before`. The first write of the
    /// cool-downs of a pool that arrives replaces those of the instance that had it before.
    pub(super) fn update_class_changes(&mut self, before: Vec<Before>) {
        let mut changes = std::mem::take(self.class_changes_mut());
        let mut arrived = Vec::new();
        for Before { object, is_own, uid, generation } in before {
            let Some(view) = self.view(&object).filter(|view| view.metadata.uid == uid) else { continue };
            match (is_own, self.has_own_class(&object)) {
                (true, Some(false)) => {
                    let first = changes.arrived.get(&object).filter(|arrived| arrived.uid == uid);
                    let first = first.map_or(i64::MIN, |arrived| *arrived.range.start());
                    let own = OwnGenerations { uid, range: first..=generation };
                    changes.left.insert(object, Left { own, is_released: false });
                }
                (false, Some(true)) => {
                    let first = view.metadata.generation.unwrap_or_default();
                    if object.kind == Kind::IPAddressPool {
                        arrived.push(object.name.clone());
                    }
                    changes.arrived.insert(object, OwnGenerations { uid, range: first..=i64::MAX });
                }
                _ => {}
            }
        }
        changes.arrived.retain(|object, _| self.has_own_class(object) == Some(true));
        changes.left.retain(|object, left| {
            let Some(view) = self.view(object) else { return false };
            let was_released = std::mem::replace(&mut left.is_released, !has_finalizer(&view));
            let is_adopted = !left.own.contain(&view) || (was_released && has_finalizer(&view));
            self.has_own_class(object) == Some(false) && !is_adopted
        });
        *self.class_changes_mut() = changes;
        arrived.iter().for_each(|pool| self.cooldowns_mut().replace(pool));
    }

    /// Returns the patch that removes what this instance wrote in the status of an object that left it. The
    /// finalizer is removed before: after this patch, the object no longer counts as abandoned.
    pub(super) fn departure_patch(&self, object: &ObjectRef, now: Timestamp) -> Option<ObjectPatch> {
        let view = self.abandoned(object).filter(|view| !has_finalizer(view))?;
        let owned: &[&str] = match object.kind {
            Kind::IPAddressPool => &POOL_CONDITIONS,
            _ => &OWN_CONDITIONS,
        };
        let mut status = match object.kind {
            Kind::IPAddressPool => {
                let pool = self.stored::<IPAddressPool>(&object.name)?;
                let mut fields = serde_json::to_value(&pool.status).unwrap_or_default();
                if let Some(fields) = fields.as_object_mut() {
                    fields.values_mut().for_each(|field| *field = Value::Null);
                }
                fields
            }
            Kind::BGPPeer => {
                json!({ "observedGeneration": null, "establishedSessions": null, "inForce": null })
            }
            _ => json!({ "observedGeneration": null, "inForce": null }),
        };
        status["conditions"] = json!(conditions::merge(view.conditions, owned, [], now));
        Some(status_patch(&view, status))
    }

    /// Returns the patch that removes the finalizer of an object that left this instance.
    pub(super) fn departure_finalizer_patch(&self, object: &ObjectRef) -> Option<ObjectPatch> {
        finalizer_patch(&self.abandoned(object)?, false)
    }

    /// Returns an object that left this instance and that no other instance has written since.
    fn abandoned(&self, object: &ObjectRef) -> Option<ObjectView<'_>> {
        let left = self.class_changes().left.get(object)?;
        self.view(object).filter(|view| left.own.contain(view))
    }

    /// Returns whether a pool or BGPPeer has the class of this instance; `None` if it does not exist, or if
    /// its kind has no class.
    fn has_own_class(&self, object: &ObjectRef) -> Option<bool> {
        let class = match object.kind {
            Kind::IPAddressPool => &self.stored::<IPAddressPool>(&object.name)?.spec.load_balancer_class,
            Kind::BGPPeer => &self.stored::<BGPPeer>(&object.name)?.spec.load_balancer_class,
            _ => return None,
        };
        Some(self.is_own_class(class.as_deref()))
    }
}
