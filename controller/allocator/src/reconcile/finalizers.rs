//! The finalizers of objects in use, by kind ([`Kind::finalizer`]): their deletion waits until nothing needs
//! them.

use fairlead_crds::conditions::NewCondition;
use fairlead_crds::kinds::{Kind, ObjectRef, ObjectView};
use fairlead_crds::names::{IN_USE, reasons};
use serde_json::json;

use super::objects::{Configuration, ObjectPart, ObjectPatch};

/// Maximum number of users that a message names.
const MAX_NAMED: usize = 5;

impl Configuration {
    /// Returns the patch of the finalizers of a BFDProfile or Community, if it needs one. Only the instance
    /// without a load balancer class adds them: all instances use these objects. An instance with a class
    /// removes them from deleted objects that nothing uses: no instance without a class may exist.
    pub fn reference_patch(&self, object: &ObjectRef) -> Option<ObjectPatch> {
        if object.kind == Kind::IPAddressPool {
            return None;
        }
        let view = self.view(object)?;
        let mut removal = self.removal();
        if self.class().is_some() {
            if !is_being_deleted(&view) {
                return None;
            }
            // Other instances use the object after this one is removed.
            removal.namespace = false;
        }
        let is_in_use = || !self.resolution().users_of(object).is_empty();
        finalizer_patch(&view, !removal.exempts(&view) && is_in_use())
    }

    /// Returns true if an object is being deleted.
    pub fn is_being_deleted(&self, object: &ObjectRef) -> bool {
        self.view(object).is_some_and(|view| is_being_deleted(&view))
    }

    /// Returns the condition of an object whose deletion waits for others.
    pub(super) fn waiting_condition(&self, view: &ObjectView<'_>) -> Option<NewCondition> {
        if !deletion_waits(view) {
            return None;
        }
        let users = self.resolution().users_of(&view.object);
        let mut named: Vec<String> =
            users.iter().take(MAX_NAMED).map(|user| format!("{} {}", user.kind, user.name)).collect();
        if users.len() > MAX_NAMED {
            named.push(format!("{} more", users.len() - MAX_NAMED));
        }
        let message =
            format!("deletion waits for {}: remove the references to this object", named.join(", "));
        (!users.is_empty()).then(|| NewCondition::new(IN_USE, true, reasons::REFERENCED, message))
    }
}

/// Returns true if an object is being deleted and has the finalizer of its kind. Without the finalizer, the
/// deletion waits for another controller.
pub(super) fn deletion_waits(view: &ObjectView<'_>) -> bool {
    is_being_deleted(view) && has_finalizer(view)
}

/// Returns true if an object has the finalizer of its kind.
pub(super) fn has_finalizer(view: &ObjectView<'_>) -> bool {
    finalizers(view).any(|name| view.object.kind.finalizer() == Some(name))
}

/// Returns the patch of the finalizers of an object, if it needs one. An object that is being deleted cannot
/// get a finalizer.
pub(super) fn finalizer_patch(view: &ObjectView<'_>, is_protected: bool) -> Option<ObjectPatch> {
    let own = view.object.kind.finalizer()?;
    let current: Vec<&str> = finalizers(view).collect();
    let mut finalizers: Vec<&str> = current.iter().copied().filter(|name| *name != own).collect();
    if is_protected && (!is_being_deleted(view) || current.contains(&own)) {
        finalizers.push(own);
    }
    if finalizers.len() == current.len() {
        return None;
    }
    let resource_version = view.metadata.resource_version.clone().unwrap_or_default();
    Some(ObjectPatch {
        object: view.object.clone(),
        part: ObjectPart::Finalizers,
        body: json!({ "metadata": { "resourceVersion": resource_version, "finalizers": finalizers } }),
        resource_version,
        problems: None,
    })
}

fn is_being_deleted(view: &ObjectView<'_>) -> bool {
    view.metadata.deletion_timestamp.is_some()
}

fn finalizers<'a>(view: &ObjectView<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    view.metadata.finalizers.iter().flatten().map(String::as_str)
}
