//! Response formats of objects: objects, tables, metadata.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use super::table;
use crate::api::Listing;
use crate::kinds::Resource;
use crate::store::Object;

/// A form of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Whole objects.
    Plain,
    /// Rows for printing, with whole objects, metadata or nothing beside them.
    Table(Beside),
    /// Their metadata only.
    Metadata,
}

/// `includeObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    Metadata,
    Object,
}

impl Format {
    /// Returns the first supported format of the accepted ones.
    pub(crate) fn of(headers: &HeaderMap, include_object: Option<&str>) -> Option<Format> {
        let Some(accept) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
            return Some(Format::Plain);
        };
        let beside = match include_object {
            Some("None") => Beside::Nothing,
            Some("Object") => Beside::Object,
            _ => Beside::Metadata,
        };
        accept.split(',').find_map(|alternative| {
            let mut parts = alternative.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "application/json" | "*/*" | "application/*" | "application/yaml" | "") {
                return None;
            }
            let mut parameters = parts.filter_map(|part| part.split_once('='));
            match parameters.find(|(name, _)| *name == "as").map(|(_, value)| value) {
                None => Some(Format::Plain),
                Some("Table") => Some(Format::Table(beside)),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Format::Metadata),
                Some(_) => None,
            }
        })
    }

    /// Formats one object. With `headed`, a table contains its column definitions.
    pub(crate) fn one(self, resource: &Resource, object: &Object, headed: bool) -> Bytes {
        let converted = resource.converted(object.value());
        match self {
            Format::Plain => match converted {
                Some(value) => value.to_string().into(),
                None => object.json(),
            },
            Format::Metadata => {
                metadata_only(converted.as_ref().unwrap_or(object.value())).to_string().into()
            }
            Format::Table(beside) => {
                let value = converted.as_ref().unwrap_or(object.value());
                let revision = &object.value()["metadata"]["resourceVersion"];
                let metadata = json!({ "resourceVersion": revision });
                let rows = std::iter::once(value);
                table::table(resource, rows, metadata, beside, headed).to_string().into()
            }
        }
    }

    /// Formats a list.
    pub(crate) fn list(self, resource: &Resource, listing: &Listing) -> Bytes {
        let mut metadata = json!({ "resourceVersion": listing.revision.to_string() });
        if let Some(token) = &listing.token {
            metadata["continue"] = json!(token);
        }
        if let Some(remaining) = listing.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        match self {
            Format::Plain => plain_list(
                &resource.list_kind,
                &resource.api_version(),
                &metadata,
                &listing.objects,
                |object| self.one(resource, object, true),
            ),
            Format::Metadata => {
                let kind = "PartialObjectMetadataList";
                plain_list(kind, "meta.k8s.io/v1", &metadata, &listing.objects, |object| {
                    self.one(resource, object, true)
                })
            }
            Format::Table(beside) => {
                let values: Vec<Value> = listing
                    .objects
                    .iter()
                    .map(|object| {
                        resource.converted(object.value()).unwrap_or_else(|| object.value().clone())
                    })
                    .collect();
                table::table(resource, values.iter(), metadata, beside, true).to_string().into()
            }
        }
    }
}

fn plain_list(
    kind: &str,
    api_version: &str,
    metadata: &Value,
    objects: &[Arc<Object>],
    encode: impl Fn(&Object) -> Bytes,
) -> Bytes {
    let head = format!(
        r#"{{"kind":{},"apiVersion":{},"metadata":{metadata},"items":["#,
        json!(kind),
        json!(api_version)
    );
    let mut body = head.into_bytes();
    for (at, object) in objects.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&encode(object));
    }
    body.extend_from_slice(b"]}");
    body.into()
}

/// `PartialObjectMetadata`.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}
