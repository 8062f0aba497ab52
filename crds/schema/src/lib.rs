//! What an API server checks in a custom resource before it stores it: metadata, schema and CEL rules.
//!
//! `fairlead validate` and the API server for tests use the same code. [`Schema`] has the steps, in the order
//! of kube-apiserver: drop unknown fields, set defaults, validate the schema, evaluate the CEL rules.
//! [`Definition`] performs all of them on a new object. Pure.

mod cause;
mod definition;
pub mod metadata;
pub mod names;
mod rules;
mod structural;
mod validation;

use serde_json::Value;

pub use cause::Cause;
pub use definition::Definition;
pub use fairlead_crds::manifests::normalize_numbers;
pub use structural::Unknown;

/// One compiled version of a custom resource.
pub struct Schema {
    /// `openAPIV3Schema`.
    source: Value,
    validator: jsonschema::Validator,
    rules: rules::Rules,
}

impl Schema {
    /// Compiles `openAPIV3Schema`.
    ///
    /// # Errors
    /// The errors of the schema, by path below it.
    pub fn compile(source: &Value, group: &str, version: &str, kind: &str) -> Result<Schema, Vec<Cause>> {
        let mut causes = structural::problems(source);
        causes.extend(rules::problems(source));
        if !causes.is_empty() {
            return Err(causes);
        }
        let validator = validation::compile(source)
            .map_err(|message| vec![Cause { reason: "FieldValueInvalid", field: String::new(), message }])?;
        let rules = rules::Rules::compile(source, group, version, kind);
        Ok(Schema { source: source.clone(), validator, rules })
    }

    /// Drops unknown fields and returns their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<Unknown> {
        structural::prune(object, &self.source)
    }

    /// Sets defaults.
    pub fn default(&self, object: &mut Value) {
        structural::default(object, &self.source);
    }

    /// Validates an object; `old` is its previous state, for transition rules.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = validation::check(&self.validator, object);
        if !causes.iter().any(Cause::blocks_rules) {
            causes.extend(self.rules.check(object, old));
        }
        causes
    }

    /// `openAPIV3Schema`.
    pub fn source(&self) -> &Value {
        &self.source
    }
}

#[cfg(test)]
mod tests;
