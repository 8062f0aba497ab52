//! A version of a custom resource, and the verdict of an API server on a new object of it.

use serde_json::{Map, Value};

use crate::metadata::{self, NameRule};
use crate::{Cause, Schema};

/// One version of a CustomResourceDefinition.
pub struct Definition {
    /// `group/version`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    has_status: bool,
    schema: Schema,
}

impl Definition {
    /// Returns the versions of a CustomResourceDefinition.
    ///
    /// # Errors
    /// The errors of the schema, by path below it.
    pub fn versions(crd: &Value) -> Result<Vec<Definition>, Vec<Cause>> {
        let spec = &crd["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
        let version = |version: &Value| {
            let name = text(&version["name"]);
            let schema = Schema::compile(&version["schema"]["openAPIV3Schema"], &group, &name, &kind)?;
            let has_status = version["subresources"]["status"].is_object();
            let api_version = format!("{group}/{name}");
            Ok(Definition { api_version, kind: kind.clone(), has_status, schema })
        };
        spec["versions"].as_array().into_iter().flatten().map(version).collect()
    }

    /// Returns the errors for which an API server rejects the creation of an object of this version with
    /// strict field validation, as `kubectl apply` requests it. The caller has compared `apiVersion` and
    /// `kind`.
    pub fn check_new(&self, mut object: Value) -> Vec<Cause> {
        if object["metadata"].is_null() {
            object["metadata"] = Value::Object(Map::new());
        }
        crate::normalize_numbers(&mut object);
        let mut unknown = match metadata::decode(&mut object) {
            Ok(unknown) => unknown,
            Err(error) => {
                let message = error.to_string();
                return vec![Cause { reason: "FieldValueTypeInvalid", field: "metadata".into(), message }];
            }
        };
        unknown.extend(self.schema.prune(&mut object));
        let mut causes: Vec<Cause> = unknown.into_iter().map(Cause::unknown_field).collect();
        if self.has_status
            && let Value::Object(fields) = &mut object
        {
            // A creation does not set the status, so the server drops it before it validates.
            fields.remove("status");
        }
        self.schema.default(&mut object);
        causes.extend(metadata::validate(&object["metadata"], NameRule::Subdomain));
        causes.extend(self.schema.validate(&object, None));
        causes
    }
}
