//! Getting and listing.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

use super::{Api, Target};
use crate::failure::Failure;
use crate::selectors::Selector;
use crate::store::{Key, Object};

/// Parameters of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListOptions {
    /// Empty and `0` mean the newest revision.
    pub resource_version: Option<u64>,
    /// `resourceVersionMatch=Exact`.
    pub exact: bool,
    pub limit: Option<usize>,
    /// `continue`.
    pub token: Option<String>,
}

/// A list or a page of one.
#[derive(Debug)]
pub(crate) struct Listing {
    pub objects: Vec<Arc<Object>>,
    pub revision: u64,
    pub token: Option<String>,
    /// Omitted where a selector makes counting expensive.
    pub remaining: Option<usize>,
}

impl Api {
    /// GET of one object.
    ///
    /// # Errors
    /// 404.
    pub(crate) fn get(&self, target: &Target) -> Result<Arc<Object>, Failure> {
        self.store.get(target.resource.table, &target.key()).cloned().ok_or_else(|| target.not_found())
    }

    /// GET of a collection.
    ///
    /// # Errors
    /// 410 for a token or revision whose history was discarded, 504 for a revision of the future.
    pub(crate) fn list(
        &self,
        target: &Target,
        selector: &Selector,
        options: &ListOptions,
    ) -> Result<Listing, Failure> {
        let now = self.store.revision();
        if let Some(asked) = options.resource_version.filter(|asked| *asked > now) {
            return Err(Failure::too_large_version(asked, now));
        }
        let (revision, after) = match &options.token {
            Some(token) => {
                let (revision, key) = read_token(token)
                    .ok_or_else(|| Failure::bad_request("continue key is not valid: it does not decode"))?;
                (revision, Some(key))
            }
            None if options.exact => (options.resource_version.unwrap_or(now), None),
            None => (now, None),
        };
        let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
        let table = target.resource.table;

        // A selected name is looked up directly.
        if let (Some(name), Some(namespace), None) = (selector.only_name(), self.namespace_of(target), &after)
            && revision == now
        {
            let found = self.store.get(table, &Key::new(namespace, name));
            let objects =
                found.filter(|object| selector.matches(object.value())).cloned().into_iter().collect();
            return Ok(Listing { objects, revision, token: None, remaining: None });
        }

        let passes = |object: &Object| selector.is_empty() || selector.matches(object.value());
        let page = self
            .store
            .list(table, namespace, Some(revision), after.as_ref(), options.limit, passes)
            .map_err(|_| {
                Failure::expired(if after.is_some() {
                    "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter."
                } else {
                    "The resourceVersion for the provided list is too old."
                })
            })?;
        let remaining = (page.next.is_some() && selector.is_empty()).then_some(page.remaining);
        let token = page.next.map(|key| write_token(revision, &key));
        Ok(Listing { objects: page.objects, revision, token, remaining })
    }

    /// Returns the namespace of a path; empty for cluster-scoped kinds, None for all namespaces.
    fn namespace_of<'a>(&self, target: &'a Target) -> Option<&'a str> {
        match (target.resource.namespaced, target.namespace.as_str()) {
            (false, _) => Some(""),
            (true, "") => None,
            (true, namespace) => Some(namespace),
        }
    }
}

fn write_token(revision: u64, key: &Key) -> String {
    let token =
        json!({ "v": "meta.k8s.io/v1", "rv": revision, "namespace": key.namespace, "name": key.name });
    BASE64.encode(token.to_string())
}

fn read_token(token: &str) -> Option<(u64, Key)> {
    let token: Value = serde_json::from_slice(&BASE64.decode(token).ok()?).ok()?;
    let key = Key::new(token["namespace"].as_str()?, token["name"].as_str()?);
    Some((token["rv"].as_u64()?, key))
}
