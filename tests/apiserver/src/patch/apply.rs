//! The two steps of server-side apply: merging the configuration, and removing fields that it no longer
//! contains.

use serde_json::{Map, Value};

use super::fields::{FieldSet, field, item_key};
use super::shape::{ListShape, Shape};

/// Merges an applied configuration into an object.
pub(crate) fn merge_applied(live: &mut Value, config: &Value, shape: &Shape) {
    match (&mut *live, config) {
        (Value::Object(live), Value::Object(config)) if !shape.atomic => {
            for (name, value) in config {
                match live.get_mut(name) {
                    Some(live) => merge_applied(live, value, shape.field(name)),
                    None => {
                        live.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(live), Value::Array(config)) if shape.list != ListShape::Atomic => {
            for item in config {
                let key = item_key(item, &shape.list);
                let same = live.iter_mut().find(|other| key.is_some() && item_key(other, &shape.list) == key);
                match same {
                    Some(same) => merge_applied(same, item, shape.item()),
                    None => live.push(item.clone()),
                }
            }
        }
        _ => *live = config.clone(),
    }
}

/// Removes the dropped fields except those that another manager owns; an object or list that becomes empty is
/// removed too.
pub(crate) fn prune(value: &mut Value, dropped: &FieldSet, kept: &FieldSet, shape: &Shape) {
    match value {
        Value::Object(fields) if !shape.atomic => prune_fields(fields, dropped, kept, shape),
        Value::Array(items) if shape.list != ListShape::Atomic => {
            let nothing = FieldSet::default();
            items.retain_mut(|item| {
                let Some(key) = item_key(item, &shape.list) else { return true };
                let Some(dropped) = dropped.children.get(&key) else { return true };
                let kept = kept.children.get(&key).unwrap_or(&nothing);
                if dropped.here && kept.is_empty() {
                    return false;
                }
                prune(item, dropped, kept, shape.item());
                true
            });
        }
        _ => {}
    }
}

fn prune_fields(fields: &mut Map<String, Value>, dropped: &FieldSet, kept: &FieldSet, shape: &Shape) {
    let nothing = FieldSet::default();
    let mut gone = Vec::new();
    for (name, value) in fields.iter_mut() {
        let Some(dropped) = dropped.children.get(&field(name)) else { continue };
        let kept = kept.children.get(&field(name)).unwrap_or(&nothing);
        if dropped.here && kept.is_empty() {
            gone.push(name.clone());
            continue;
        }
        prune(value, dropped, kept, shape.field(name));
        let empty = match value {
            Value::Object(fields) => fields.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if empty && kept.is_empty() {
            gone.push(name.clone());
        }
    }
    for name in gone {
        fields.remove(&name);
    }
}

/// Returns the paths of lists that contain two items with the same key, or an item without a key; they cannot
/// be applied.
pub(crate) fn list_of_duplicates(value: &Value, shape: &Shape) -> Vec<String> {
    let mut found = Vec::new();
    duplicates(value, shape, &mut String::new(), &mut found);
    found
}

fn duplicates(value: &Value, shape: &Shape, path: &mut String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !shape.atomic => {
            for (name, value) in fields {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                duplicates(value, shape.field(name), path, found);
                path.truncate(length);
            }
        }
        Value::Array(items) if shape.list != ListShape::Atomic => {
            let mut seen = std::collections::BTreeSet::new();
            for item in items {
                let fresh = item_key(item, &shape.list).is_some_and(|key| seen.insert(key));
                if !fresh && !found.contains(path) {
                    found.push(path.clone());
                }
                duplicates(item, shape.item(), path, found);
            }
        }
        _ => {}
    }
}
