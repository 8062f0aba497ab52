//! The pools and BGPPeers whose load balancer class changed from that of this instance to another one. The
//! instance of the new class may not exist, so this one removes what it wrote: its conditions, the counts and
//! the finalizer would otherwise never be removed.
//!
//! The condition `Accepted` tells whether the instance of the new class has written the status since: then
//! its `observedGeneration` is that of the object.

use std::collections::BTreeSet;

use fairlead_crds::conditions;
use fairlead_crds::kinds::{Kind, ObjectRef, ObjectView};
use fairlead_crds::names::ACCEPTED;
use fairlead_crds::v1beta1::{BGPPeer, IPAddressPool};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::finalizers::finalizer_patch;
use super::objects::{Configuration, OWN_CONDITIONS, ObjectPatch, status_patch};
use super::pools::POOL_CONDITIONS;

impl Configuration {
    /// Returns those of the objects that are pools and BGPPeers of this instance.
    pub(super) fn owned_among(&self, objects: &[ObjectRef]) -> Vec<ObjectRef> {
        objects.iter().filter(|object| self.has_own_class(object) == Some(true)).cloned().collect()
    }

    /// Handles a change of objects, of which `owned` belonged to this instance before.
    pub(super) fn update_left(&mut self, owned: Vec<ObjectRef>) {
        let mut left: BTreeSet<ObjectRef> = std::mem::take(self.left_mut());
        left.extend(owned);
        left.retain(|object| self.has_own_class(object) == Some(false));
        *self.left_mut() = left;
    }

    /// Returns the patch that removes what this instance wrote in the status of an object that left it.
    pub(super) fn departure_patch(&self, object: &ObjectRef, now: Timestamp) -> Option<ObjectPatch> {
        let view = self.abandoned(object)?;
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
            _ => json!({ "inForce": null }),
        };
        status["conditions"] = json!(conditions::merge(view.conditions, owned, [], now));
        Some(status_patch(&view, status))
    }

    /// Returns the patch that removes the finalizer of an object that left this instance. It must be written
    /// before the patch of the status: after that patch, the object no longer counts as abandoned.
    pub(super) fn departure_finalizer_patch(&self, object: &ObjectRef) -> Option<ObjectPatch> {
        finalizer_patch(&self.abandoned(object)?, false)
    }

    /// Returns an object that left this instance and that the instance of its class has not written since.
    fn abandoned(&self, object: &ObjectRef) -> Option<ObjectView<'_>> {
        let view = self.view(object).filter(|_| self.left().contains(object))?;
        let accepted = conditions::find(view.conditions, ACCEPTED)?;
        (accepted.observed_generation() != view.metadata.generation).then_some(view)
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
