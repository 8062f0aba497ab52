use super::*;
use serde_json::json;

fn schema() -> Schema {
    let source = json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["addresses"],
                "x-kubernetes-validations": [
                    { "rule": "!has(oldSelf.zone) || self.zone == oldSelf.zone", "message": "zone is immutable" },
                ],
                "properties": {
                    "addresses": {
                        "type": "array", "maxItems": 4, "minItems": 1,
                        "items": { "type": "string", "maxLength": 32, "pattern": "^[0-9a-f.:/-]+$" },
                    },
                    "zone": { "type": "string", "maxLength": 8, "nullable": true },
                    "auto": { "type": "boolean", "default": true },
                    "mode": { "type": "string", "enum": ["A", "B"] },
                    "count": { "type": "integer", "format": "int32", "minimum": 1 },
                    "port": { "x-kubernetes-int-or-string": true },
                    "inner": { "type": "object", "default": {}, "properties": {
                        "deep": { "type": "integer", "default": 7 },
                    } },
                    "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                },
            },
            "status": { "type": "object", "properties": {} },
        },
    });
    Schema::compile(&source, "example.dev", "v1", "Thing").map_err(|causes| format!("{causes:?}")).unwrap()
}

fn wrong(spec: Value) -> Vec<String> {
    let object = json!({ "apiVersion": "example.dev/v1", "kind": "Thing", "metadata": {}, "spec": spec });
    schema()
        .validate(&object, None)
        .into_iter()
        .map(|cause| format!("{} {}", cause.field, cause.message))
        .collect()
}

#[test]
fn nested_defaults_are_set() {
    let mut object = json!({ "spec": { "addresses": ["10.0.0.1"], "zone": null } });
    schema().default(&mut object);
    assert_eq!(
        object["spec"],
        json!({ "addresses": ["10.0.0.1"], "zone": null, "auto": true, "inner": { "deep": 7 } })
    );
}

#[test]
fn unknown_fields_are_dropped_and_reported() {
    let mut object = json!({
        "apiVersion": "x", "kind": "y", "metadata": { "name": "z" }, "oops": 1,
        "spec": { "addresses": ["a"], "adresses": [], "free": { "any": 1 } },
    });
    assert_eq!(schema().prune(&mut object), ["oops", "spec.adresses"]);
    assert_eq!(object["spec"], json!({ "addresses": ["a"], "free": { "any": 1 } }));
}

#[test]
fn errors_match_kube_apiserver_messages() {
    let good = json!({ "addresses": ["10.0.0.0/24"], "zone": null, "mode": "A", "count": 1, "port": "http" });
    assert_eq!(wrong(good), Vec::<String>::new());
    for (spec, message) in [
        (json!({}), "spec.addresses Required value"),
        (
            json!({ "addresses": [] }),
            "spec.addresses Invalid value: \"array\": spec.addresses in body should have at least 1 items",
        ),
        (
            json!({ "addresses": ["a b"] }),
            "spec.addresses[0] Invalid value: \"a b\": spec.addresses[0] in body should match '^[0-9a-f.:/-]+$'",
        ),
        (
            json!({ "addresses": ["a"], "auto": "yes" }),
            "spec.auto Invalid value: \"string\": spec.auto in body must be of type boolean: \"string\"",
        ),
        (
            json!({ "addresses": ["a"], "mode": "C" }),
            "spec.mode Unsupported value: \"C\": supported values: \"A\", \"B\"",
        ),
        (
            json!({ "addresses": ["a"], "count": 0 }),
            "spec.count Invalid value: 0: spec.count in body should be greater than or equal to 1",
        ),
        (
            json!({ "addresses": ["a"], "zone": "far too long" }),
            "spec.zone Too long: may not be more than 8 bytes",
        ),
        (
            json!({ "addresses": ["a", "b", "c", "d", "e"] }),
            "spec.addresses Too many: must have at most 4 items",
        ),
    ] {
        assert_eq!(wrong(spec), [message]);
    }
    assert_eq!(wrong(json!({ "addresses": ["a"], "port": true })).len(), 1);
    assert_eq!(wrong(json!({ "addresses": ["a"], "count": 3_000_000_000_i64 })).len(), 1);
}

#[test]
fn cel_transition_rules_use_old_object() {
    let thing = |zone: &str| json!({ "spec": { "addresses": ["a"], "zone": zone } });
    assert_eq!(schema().validate(&thing("x"), Some(&thing("x"))), vec![]);
    assert_eq!(schema().validate(&thing("x"), None), vec![]);
    let causes = schema().validate(&thing("y"), Some(&thing("x")));
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].field, "spec");
    assert!(causes[0].message.ends_with("zone is immutable"), "{}", causes[0].message);
}

#[test]
fn invalid_schema_or_cel_is_rejected() {
    for source in [
        json!({ "properties": {} }),
        json!({ "type": "object", "properties": { "a": {} } }),
        json!({ "type": "object", "properties": { "a": { "type": "array" } } }),
        json!({ "type": "object", "x-kubernetes-validations": [{ "rule": "self. == (" }] }),
        json!({ "type": "object", "properties": { "a": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": { "type": "object", "properties": { "k": { "type": "string" } } },
        } } }),
    ] {
        assert!(Schema::compile(&source, "g", "v", "K").is_err(), "{source}");
    }
}
