//! Resolution of `Community` objects and of the communities in advertisements.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use crate::model::community::{Community, InvalidCommunity};
use crate::text::quoted;
use crate::v1beta1;

/// A value of an alias, as text too.
#[derive(Clone)]
pub(super) struct Alias {
    value: Community,
    text: String,
    /// Name of the object that defines the alias.
    owner: String,
}

/// All aliases in force, by name.
#[derive(Default)]
pub(super) struct Aliases(BTreeMap<String, Alias>);

/// Validates an object on its own.
pub(super) fn aliases(object: &v1beta1::Community) -> Result<BTreeMap<String, Alias>, ObjectRefusal> {
    let mut aliases = BTreeMap::new();
    for v1beta1::CommunityAlias { name, value: text } in &object.spec.communities {
        if name.is_empty() || name.contains(':') {
            return refuse(
                RefusalReason::InvalidCommunity,
                format!(
                    "{} is not a valid name of a community: it must not be empty or contain a colon",
                    quoted(name)
                ),
            );
        }
        let Ok(value) = text.parse() else {
            return invalid(text);
        };
        let alias = Alias { value, text: text.clone(), owner: object.name_any() };
        if aliases.insert(name.clone(), alias).is_some() {
            return refuse(
                RefusalReason::DuplicateCommunity,
                format!("community {} is defined twice: remove one of the definitions", quoted(name)),
            );
        }
    }
    Ok(aliases)
}

impl Aliases {
    /// Adds the aliases of an object: all of them, or none if another object has defined one before.
    pub(super) fn add(&mut self, added: &BTreeMap<String, Alias>) -> Result<(), ObjectRefusal> {
        if let Some((name, Alias { owner, .. })) = added.keys().find_map(|name| self.0.get_key_value(name)) {
            return refuse(
                RefusalReason::DuplicateCommunity,
                format!(
                    "community {} is already defined by Community {}, which is in force or older: use \
                     another name",
                    quoted(name),
                    quoted(owner)
                ),
            );
        }
        self.0.extend(added.iter().map(|(name, alias)| (name.clone(), alias.clone())));
        Ok(())
    }

    /// Resolves the communities of an advertisement. An entry with a colon is a value. Every other entry is
    /// an alias or, if there is none of this name, the name of a well-known community. `former` are the
    /// values of aliases that may no longer exist.
    pub(super) fn look_up(
        &self,
        texts: &BTreeSet<String>,
        former: &FormerAliases,
    ) -> Result<BTreeSet<Community>, ObjectRefusal> {
        texts.iter().map(|text| self.look_up_one(text, former)).collect()
    }

    /// Resolves communities as [`Aliases::look_up`]. Returns each with its text.
    pub(super) fn by_text(
        &self,
        texts: &BTreeSet<String>,
        former: &FormerAliases,
    ) -> Result<BTreeMap<String, Community>, ObjectRefusal> {
        texts.iter().map(|text| Ok((text.clone(), self.look_up_one(text, former)?))).collect()
    }

    /// Returns the values of the aliases among the communities of an advertisement, as texts.
    pub(super) fn used_by(
        &self,
        spec: &v1beta1::BGPAdvertisementSpec,
        former: &FormerAliases,
    ) -> FormerAliases {
        let permitted = spec.service_attributes.iter().flat_map(|attributes| &attributes.communities);
        let used = spec.communities.iter().chain(permitted).filter_map(|name| {
            let text = self.0.get(name).map(|alias| &alias.text).or_else(|| former.get(name))?;
            Some((name.clone(), text.clone()))
        });
        used.collect()
    }

    fn look_up_one(&self, text: &str, former: &FormerAliases) -> Result<Community, ObjectRefusal> {
        if let Some(alias) = self.0.get(text) {
            return Ok(alias.value);
        }
        match former.get(text).map_or(text, String::as_str).parse() {
            Ok(community) => Ok(community),
            Err(_) if text.contains(':') => invalid(text),
            Err(_) => refuse(
                RefusalReason::CommunityNotFound,
                format!(
                    "community {} is not defined: no Community object in force defines this name, and it is not \
                     the name of a well-known community",
                    quoted(text)
                ),
            ),
        }
    }
}

/// The values of aliases by name, as texts.
pub(super) type FormerAliases = BTreeMap<String, String>;

fn invalid<T>(text: &str) -> Result<T, ObjectRefusal> {
    refuse(RefusalReason::InvalidCommunity, format!("{} is {InvalidCommunity}", quoted(text)))
}
