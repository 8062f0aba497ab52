//! Errors in fields, in the words of kube-apiserver (`field.Error` of apimachinery).

use serde_json::Value;

/// An error in one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// Path such as `spec.ports[0].port`.
    pub field: String,
    /// The error, without the path.
    pub message: String,
}

impl Cause {
    /// Returns true if kube-apiserver evaluates no CEL rule of an object with this error, because the rules
    /// could read a value of the wrong type or size (`hasBlockingErr` of apiextensions-apiserver).
    pub(crate) fn blocks_rules(&self) -> bool {
        matches!(
            self.reason,
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    }

    /// A field that the schema does not contain; strict field validation rejects it.
    pub fn unknown_field(path: impl Into<String>) -> Cause {
        Cause { reason: "UnknownField", field: path.into(), message: "unknown field".to_owned() }
    }

    /// `Invalid value`.
    pub fn invalid(field: impl Into<String>, value: &Value, message: &str) -> Cause {
        let shown = match value {
            Value::Object(_) | Value::Array(_) => value.to_string(),
            other => other.to_string(),
        };
        Cause {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {shown}: {message}"),
        }
    }

    /// `Required value`.
    pub fn required(field: impl Into<String>, message: &str) -> Cause {
        let message =
            if message.is_empty() { "Required value".into() } else { format!("Required value: {message}") };
        Cause { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// `Forbidden`.
    pub fn forbidden(field: impl Into<String>, message: &str) -> Cause {
        Cause { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {message}") }
    }

    /// `Duplicate value`.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        Cause {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {value}"),
        }
    }

    /// `Unsupported value`.
    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[&str]) -> Cause {
        let allowed: Vec<String> = allowed.iter().map(|value| format!("{value:?}")).collect();
        Cause {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {value}: supported values: {}", allowed.join(", ")),
        }
    }
}
