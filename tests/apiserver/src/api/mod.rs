//! Operations on the objects: the effect of a request, without HTTP. Time is an argument.

mod cascade;
mod compare;
mod delete;
mod metadata;
mod read;
mod registry;
mod start;
mod write;

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::failure::Failure;
use crate::kinds::addresses::Addresses;
use crate::kinds::{Door, Resource};
use crate::options::Options;
use crate::store::{Object, Store};

pub(crate) use delete::{DeleteOptions, Deleted};
pub(crate) use read::{ListOptions, Listing};
pub(crate) use registry::Registry;

/// The state of a server.
pub(crate) struct Api {
    pub store: Store,
    pub registry: Registry,
    addresses: Addresses,
    dice: SmallRng,
}

/// Properties of the request: client and options.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// RFC 3339, whole seconds.
    pub now: String,
    /// `fieldManager`.
    pub manager: String,
    pub dry_run: bool,
    /// `force` of server-side apply.
    pub force: bool,
    pub unknown: UnknownFields,
}

/// `fieldValidation`: the treatment of unknown fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UnknownFields {
    Ignore,
    #[default]
    Warn,
    Refuse,
}

/// A patch, by media type.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

/// Result of a write.
#[derive(Debug)]
pub(crate) struct Written {
    pub object: Arc<Object>,
    /// The object was created.
    pub created: bool,
    pub warnings: Vec<String>,
}

/// Location of an object.
#[derive(Clone)]
pub(crate) struct Target {
    pub resource: Arc<Resource>,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// Empty for a creation.
    pub name: String,
    pub door: Door,
}

impl Api {
    /// Returns an empty cluster with its namespaces and the Service of the API.
    ///
    /// # Errors
    /// If the Service ranges are invalid.
    pub(crate) fn new(options: &Options, ask: &Ask) -> anyhow::Result<Api> {
        let mut store = Store::new(options.history);
        let registry = Registry::new(&mut store);
        let addresses = Addresses::new(&options.service_cidrs, options.node_ports.clone(), options.seed)?;
        let dice = SmallRng::seed_from_u64(options.seed.wrapping_add(0x5eed));
        let mut api = Api { store, registry, addresses, dice };
        api.populate(ask)?;
        Ok(api)
    }

    /// Returns a random UUID (RFC 9562 version 4).
    fn new_uid(&mut self) -> String {
        let random = self.dice.random::<u128>();
        let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// Returns the five characters that `generateName` appends: no vowels, no digits that resemble letters.
    fn new_suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5).map(|_| char::from(ALPHABET[self.dice.random_range(0..ALPHABET.len())])).collect()
    }
}

impl Target {
    pub(crate) fn key(&self) -> crate::store::Key {
        crate::store::Key::new(self.namespace.clone(), self.name.clone())
    }

    pub(crate) fn not_found(&self) -> Failure {
        Failure::not_found(self.resource.named(), &self.name)
    }
}

#[cfg(test)]
mod tests;
