//! Sets of fields, as `managedFields` writes them (`fieldsV1`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::shape::{KeyField, ListShape, Shape};

/// A tree of path elements, in the notation of `fieldsV1`: `f:name`, `k:{…}`, `v:…`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FieldSet {
    /// True if the path that ends here is in the set.
    pub here: bool,
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Returns the set of this one path.
    pub(crate) fn leaf() -> FieldSet {
        FieldSet { here: true, children: BTreeMap::new() }
    }

    /// Returns all fields of a value.
    pub(crate) fn of(value: &Value, shape: &Shape) -> FieldSet {
        let mut set = FieldSet::default();
        match value {
            Value::Object(fields) if !shape.atomic && !fields.is_empty() => {
                for (name, value) in fields {
                    set.children.insert(field(name), FieldSet::of(value, shape.field(name)));
                }
            }
            Value::Array(items) if shape.list != ListShape::Atomic && !items.is_empty() => {
                for item in items {
                    let Some(key) = item_key(item, &shape.list) else { continue };
                    let mut fields =
                        if item.is_object() { FieldSet::of(item, shape.item()) } else { FieldSet::default() };
                    fields.here = true;
                    set.children.insert(key, fields);
                }
            }
            _ => set.here = true,
        }
        set
    }

    /// Parses `fieldsV1`.
    pub(crate) fn from_json(json: &Value) -> FieldSet {
        let Value::Object(entries) = json else { return FieldSet::default() };
        if entries.is_empty() {
            return FieldSet::leaf();
        }
        let mut set = FieldSet::default();
        for (name, value) in entries {
            if name == "." {
                set.here = true;
            } else {
                set.children.insert(name.clone(), FieldSet::from_json(value));
            }
        }
        set
    }

    /// Formats `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut entries = Map::new();
        if self.here && !self.children.is_empty() {
            entries.insert(".".into(), Value::Object(Map::new()));
        }
        for (name, child) in &self.children {
            entries.insert(name.clone(), child.to_json());
        }
        Value::Object(entries)
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.here && self.children.values().all(FieldSet::is_empty)
    }

    /// Adds all paths of another set.
    pub(crate) fn add(&mut self, other: &FieldSet) {
        self.here |= other.here;
        for (name, child) in &other.children {
            self.children.entry(name.clone()).or_default().add(child);
        }
    }

    /// Returns the paths of this set that are not in another.
    pub(crate) fn without(&self, other: &FieldSet) -> FieldSet {
        let mut set = FieldSet { here: self.here && !other.here, children: BTreeMap::new() };
        for (name, child) in &self.children {
            let child = match other.children.get(name) {
                Some(other) => child.without(other),
                None => child.clone(),
            };
            if !child.is_empty() {
                set.children.insert(name.clone(), child);
            }
        }
        set
    }

    /// Returns the paths of this set that are at or below a path of another, because a removal includes
    /// everything below.
    pub(crate) fn below(&self, other: &FieldSet) -> FieldSet {
        if other.here && other.children.is_empty() {
            return self.clone();
        }
        self.common(other, FieldSet::below)
    }

    /// Returns the paths that are in both sets.
    pub(crate) fn and(&self, other: &FieldSet) -> FieldSet {
        self.common(other, FieldSet::and)
    }

    fn common(&self, other: &FieldSet, inner: fn(&FieldSet, &FieldSet) -> FieldSet) -> FieldSet {
        let mut set = FieldSet { here: self.here && other.here, children: BTreeMap::new() };
        for (name, child) in &self.children {
            if let Some(other) = other.children.get(name) {
                let child = inner(child, other);
                if !child.is_empty() {
                    set.children.insert(name.clone(), child);
                }
            }
        }
        set
    }

    /// Drops paths that no manager owns: identity and fields that the server sets.
    pub(crate) fn strip_system(&mut self) {
        self.here = false;
        self.children.remove("f:apiVersion");
        self.children.remove("f:kind");
        if let Some(metadata) = self.children.get_mut("f:metadata") {
            metadata.here = false;
            for name in [
                "name",
                "generateName",
                "namespace",
                "selfLink",
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "managedFields",
            ] {
                metadata.children.remove(&field(name));
            }
        }
        self.children.retain(|_, child| !child.is_empty());
    }

    /// Formats every path as in messages: `.spec.ports[port=80,protocol="TCP"].name`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut String, paths: &mut Vec<String>) {
        if self.here {
            paths.push(prefix.clone());
        }
        for (name, child) in &self.children {
            let length = prefix.len();
            prefix.push_str(&shown(name));
            child.collect_paths(prefix, paths);
            prefix.truncate(length);
        }
    }
}

/// `f:name`.
pub(crate) fn field(name: &str) -> String {
    format!("f:{name}")
}

/// Formats an item of a set or map; None if a key field is missing.
pub(crate) fn item_key(item: &Value, list: &ListShape) -> Option<String> {
    match list {
        ListShape::Atomic => None,
        ListShape::Set => Some(format!("v:{item}")),
        ListShape::Map(keys) => {
            let mut key = BTreeMap::new();
            for KeyField { name, default } in keys {
                let value = item.get(name).filter(|value| !value.is_null()).or(default.as_ref())?;
                key.insert(name, value);
            }
            serde_json::to_string(&key).ok().map(|key| format!("k:{key}"))
        }
    }
}

fn shown(element: &str) -> String {
    if let Some(name) = element.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(value) = element.strip_prefix("v:") {
        return format!("[={value}]");
    }
    let Some(Ok(Value::Object(key))) = element.strip_prefix("k:").map(serde_json::from_str) else {
        return element.to_owned();
    };
    let terms: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("[{}]", terms.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service() -> Shape {
        let mut shape = Shape::default().with_metadata();
        shape.at("spec.ports").list = ListShape::Map(vec![
            KeyField { name: "port".into(), default: None },
            KeyField { name: "protocol".into(), default: Some(json!("TCP")) },
        ]);
        shape
    }

    #[test]
    fn service_fields_match_fieldsv1_notation() {
        let value = json!({
            "metadata": { "labels": { "a": "b" }, "finalizers": ["x/y"] },
            "spec": { "ports": [{ "port": 80, "name": "http" }], "clusterIPs": ["10.0.0.1"] },
        });
        let set = FieldSet::of(&value, &service());
        assert_eq!(
            set.to_json(),
            json!({
                "f:metadata": { "f:labels": { "f:a": {} }, "f:finalizers": { "v:\"x/y\"": {} } },
                "f:spec": {
                    "f:ports": {
                        "k:{\"port\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:port": {}, "f:name": {} },
                    },
                    "f:clusterIPs": {},
                },
            })
        );
        assert_eq!(FieldSet::from_json(&set.to_json()), set);
        assert!(set.paths().contains(&".spec.ports[port=80,protocol=\"TCP\"].name".to_owned()));
    }

    #[test]
    fn difference_and_intersection_compare_paths() {
        let shape = Shape::default();
        let a = FieldSet::of(&json!({ "spec": { "x": 1, "y": 2 } }), &shape);
        let b = FieldSet::of(&json!({ "spec": { "y": 3, "z": 4 } }), &shape);
        assert_eq!(a.without(&b).paths(), [".spec.x"]);
        assert_eq!(a.and(&b).paths(), [".spec.y"]);
        assert!(a.without(&a).is_empty());
    }
}
