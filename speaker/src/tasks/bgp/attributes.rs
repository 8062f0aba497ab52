//! The plan's attributes as the session's.

use std::collections::HashMap;
use std::sync::Arc;

use fairlead_bgp::{Community, LargeCommunity};
use fairlead_crds::model::config;

use fairlead_plan::Attributes;

/// Most translations that are remembered; there are as many as there are combinations of advertisements.
const REMEMBERED: usize = 1024;

/// Translates, and gives equal attributes as one shared value.
#[derive(Debug, Default)]
pub(super) struct Translator {
    known: HashMap<Arc<Attributes>, Arc<fairlead_bgp::Attributes>>,
}

impl Translator {
    pub(super) fn translate(&mut self, attributes: &Arc<Attributes>) -> Arc<fairlead_bgp::Attributes> {
        if let Some(known) = self.known.get(attributes) {
            return known.clone();
        }
        let mut new = fairlead_bgp::Attributes {
            local_pref: attributes.local_pref,
            ..fairlead_bgp::Attributes::default()
        };
        for community in &attributes.communities {
            match *community {
                config::Community::Standard(asn, value) => {
                    new.communities.insert(Community(asn, value));
                }
                config::Community::Large(global, one, two) => {
                    new.large_communities.insert(LargeCommunity(global, one, two));
                }
            }
        }
        let new = Arc::new(new);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(attributes.clone(), new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_attributes_become_one_value() {
        let attributes = || {
            Arc::new(Attributes {
                local_pref: Some(200),
                communities: [config::Community::Standard(64512, 1), config::Community::Large(1, 2, 3)]
                    .into(),
            })
        };
        let mut translator = Translator::default();
        let first = translator.translate(&attributes());
        assert!(Arc::ptr_eq(&first, &translator.translate(&attributes())));
        assert_eq!(first.local_pref, Some(200));
        assert_eq!(first.communities, [Community(64512, 1)].into());
        assert_eq!(first.large_communities, [LargeCommunity(1, 2, 3)].into());
    }
}
