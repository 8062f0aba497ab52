//! Merge behavior of a kind: which lists are sets or maps, which objects are atomic.
//!
//! Everything not named here has the default of the API conventions: objects merge field by field, lists are
//! atomic.

use std::collections::BTreeMap;

use serde_json::Value;

/// Merge behavior of a value and its descendants.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    fields: BTreeMap<String, Shape>,
    /// Shape of the values of an object without named fields (`additionalProperties`), or of the items of a
    /// list.
    inner: Option<Box<Shape>>,
    /// For server-side apply (`x-kubernetes-list-type`).
    pub list: ListShape,
    /// For strategic merge patch (`patchStrategy`, `patchMergeKey`).
    pub strategic: Strategic,
    /// True if the object is atomic (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
}

/// A list in server-side apply.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum ListShape {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// A set of scalars.
    Set,
    /// Objects that are identified by these fields.
    Map(Vec<KeyField>),
}

/// A field that identifies items.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyField {
    pub name: String,
    /// Its value if an item omits it.
    pub default: Option<Value>,
}

/// A list in strategic merge patch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Strategic {
    /// Replaced by the patch's list.
    #[default]
    Replace,
    /// Extended by the patch's scalars.
    Add,
    /// Merged by this field.
    By(String),
}

static ANY: Shape = Shape {
    fields: BTreeMap::new(),
    inner: None,
    list: ListShape::Atomic,
    strategic: Strategic::Replace,
    atomic: false,
};

impl Default for Shape {
    fn default() -> Self {
        ANY.clone()
    }
}

impl Shape {
    /// Returns the shape of a field or map value.
    pub(crate) fn field(&self, name: &str) -> &Shape {
        self.fields.get(name).or(self.inner.as_deref()).unwrap_or(&ANY)
    }

    /// Returns the shape of a list's items.
    pub(crate) fn item(&self) -> &Shape {
        self.inner.as_deref().unwrap_or(&ANY)
    }

    /// Returns the shape at a path such as `spec.template.spec.containers[].ports`, and creates it if
    /// missing.
    pub(crate) fn at(&mut self, path: &str) -> &mut Shape {
        let mut shape = self;
        for step in path.split('.') {
            let (name, items) = match step.strip_suffix("[]") {
                Some(name) => (name, true),
                None => (step, false),
            };
            shape = shape.fields.entry(name.to_owned()).or_default();
            if items {
                shape = shape.inner.get_or_insert_default();
            }
        }
        shape
    }

    /// `metadata` of every kind.
    pub(crate) fn with_metadata(mut self) -> Shape {
        let owners = self.at("metadata.ownerReferences");
        owners.list = ListShape::keyed(&["uid"]);
        owners.strategic = Strategic::By("uid".into());
        let finalizers = self.at("metadata.finalizers");
        finalizers.list = ListShape::Set;
        finalizers.strategic = Strategic::Add;
        self
    }

    /// Converts a structural schema of a CustomResourceDefinition.
    pub(crate) fn from_schema(schema: &Value) -> Shape {
        let mut shape = Shape::default();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            shape.fields.insert(name.clone(), Shape::from_schema(field));
        }
        let inner = [&schema["items"], &schema["additionalProperties"]];
        if let Some(inner) = inner.into_iter().find(|inner| inner.is_object()) {
            shape.inner = Some(Box::new(Shape::from_schema(inner)));
        }
        shape.atomic = schema["x-kubernetes-map-type"] == "atomic";
        shape.list = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => ListShape::Set,
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array();
                let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                ListShape::Map(
                    keys.map(|name| KeyField {
                        name: name.to_owned(),
                        default: schema["items"]["properties"][name].get("default").cloned(),
                    })
                    .collect(),
                )
            }
            _ => ListShape::Atomic,
        };
        shape
    }
}

impl ListShape {
    /// A map by these fields without defaults.
    pub(crate) fn keyed(names: &[&str]) -> ListShape {
        ListShape::Map(
            names.iter().map(|name| KeyField { name: (*name).to_owned(), default: None }).collect(),
        )
    }
}
