//! Comparing and trimming states of an object.

use serde_json::{Map, Value};

/// Returns the fields of a new object that its author wrote; no manager owns fields that the server set.
pub(super) fn ours(wanted: &Value, stored: &Value) -> Value {
    match (wanted, stored) {
        (Value::Object(wanted), Value::Object(stored)) => Value::Object(
            wanted
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), ours(value, stored.get(name)?))))
                .collect(),
        ),
        _ => stored.clone(),
    }
}

/// Returns everything except metadata and status.
pub(super) fn spec_changed(old: &Value, new: &Value) -> bool {
    let fields = |value: &'_ Value| -> Vec<(String, Value)> {
        let fields = value.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    fields(old) != fields(new)
}

/// Ignores an update that changes only the times in managedFields.
pub(super) fn same_but_for_times(old: &Value, new: &Value) -> bool {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return old == new };
    let others = |fields: &'_ Map<String, Value>| fields.len();
    if others(old) != others(new) {
        return false;
    }
    old.iter().all(|(name, before)| match new.get(name) {
        Some(after) if name == "metadata" => same_metadata(before, after),
        after => after == Some(before),
    })
}

fn same_metadata(old: &Value, new: &Value) -> bool {
    let plain = |metadata: &Value| {
        let mut metadata = metadata.clone();
        for entry in metadata["managedFields"].as_array_mut().into_iter().flatten() {
            entry["time"] = Value::Null;
        }
        if metadata["managedFields"].is_null()
            && let Value::Object(fields) = &mut metadata
        {
            fields.remove("managedFields");
        }
        metadata
    };
    plain(old) == plain(new)
}

/// Nulls in an applied configuration have no effect.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Drops the fields that decoding dropped.
pub(super) fn retain_known(value: &mut Value, known: &Value) {
    match (value, known) {
        (Value::Object(fields), Value::Object(known)) => {
            fields.retain(|name, _| known.contains_key(name));
            for (name, value) in fields {
                retain_known(value, &known[name.as_str()]);
            }
        }
        (Value::Array(items), Value::Array(known)) => {
            items.iter_mut().zip(known).for_each(|(item, known)| retain_known(item, known));
        }
        _ => {}
    }
}
