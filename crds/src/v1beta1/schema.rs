//! Schemas that several kinds have in common.
//!
//! The length of everything that a validation rule reads is limited here or at the field: the API server
//! estimates the worst-case cost of each rule from `maxItems` and `maxLength` and rejects a definition that
//! could cost too much.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Returns the schema of a list of `metav1.LabelSelector`.
pub fn selectors(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "atomic",
        "items": selector(generator),
    })
}

/// Returns the schema of a `metav1.LabelSelector`. In contrast to the schema in Kubernetes, it validates the
/// operators and their values.
pub fn selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "A label selector. All requirements in matchLabels and matchExpressions must be \
            met. An empty selector matches all objects.",
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Labels that an object must have, with their values.",
                "type": "object",
                "maxProperties": 32,
                "additionalProperties": { "type": "string", "maxLength": 63 },
            },
            "matchExpressions": {
                "description": "Requirements on labels. All requirements must be met.",
                "type": "array",
                "maxItems": 16,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "description": "A requirement on a label.",
                    "type": "object",
                    "required": ["key", "operator"],
                    "x-kubernetes-validations": [{
                        "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) \
                            > 0 : !has(self.values) || size(self.values) == 0",
                        "message": "operators In and NotIn require values; Exists and DoesNotExist must \
                            not have values",
                    }],
                    "properties": {
                        "key": {
                            "description": "The key of the label.",
                            "type": "string",
                            "minLength": 1,
                            "maxLength": 317,
                        },
                        "operator": {
                            "description": "The relation between the label and the values: In, NotIn, \
                                Exists or DoesNotExist.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "The values for In and NotIn. Must be empty for Exists and \
                                DoesNotExist.",
                            "type": "array",
                            "maxItems": 64,
                            "x-kubernetes-list-type": "atomic",
                            "items": { "type": "string", "maxLength": 63 },
                        },
                    },
                },
            },
        },
    })
}

/// Returns the schema of a set of object names.
pub fn names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 256,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "minLength": 1, "maxLength": 253 },
    })
}

/// Returns the schema of an object with any fields.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
