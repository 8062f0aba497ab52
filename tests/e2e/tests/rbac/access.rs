//! RBAC rules, and the access that a request needs in their terms.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use fairlead_lab::api;
use serde_json::Value;

/// The access that a request needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Access {
    pub verbs: Vec<&'static str>,
    pub group: String,
    /// Resource with its subresource: `services/status`.
    pub resource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
}

/// One combination of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    /// The namespace of the rule, or all namespaces.
    namespace: Option<String>,
    group: String,
    resource: String,
    verb: String,
    names: BTreeSet<String>,
}

/// All rights of an account.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    grants: BTreeSet<Grant>,
}

impl Access {
    /// Derives the access from a method, a path with its query, and the content type; `None` for discovery
    /// and the like, which Kubernetes grants to every authenticated user.
    pub(crate) fn of(method: &str, target: &str, content_type: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parts = path.trim_matches('/').split('/');
        let group = match parts.next()? {
            "api" => String::new(),
            "apis" => parts.next()?.to_owned(),
            _ => return None,
        };
        parts.next()?;
        let mut rest: Vec<&str> = parts.collect();
        let mut namespace = None;
        // `namespaces/NAME` is a resource, as are its subresources.
        if rest.len() > 2 && rest[0] == "namespaces" && !["status", "finalize"].contains(&rest[2]) {
            namespace = Some(rest[1].to_owned());
            rest.drain(..2);
        }
        let mut rest = rest.into_iter();
        let mut resource = rest.next()?.to_owned();
        // A list or watch of one object by its name needs the right to that object only.
        let by_name = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"));
        let path_name = rest.next();
        let name = path_name.or(by_name).map(str::to_owned);
        let subresource = rest.next();
        if let Some(subresource) = subresource {
            resource = format!("{resource}/{subresource}");
        }
        let watch = query.split('&').any(|pair| ["watch=true", "watch=1"].contains(&pair));
        let verbs = match (method, path_name) {
            ("GET", _) if watch => vec!["watch"],
            ("GET", Some(_)) => vec!["get"],
            ("GET", None) => vec!["list"],
            ("POST", _) => vec!["create"],
            ("PUT", _) => vec!["update"],
            // A server-side apply of a missing object creates it and needs that right as well.
            ("PATCH", _) if subresource.is_none() && content_type.contains("apply-patch") => {
                vec!["patch", "create"]
            }
            ("PATCH", _) => vec!["patch"],
            ("DELETE", Some(_)) => vec!["delete"],
            _ => vec!["deletecollection"],
        };
        Some(Self { verbs, group, resource, namespace, name })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.namespace.as_deref().unwrap_or("everywhere");
        let name = self.name.as_deref().unwrap_or("*");
        write!(f, "{} {}/{} {name} in {place}", self.verbs.join("+"), self.group, self.resource)
    }
}

impl Rules {
    /// Returns the rights that the manifests of `folder` grant to a service account: those of the roles that
    /// are bound to it.
    pub(crate) fn of(folder: &Path, account: &str) -> Result<Self> {
        let mut objects = Vec::new();
        for (path, text) in api::yaml_files(folder)? {
            objects.extend(api::documents(&text).with_context(|| path.display().to_string())?);
        }
        let mut grants = BTreeSet::new();
        for binding in &objects {
            let subjects = binding["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
            if !subjects.iter().any(|subject| subject["name"] == account) {
                continue;
            }
            let (kind, name) = (&binding["roleRef"]["kind"], &binding["roleRef"]["name"]);
            let role =
                objects.iter().find(|object| object["kind"] == *kind && object["metadata"]["name"] == *name);
            let role = role.with_context(|| format!("{kind} {name} is bound but does not exist"))?;
            let namespace = binding["metadata"]["namespace"].as_str().map(str::to_owned);
            for rule in role["rules"].as_array().into_iter().flatten() {
                grants.extend(expand(rule, &namespace));
            }
        }
        if grants.is_empty() {
            bail!("{account} has no rights in {}", folder.display());
        }
        if let Some(wild) = grants.iter().find(|grant| grant.resource == "*" || grant.verb == "*") {
            bail!("a rule for everything: {wild:?}");
        }
        Ok(Self { grants })
    }

    /// Returns true if the access is granted.
    pub(crate) fn grant(&self, access: &Access) -> bool {
        access.verbs.iter().all(|verb| self.grants.iter().any(|grant| grant.covers(access, verb)))
    }

    /// Returns the rights that no access of `seen` needed, as `verb group/resource`.
    pub(crate) fn unused<'a>(&self, seen: impl IntoIterator<Item = &'a Access> + Clone) -> Vec<String> {
        let used = |grant: &Grant| {
            seen.clone().into_iter().any(|access| access.verbs.iter().any(|verb| grant.covers(access, verb)))
        };
        let unused = self.grants.iter().filter(|grant| !used(grant));
        unused.map(|grant| format!("{} {}/{}", grant.verb, grant.group, grant.resource)).collect()
    }
}

impl Grant {
    fn covers(&self, access: &Access, verb: &str) -> bool {
        self.verb == verb
            && self.group == access.group
            && self.resource == access.resource
            && (self.namespace.is_none() || self.namespace == access.namespace)
            && (self.names.is_empty() || access.name.as_ref().is_some_and(|name| self.names.contains(name)))
    }
}

fn expand(rule: &Value, namespace: &Option<String>) -> Vec<Grant> {
    let list = |key: &str| -> Vec<String> {
        let values = rule[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        values.map(str::to_owned).collect()
    };
    let mut grants = Vec::new();
    for group in list("apiGroups") {
        for resource in list("resources") {
            for verb in list("verbs") {
                grants.push(Grant {
                    namespace: namespace.clone(),
                    group: group.clone(),
                    resource: resource.clone(),
                    verb,
                    names: list("resourceNames").into_iter().collect(),
                });
            }
        }
    }
    grants
}
