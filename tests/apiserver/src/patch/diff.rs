//! Compares the fields of two states of an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{FieldSet, field, item_key};
use super::shape::{ListShape, Shape};

/// The differences.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Difference {
    /// Added or changed fields.
    pub changed: FieldSet,
    /// Removed fields.
    pub removed: FieldSet,
}

/// Compares two states.
pub(crate) fn compare(old: &Value, new: &Value, shape: &Shape) -> Difference {
    let mut difference = Difference::default();
    walk(Some(old), Some(new), shape, &mut difference.changed, &mut difference.removed);
    difference
}

fn walk(
    old: Option<&Value>,
    new: Option<&Value>,
    shape: &Shape,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            changed.add(&FieldSet::of(new, shape));
            changed.here = true;
        }
        (Some(old), None) => {
            removed.add(&FieldSet::of(old, shape));
            removed.here = true;
        }
        (Some(old), Some(new)) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) if !shape.atomic => {
            fields(old, new, shape, changed, removed);
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if shape.list != ListShape::Atomic => {
            let (old, new) = (by_key(old, &shape.list), by_key(new, &shape.list));
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                child(
                    key.clone(),
                    old.get(key).copied(),
                    new.get(key).copied(),
                    shape.item(),
                    changed,
                    removed,
                );
            }
        }
        (Some(_), Some(_)) => changed.here = true,
    }
}

fn fields(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    shape: &Shape,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
        child(field(name), old.get(name), new.get(name), shape.field(name), changed, removed);
    }
}

fn child(
    key: String,
    old: Option<&Value>,
    new: Option<&Value>,
    shape: &Shape,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    let (mut inner_changed, mut inner_removed) = (FieldSet::default(), FieldSet::default());
    walk(old, new, shape, &mut inner_changed, &mut inner_removed);
    if !inner_changed.is_empty() {
        changed.children.insert(key.clone(), inner_changed);
    }
    if !inner_removed.is_empty() {
        removed.children.insert(key, inner_removed);
    }
}

fn by_key<'a>(items: &'a [Value], list: &ListShape) -> BTreeMap<String, &'a Value> {
    items.iter().filter_map(|item| Some((item_key(item, list)?, item))).collect()
}
