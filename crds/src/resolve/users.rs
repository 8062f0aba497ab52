//! Which objects in force need others.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Kind, ObjectRef, ObjectVerdict, Resolution};

impl Resolution {
    /// Returns the objects in force that need a BFDProfile or a Community, sorted; none for other kinds.
    /// Those that use copies of what no longer exists do not count.
    pub fn users_of(&self, object: &ObjectRef) -> BTreeSet<ObjectRef> {
        let is_in_force = self.verdicts.get(object) == Some(&ObjectVerdict::Accepted) || self.is_kept(object);
        match object.kind {
            _ if !is_in_force => BTreeSet::new(),
            Kind::BFDProfile => {
                let peers = self.config.peers.values();
                let users = peers.filter(|peer| peer.bfd.as_ref().is_some_and(|bfd| bfd.name == object.name));
                users.map(|peer| ObjectRef { kind: Kind::BGPPeer, name: peer.name.clone() }).collect()
            }
            Kind::Community => {
                let form = self.last_accepted.get(object).map(|form| &form.parts.spec["communities"]);
                let aliases = form.and_then(Value::as_array).into_iter().flatten();
                let aliases: Vec<&str> = aliases.filter_map(|alias| alias["name"].as_str()).collect();
                let ads = self.config.bgp_advertisements.keys();
                let ads = ads.map(|name| ObjectRef { kind: Kind::BGPAdvertisement, name: name.clone() });
                let uses = |ad: &ObjectRef| {
                    let form = self.last_accepted.get(ad);
                    form.is_some_and(|form| {
                        aliases.iter().any(|alias| form.parts.communities.contains_key(*alias))
                    })
                };
                ads.filter(uses).collect()
            }
            Kind::IPAddressPool | Kind::L2Advertisement | Kind::BGPAdvertisement | Kind::BGPPeer => {
                BTreeSet::new()
            }
        }
    }
}
