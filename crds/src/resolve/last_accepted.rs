//! The last accepted form of each object. It remains in force while the object is refused: after an invalid
//! edit, and after an edit or the deletion of an object that it refers to.
//!
//! A form contains what the object needs of others, so that it does not depend on their existence. Those that
//! exist take precedence over the copies. Processes remember the forms that they have accepted; the status of
//! the object contains the form for a process that starts later.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::precedence::{Before, Standing};
use super::refusal::ObjectRefusal;
use super::{ObjectRef, ObjectVerdict, Resolution};
use crate::kinds::{ConfigurationObject, Objects};
use crate::v1beta1::AcceptedForm;
use crate::{conditions, names};

/// The size of the longest form that a status contains, in octets of JSON. An API server rejects objects
/// above 1.5 MiB.
const MAX_RECORDED: usize = 64 * 1024;

/// The last accepted forms of all objects except pools, and which of them are in force while their objects
/// are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LastAccepted {
    forms: BTreeMap<ObjectRef, Form>,
    kept: BTreeSet<ObjectRef>,
}

/// The last accepted form of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// An object that was created again is another object.
    uid: Option<String>,
    pub(super) parts: AcceptedForm,
}

impl Form {
    /// Returns the current form of an object, without what it needs of others.
    pub(super) fn of<K: ConfigurationObject>(object: &K) -> Self {
        let spec = serde_json::to_value(object.spec()).unwrap_or_default();
        let generation = object.meta().generation;
        Self {
            uid: object.meta().uid.clone(),
            parts: AcceptedForm { generation, spec, ..Default::default() },
        }
    }

    /// Returns the object in this form; `None` if this version cannot read it.
    fn apply_to<K: ConfigurationObject>(&self, object: &K) -> Option<K> {
        let spec = K::Spec::deserialize(&self.parts.spec).ok()?;
        Some(K::from_parts(object.meta().clone(), spec, None))
    }
}

impl LastAccepted {
    /// Returns the last accepted form of an object: the remembered one or the one in the status.
    ///
    /// The leading controller uses the form that it remembers: it writes the status, so a form there that
    /// differs is of another writer. Other processes use the form in the status once the controller has
    /// decided on this generation, so that they agree with processes that start later. Before that, the form
    /// of the later generation is newer.
    pub(super) fn form_of<K: ConfigurationObject>(before: Before<'_>, object: &K) -> Option<Form> {
        let remembered = before.last_accepted().and_then(|earlier| earlier.get(&object.reference()));
        let remembered = remembered.filter(|form| form.uid == object.meta().uid);
        let Some(recorded) = object.in_force() else { return remembered.cloned() };
        let is_remembered_used = |form: &&Form| match before {
            Before::Resolution(_) => true,
            Before::Conditions(_) => {
                recorded.generation < form.parts.generation && !is_decided_in_force(object)
            }
        };
        let recorded = || Form { uid: object.meta().uid.clone(), parts: recorded.clone() };
        Some(remembered.filter(is_remembered_used).cloned().unwrap_or_else(recorded))
    }

    /// Returns the last accepted form in the status of an object, if it remains the last accepted one after
    /// this process has accepted the current form.
    pub(super) fn recorded<K: ConfigurationObject>(before: Before<'_>, object: &K) -> Option<Form> {
        let recorded = object.in_force().filter(|_| matches!(before, Before::Conditions(_)))?;
        let is_newer = object.meta().generation > recorded.generation;
        (!is_newer || is_decided_in_force(object))
            .then(|| Form { uid: object.meta().uid.clone(), parts: recorded.clone() })
    }

    pub(super) fn get(&self, object: &ObjectRef) -> Option<&Form> {
        self.forms.get(object)
    }

    pub(super) fn set(&mut self, object: ObjectRef, form: Form) {
        self.forms.insert(object, form);
    }

    /// Returns true if the last accepted form of a refused object is in force.
    pub(super) fn is_kept(&self, object: &ObjectRef) -> bool {
        self.kept.contains(object)
    }

    /// Sets whether the last accepted form of a refused object is in force. Returns true if that differs.
    pub(super) fn set_kept(&mut self, object: &ObjectRef, is_kept: bool) -> bool {
        if is_kept { self.kept.insert(object.clone()) } else { self.kept.remove(object) }
    }

    /// Returns true if both have the same for an object.
    pub(super) fn agrees_on(&self, other: &Self, object: &ObjectRef) -> bool {
        self.forms.get(object) == other.forms.get(object) && self.is_kept(object) == other.is_kept(object)
    }
}

/// Returns true if the controller has decided, on the current generation of an object, that the form in its
/// status is in force.
fn is_decided_in_force<K: ConfigurationObject>(object: &K) -> bool {
    conditions::find(object.conditions(), names::IN_FORCE).is_some_and(|in_force| {
        in_force.status() == "True" && in_force.observed_generation() == object.meta().generation
    })
}

