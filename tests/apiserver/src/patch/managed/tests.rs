use super::*;
use crate::patch::{KeyField, ListShape};

fn shape() -> Shape {
    let mut shape = Shape::default().with_metadata();
    shape.at("spec.ports").list = ListShape::Map(vec![
        KeyField { name: "port".into(), default: None },
        KeyField { name: "protocol".into(), default: Some(json!("TCP")) },
    ]);
    shape
}

fn author(manager: &str) -> Author {
    Author {
        manager: manager.into(),
        api_version: "v1".into(),
        subresource: String::new(),
        time: "2026-01-01T00:00:00Z".into(),
    }
}

/// Applies, and stores the entries in the object, as the server does.
fn apply(live: &Value, config: Value, manager: &str, force: bool) -> Result<Value, Failure> {
    let (mut object, entries) = after_apply(live, &config, &shape(), &author(manager), force)?;
    object["metadata"]["managedFields"] = entries;
    Ok(object)
}

fn update(live: &Value, new: Value, manager: &str) -> Value {
    let entries = after_update(Some(live), &new, &shape(), &author(manager));
    let mut new = new;
    new["metadata"]["managedFields"] = entries;
    new
}

#[test]
fn omitted_fields_are_removed() {
    let one = apply(&json!({}), json!({ "spec": { "a": 1, "b": 2, "c": { "d": 3 } } }), "x", false).unwrap();
    let two = apply(&one, json!({ "spec": { "a": 1 } }), "x", false).unwrap();
    assert_eq!(two["spec"], json!({ "a": 1 }));
}

#[test]
fn omitted_shared_fields_remain() {
    let one = apply(&json!({}), json!({ "spec": { "a": 1, "b": 2 } }), "x", false).unwrap();
    let two = apply(&one, json!({ "spec": { "b": 2 } }), "y", false).unwrap();
    let three = apply(&two, json!({ "spec": { "a": 1 } }), "x", false).unwrap();
    assert_eq!(three["spec"], json!({ "a": 1, "b": 2 }));
    let four = apply(&three, json!({ "spec": {} }), "y", false).unwrap();
    assert_eq!(four["spec"]["b"], Value::Null);
}

#[test]
fn changed_foreign_field_is_a_conflict() {
    let one = apply(&json!({}), json!({ "spec": { "a": 1 } }), "x", false).unwrap();
    let refused = apply(&one, json!({ "spec": { "a": 2 } }), "y", false).unwrap_err();
    assert_eq!((refused.code, refused.reason), (409, "Conflict"));
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"x\": .spec.a");
    let forced = apply(&one, json!({ "spec": { "a": 2 } }), "y", true).unwrap();
    assert_eq!(forced["spec"]["a"], 2);
    // Only y owns the field, so it remains when x omits it.
    let later = apply(&forced, json!({ "spec": { "b": 1 } }), "x", false).unwrap();
    assert_eq!(later["spec"], json!({ "a": 2, "b": 1 }));
}

#[test]
fn equal_value_is_shared_without_conflict() {
    let one = apply(&json!({}), json!({ "spec": { "a": 1 } }), "x", false).unwrap();
    let two = apply(&one, json!({ "spec": { "a": 1 } }), "y", false).unwrap();
    assert_eq!(two["metadata"]["managedFields"].as_array().unwrap().len(), 2);
}

#[test]
fn keyed_list_items_belong_to_applier() {
    let ports = |ports: Value| json!({ "spec": { "ports": ports } });
    let one = apply(&json!({}), ports(json!([{ "port": 80, "name": "a" }])), "x", false).unwrap();
    let two = apply(&one, ports(json!([{ "port": 80, "protocol": "UDP" }])), "y", false).unwrap();
    assert_eq!(two["spec"]["ports"].as_array().unwrap().len(), 2);
    let three = apply(&two, ports(json!([{ "port": 443 }])), "x", false).unwrap();
    assert_eq!(three["spec"]["ports"], json!([{ "port": 80, "protocol": "UDP" }, { "port": 443 }]));
}

#[test]
fn update_takes_ownership_from_apply() {
    let one = apply(&json!({}), json!({ "spec": { "a": 1, "b": 1 } }), "x", false).unwrap();
    let mut changed = one.clone();
    changed["spec"]["a"] = json!(2);
    let two = update(&one, changed, "kubectl-edit");
    let refused = apply(&two, json!({ "spec": { "a": 1, "b": 1 } }), "x", false).unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1: .spec.a"
    );
}

#[test]
fn removed_fields_have_no_manager() {
    let one = apply(&json!({}), json!({ "spec": { "a": 1, "b": { "c": 1 } } }), "x", false).unwrap();
    let mut changed = one.clone();
    changed["spec"].as_object_mut().unwrap().remove("b");
    let two = update(&one, changed, "y");
    let entries = two["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["fieldsV1"], json!({ "f:spec": { "f:a": {} } }));
}
