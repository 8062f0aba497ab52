//! Validates OpenAPI v3 schemas with a JSON-schema library, and reports errors in the words of
//! kube-apiserver.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Draft, ValidationError, Validator};
use serde_json::{Map, Value, json};

use crate::Cause;

/// Compiles a schema; OpenAPI v3 has the boolean `exclusiveMinimum` of draft 4.
///
/// # Errors
/// The library's message, for instance for an invalid pattern.
pub(crate) fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_draft(Draft::Draft4)
        .should_validate_formats(true)
        .with_format("date-time", is_date_time)
        .build(&translate(schema))
        .map_err(|error| error.to_string())
}

/// Returns the errors of an object.
pub(crate) fn check(validator: &Validator, object: &Value) -> Vec<Cause> {
    validator.iter_errors(object).map(|error| cause(&error)).collect()
}

/// Converts to plain JSON schema: `nullable` and int-or-string are expanded, the rest is dropped or
/// unchanged.
fn translate(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut plain = Map::new();
    for (name, value) in fields {
        let value = match name.as_str() {
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                Value::Object(fields.map(|(name, schema)| (name.clone(), translate(schema))).collect())
            }
            "items" | "additionalProperties" | "not" => translate(value),
            "allOf" | "anyOf" | "oneOf" => value.as_array().into_iter().flatten().map(translate).collect(),
            "description" | "default" | "example" | "nullable" | "title" | "externalDocs" => continue,
            // Of the formats that kube-apiserver knows, the only one that Fairlead's kinds use.
            "format" if value != "date-time" => continue,
            _ if name.starts_with("x-kubernetes-") => continue,
            _ => value.clone(),
        };
        plain.insert(name.clone(), value);
    }
    if schema["x-kubernetes-int-or-string"] == true {
        plain.insert("type".into(), json!(["integer", "string"]));
    }
    if let Some((low, high)) = integer_bounds(schema) {
        plain.entry("minimum").or_insert(low);
        plain.entry("maximum").or_insert(high);
    }
    if schema["nullable"] == true {
        return json!({ "anyOf": [{ "type": "null" }, Value::Object(plain)] });
    }
    Value::Object(plain)
}

/// `strfmt.IsDateTime`: RFC 3339 with any fraction; the days of a month are not limited by the zone.
fn is_date_time(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let Some((date, time)) = lower.split_once('t') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let below = |text: &str, limit: u8| {
        text.len() == 2 && digits(text) && text.parse::<u8>().is_ok_and(|number| number < limit)
    };
    let (Some((clock, zone)), true) = (
        time.find(['z', '+', '-']).map(|at| time.split_at(at)),
        date.parse::<jiff::civil::Date>().is_ok() && date.len() == 10,
    ) else {
        return false;
    };
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, rest)| (clock, Some(rest)));
    let parts: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = parts[..] else { return false };
    let zone = match zone {
        "z" => true,
        _ => zone[1..].split_once(':').is_some_and(|(hour, minute)| below(hour, 100) && below(minute, 100)),
    };
    zone && fraction.is_none_or(digits) && below(hour, 24) && below(minute, 60) && below(second, 60)
}

/// The only format that limits values.
fn integer_bounds(schema: &Value) -> Option<(Value, Value)> {
    (schema["type"] == "integer" && schema["format"] == "int32").then(|| (json!(i32::MIN), json!(i32::MAX)))
}

fn cause(error: &ValidationError<'_>) -> Cause {
    // A null or a value: the error inside is the useful one.
    if let ValidationErrorKind::AnyOf { context } = error.kind()
        && let [null, inner] = &context[..]
        && let ([_], Some(inner)) = (&null[..], inner.first())
        && matches!(null[0].kind(), ValidationErrorKind::Type { .. })
    {
        return cause(inner);
    }
    let path = dotted(error.instance_path().as_str());
    let value = error.instance();
    let shown = match value.as_ref() {
        Value::Object(_) => json!("object"),
        Value::Array(_) => json!("array"),
        other => other.clone(),
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            Cause::required(field, "")
        }
        ValidationErrorKind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(wanted) => wanted.to_string(),
                TypeKind::Multiple(many) => {
                    many.iter().map(|wanted| wanted.to_string()).collect::<Vec<_>>().join(",")
                }
            };
            let sort = json!(sort(value));
            let message = format!("{path} in body must be of type {wanted}: {sort}");
            Cause { reason: "FieldValueTypeInvalid", ..Cause::invalid(path, &sort, &message) }
        }
        ValidationErrorKind::Enum { options } => {
            let options: Vec<&str> =
                options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            Cause::unsupported(path, value, &options)
        }
        ValidationErrorKind::Pattern { pattern } => {
            let message = format!("{path} in body should match '{pattern}'");
            Cause::invalid(path, value, &message)
        }
        ValidationErrorKind::MaxItems { limit } => {
            let message = format!("Too many: must have at most {limit} items");
            Cause { reason: "FieldValueTooMany", field: path, message }
        }
        ValidationErrorKind::MaxLength { limit } => {
            let message = format!("Too long: may not be more than {limit} bytes");
            Cause { reason: "FieldValueTooLong", field: path, message }
        }
        ValidationErrorKind::Format { format } => {
            let message = format!("{path} in body must be of type {format}: {value}");
            Cause::invalid(path, value, &message)
        }
        ValidationErrorKind::MinItems { limit } => {
            let message = format!("{path} in body should have at least {limit} items");
            Cause::invalid(path, &shown, &message)
        }
        ValidationErrorKind::MinLength { limit } => {
            let message = format!("{path} in body should be at least {limit} chars long");
            Cause::invalid(path, value, &message)
        }
        ValidationErrorKind::Minimum { limit } => {
            let message = format!("{path} in body should be greater than or equal to {limit}");
            Cause::invalid(path, value, &message)
        }
        ValidationErrorKind::Maximum { limit } => {
            let message = format!("{path} in body should be less than or equal to {limit}");
            Cause::invalid(path, value, &message)
        }
        _ => {
            let message = error.to_string();
            Cause::invalid(path, &shown, &message)
        }
    }
}

fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Formats `/spec/ports/0/port` as `spec.ports[0].port`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        if !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{step}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&step);
        }
    }
    path
}
