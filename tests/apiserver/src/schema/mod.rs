//! Custom resources: the effect of their schema on an object. Pure.
//!
//! In the order of kube-apiserver: drop unknown fields, set defaults, validate the schema, evaluate the CEL
//! rules.

mod rules;
mod structural;
mod validation;

use serde_json::Value;

use crate::failure::Cause;
use crate::patch::Shape;

pub(crate) use rules::warnings;
pub(crate) use structural::Unknown;

/// One compiled version of a custom resource.
pub(crate) struct Schema {
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
    pub(crate) fn compile(
        source: &Value,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<Schema, Vec<Cause>> {
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
    pub(crate) fn prune(&self, object: &mut Value) -> Vec<Unknown> {
        structural::prune(object, &self.source)
    }

    /// Sets defaults.
    pub(crate) fn default(&self, object: &mut Value) {
        structural::default(object, &self.source);
    }

    /// Validates an object; `old` is its previous state, for transition rules.
    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let causes = validation::check(&self.validator, object);
        if causes.is_empty() { self.rules.check(object, old) } else { causes }
    }

    /// Returns the merge behavior of its objects.
    pub(crate) fn shape(&self) -> Shape {
        Shape::from_schema(&self.source).with_metadata()
    }

    /// `openAPIV3Schema`.
    pub(crate) fn source(&self) -> &Value {
        &self.source
    }
}

#[cfg(test)]
mod tests;
