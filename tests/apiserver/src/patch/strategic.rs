//! Strategic merge patch: a merge patch with list semantics (Kubernetes: "Update API Objects in Place Using
//! kubectl patch").

use serde_json::{Map, Value};

use super::shape::{Shape, Strategic};
use crate::failure::Failure;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Patches in place.
///
/// # Errors
/// 400 for invalid directives.
pub(crate) fn strategic_merge_patch(target: &mut Value, patch: &Value, shape: &Shape) -> Result<(), Failure> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return Ok(()) };
    match patch.get(DIRECTIVE).and_then(Value::as_str) {
        None | Some("merge") => merge_object(fields, patch, shape),
        Some("replace") => {
            *fields = patch.clone();
            fields.remove(DIRECTIVE);
            Ok(())
        }
        Some("delete") => {
            fields.clear();
            Ok(())
        }
        Some(other) => Err(Failure::bad_request(format!("unknown patch type: {other}"))),
    }
}

fn merge_object(
    fields: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    shape: &Shape,
) -> Result<(), Failure> {
    if let Some(Value::Array(retained)) = patch.get(RETAIN_KEYS) {
        fields.retain(|name, _| retained.iter().any(|other| other == name));
    }
    for (name, value) in patch {
        if name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(ORDER) {
            continue;
        }
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            if let (Some(Value::Array(items)), Value::Array(doomed)) = (fields.get_mut(list), value) {
                items.retain(|item| !doomed.contains(item));
            }
            continue;
        }
        match value {
            Value::Null => {
                fields.remove(name);
            }
            Value::Object(_) => {
                let target = fields.entry(name.clone()).or_insert(Value::Object(Map::new()));
                strategic_merge_patch(target, value, shape.field(name))?;
                let deleted = value.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
                if deleted {
                    fields.remove(name);
                }
            }
            Value::Array(items) => {
                let target = fields.entry(name.clone()).or_insert(Value::Array(Vec::new()));
                merge_list(target, items, shape.field(name))?;
            }
            scalar => {
                fields.insert(name.clone(), scalar.clone());
            }
        }
    }
    for (name, order) in patch {
        if let (Some(list), Value::Array(order)) = (name.strip_prefix(ORDER), order)
            && let Some(Value::Array(items)) = fields.get_mut(list)
        {
            reorder(items, order, &shape.field(list).strategic);
        }
    }
    Ok(())
}

fn merge_list(target: &mut Value, patch: &[Value], shape: &Shape) -> Result<(), Failure> {
    let directive = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str).map(str::to_owned);
    let replace = patch.iter().any(|item| directive(item).as_deref() == Some("replace"));
    let Value::Array(items) = target else {
        *target = Value::Array(patch.to_vec());
        return Ok(());
    };
    match &shape.strategic {
        _ if replace => {
            *items = patch.iter().filter(|item| directive(item).is_none()).cloned().collect();
        }
        Strategic::Replace => *items = patch.to_vec(),
        Strategic::Add => {
            for item in patch {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
        }
        Strategic::By(key) => {
            for item in patch {
                let id = item.get(key).ok_or_else(|| {
                    Failure::bad_request(format!("map: {item} does not contain declared merge key: {key}"))
                })?;
                if directive(item).as_deref() == Some("delete") {
                    items.retain(|other| other.get(key) != Some(id));
                    continue;
                }
                match items.iter_mut().find(|other| other.get(key) == Some(id)) {
                    Some(same) => strategic_merge_patch(same, item, shape.item())?,
                    None => {
                        let mut fresh = Value::Object(Map::new());
                        strategic_merge_patch(&mut fresh, item, shape.item())?;
                        items.push(fresh);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Puts the listed items in the listed order, and the others at the end.
fn reorder(items: &mut [Value], order: &[Value], strategic: &Strategic) {
    let place = |item: &Value| {
        let same = |other: &Value| match strategic {
            Strategic::By(key) => other.get(key) == item.get(key),
            _ => other == item,
        };
        order.iter().position(same).unwrap_or(usize::MAX)
    };
    items.sort_by_key(place);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service() -> Shape {
        let mut shape = Shape::default().with_metadata();
        shape.at("spec.ports").strategic = Strategic::By("port".into());
        shape.at("status.conditions").strategic = Strategic::By("type".into());
        shape
    }

    #[test]
    fn lists_merge_by_key_or_are_replaced() {
        let ports = |ports: Value| json!({ "spec": { "ports": ports } });
        for (what, before, patch, after) in [
            (
                "another port is added",
                ports(json!([{ "port": 80 }])),
                ports(json!([{ "port": 443 }])),
                ports(json!([{ "port": 80 }, { "port": 443 }])),
            ),
            (
                "the same port is changed",
                ports(json!([{ "port": 80, "name": "a", "nodePort": 30000 }])),
                ports(json!([{ "port": 80, "name": "b" }])),
                ports(json!([{ "port": 80, "name": "b", "nodePort": 30000 }])),
            ),
            (
                "an item is deleted",
                ports(json!([{ "port": 80 }, { "port": 443 }])),
                ports(json!([{ "port": 80, "$patch": "delete" }])),
                ports(json!([{ "port": 443 }])),
            ),
            (
                "the whole list is replaced on request",
                ports(json!([{ "port": 80 }, { "port": 443 }])),
                ports(json!([{ "$patch": "replace" }, { "port": 53 }])),
                ports(json!([{ "port": 53 }])),
            ),
            (
                "a list without a key is replaced",
                json!({ "spec": { "externalIPs": ["a", "b"] } }),
                json!({ "spec": { "externalIPs": ["c"] } }),
                json!({ "spec": { "externalIPs": ["c"] } }),
            ),
            (
                "null removes, an object can be replaced",
                json!({ "spec": { "type": "x", "selector": { "a": "b" } } }),
                json!({ "spec": { "type": null, "selector": { "$patch": "replace", "c": "d" } } }),
                json!({ "spec": { "selector": { "c": "d" } } }),
            ),
            (
                "finalizers are added and deleted one by one",
                json!({ "metadata": { "finalizers": ["a", "b"] } }),
                json!({ "metadata": { "finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"] } }),
                json!({ "metadata": { "finalizers": ["b", "c"] } }),
            ),
            (
                "an order is followed",
                ports(json!([{ "port": 80 }, { "port": 443 }])),
                json!({ "spec": {
                    "$setElementOrder/ports": [{ "port": 443 }, { "port": 80 }],
                    "ports": [{ "port": 80, "name": "x" }, { "port": 443, "name": "y" }],
                } }),
                ports(json!([{ "port": 443, "name": "y" }, { "port": 80, "name": "x" }])),
            ),
        ] {
            let mut patched = before.clone();
            strategic_merge_patch(&mut patched, &patch, &service()).unwrap();
            assert_eq!(patched, after, "{what}");
        }
    }

    #[test]
    fn item_without_key_is_rejected() {
        let mut target = json!({ "spec": { "ports": [] } });
        let patch = json!({ "spec": { "ports": [{ "name": "x" }] } });
        assert_eq!(strategic_merge_patch(&mut target, &patch, &service()).unwrap_err().code, 400);
    }
}
