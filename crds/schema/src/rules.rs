//! `x-kubernetes-validations`: CEL rules, by kube-cel.

use kube_cel::{CompiledSchema, RootContext, Validator, compile_schema};
use serde_json::Value;

use crate::Cause;

thread_local! {
    // Functions of the Kubernetes CEL libraries; creating them takes longer than a validation.
    static VALIDATOR: Validator = Validator::new();
}

/// The compiled rules of a schema.
pub(crate) struct Rules {
    compiled: CompiledSchema,
    context: RootContext,
    any: bool,
}

impl Rules {
    pub(crate) fn compile(schema: &Value, group: &str, version: &str, kind: &str) -> Rules {
        let mut any = false;
        walk(schema, "", &mut |_, _, _| any = true);
        let context = RootContext {
            api_version: format!("{group}/{version}"),
            api_group: group.to_owned(),
            kind: kind.to_owned(),
        };
        Rules { compiled: compile_schema(schema), context, any }
    }

    /// Returns the rules that an object violates.
    pub(crate) fn check(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        if !self.any {
            return Vec::new();
        }
        let checked = VALIDATOR.with(|validator| {
            validator.validate_compiled_with_context(&self.compiled, object, old, Some(&self.context))
        });
        let Err(errors) = checked else { return Vec::new() };
        errors
            .iter()
            .map(|error| {
                let reason = match error.reason.as_deref() {
                    Some("FieldValueForbidden") => "FieldValueForbidden",
                    Some("FieldValueRequired") => "FieldValueRequired",
                    Some("FieldValueDuplicate") => "FieldValueDuplicate",
                    _ => "FieldValueInvalid",
                };
                let path = if error.field_path.is_empty() { "<nil>" } else { &error.field_path };
                let value = at(object, &error.field_path);
                let cause = Cause::invalid(path, &brief(value), &error.message);
                let message = match reason {
                    "FieldValueForbidden" => format!("Forbidden: {}", error.message),
                    "FieldValueRequired" => format!("Required value: {}", error.message),
                    "FieldValueDuplicate" => format!("Duplicate value: {}", error.message),
                    _ => cause.message.clone(),
                };
                Cause { reason, message, ..cause }
            })
            .collect()
    }
}

/// Returns the rules that are not valid CEL.
pub(crate) fn problems(schema: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    walk(schema, "", &mut |path, rule, schema| {
        for problem in compile_schema(&own(schema, rule)).compilation_errors() {
            let field = format!("{path}x-kubernetes-validations[0].rule");
            causes.push(Cause::invalid(field, &rule["rule"], &format!("compilation failed: {problem}")));
        }
    });
    causes
}

/// Calls `visit` for every rule with the path of its schema (with a dot at the end), the rule and the schema.
fn walk(schema: &Value, path: &str, found: &mut impl FnMut(&str, &Value, &Value)) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found(path, rule, schema);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, &format!("{path}properties[{name}]."), found);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}{inner}."), found);
        }
    }
}

/// A schema with one rule and no properties.
fn own(schema: &Value, rule: &Value) -> Value {
    serde_json::json!({ "type": schema["type"], "x-kubernetes-validations": [rule] })
}

fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    let mut value = object;
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        value = match step.strip_suffix(']') {
            Some(index) => match index.parse::<usize>() {
                Ok(index) => &value[index],
                Err(_) => &value[index],
            },
            None => &value[step],
        };
    }
    value
}

/// kube-apiserver prints objects and lists by their type only.
fn brief(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::String("object".into()),
        Value::Array(_) => Value::String("array".into()),
        other => other.clone(),
    }
}