/// An object with the values of its spec and of its last accepted form, which was not compared with others
/// yet.
pub(super) struct Candidate<'a, K, T> {
    pub(super) object: &'a K,
    pub(super) own: Result<T, ObjectRefusal>,
    /// The current form.
    pub(super) form: Form,
    /// The last accepted form, if there is one.
    pub(super) last: Option<Form>,
    /// The object in the last accepted form and its value, unless it has the same spec and is valid.
    pub(super) kept: Option<(K, T)>,
}

impl Resolution {
    /// Returns the objects of one kind in order of precedence. `parse` returns the value of an object, given
    /// what its form has from others.
    pub(super) fn candidates<'a, K: ConfigurationObject, T>(
        &mut self,
        before: Before<'_>,
        objects: &'a Objects,
        parse: impl Fn(&K, &AcceptedForm) -> Result<T, ObjectRefusal>,
    ) -> Vec<Candidate<'a, K, T>> {
        let none = AcceptedForm::default();
        let list = self.by_age(before, K::KIND, K::list(objects)).into_iter();
        let candidates = list.map(|object| {
            let own = objects.check_readable(object).and_then(|()| parse(object, &none));
            let form = Form::of(object);
            let last = LastAccepted::form_of(before, object);
            let other = last.as_ref().filter(|last| own.is_err() || last.parts.spec != form.parts.spec);
            let kept = other.and_then(|last| {
                let former = last.apply_to(object)?;
                let value = parse(&former, &last.parts).ok()?;
                Some((former, value))
            });
            Candidate { object, own, form, last, kept }
        });
        let mut candidates: Vec<_> = candidates.collect();
        candidates.sort_by_cached_key(|candidate| candidate.standing(before));
        candidates
    }

    /// Records the verdict on an object. Returns what is in force: the object itself, or while it is refused,
    /// its last accepted form. `add` refuses a value that conflicts with others; `attach` adds to a form what
    /// the object needs of others.
    pub(super) fn settle<K: ConfigurationObject, T>(
        &mut self,
        candidate: Candidate<'_, K, T>,
        mut add: impl FnMut(&T) -> Result<(), ObjectRefusal>,
        attach: impl Fn(&K, &mut AcceptedForm, &LastAccepted),
    ) -> Option<T> {
        let Candidate { object, own, mut form, last, kept } = candidate;
        let reference = object.reference();
        let refusal = match own.and_then(|value| add(&value).map(|()| value)) {
            Ok(value) => {
                attach(object, &mut form.parts, &self.last_accepted);
                self.verdicts.insert(reference.clone(), ObjectVerdict::Accepted);
                self.last_accepted.set(reference, form);
                return Some(value);
            }
            Err(refusal) => refusal,
        };
        self.verdicts.insert(reference.clone(), refusal.into());
        let mut last = last?;
        let kept = kept.filter(|(_, value)| add(value).is_ok());
        if let Some((former, _)) = &kept {
            attach(former, &mut last.parts, &self.last_accepted);
            self.last_accepted.set_kept(&reference, true);
        }
        self.last_accepted.set(reference, last);
        kept.map(|(_, value)| value)
    }

    /// Returns the form of an object for its status: the last one that was accepted. Returns `None` if no
    /// form was accepted, or if it is too large.
    pub fn last_accepted(&self, object: &ObjectRef) -> Option<&AcceptedForm> {
        let parts = &self.last_accepted.get(object)?.parts;
        let size = serde_json::to_vec(parts).map_or(usize::MAX, |json| json.len());
        (size <= MAX_RECORDED).then_some(parts)
    }

    /// Returns true if an object is refused and its last accepted form is in force.
    pub fn is_kept(&self, object: &ObjectRef) -> bool {
        self.last_accepted.is_kept(object)
    }

    /// Describes which form of a refused object is in force; `None` for any other object.
    pub fn kept_message(&self, object: &ObjectRef) -> Option<String> {
        let form = self.last_accepted.get(object).filter(|_| self.is_kept(object))?;
        let generation = form.parts.generation.map(|n| format!(", generation {n},")).unwrap_or_default();
        Some(format!(
            "the form that was accepted last{generation} remains in force: correct the object, or delete it to \
             end that"
        ))
    }
}

impl<K: ConfigurationObject, T> Candidate<'_, K, T> {
    fn standing(&self, before: Before<'_>) -> Standing {
        if !before.was_in_force(self.object) {
            Standing::NotInForce
        } else if self.own.is_err() {
            // What is compared with others is the last accepted form.
            Standing::InForce
        } else if let Some(last) = &self.last {
            if last.parts.spec == self.form.parts.spec { Standing::InForce } else { Standing::Edited }
        } else {
            before.by_generation(self.object)
        }
    }
}
