//! What was seen in the API, and what the plan makes of it. No I/O: the deciding task feeds it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fairlead_crds::resolve::{Objects, Resolution, resolve};
use fairlead_crds::store::ObjectChange;
use fairlead_crds::v1beta1;
use kube::ResourceExt;

use crate::tasks::mesh::Peers;
use crate::watches::Input;
use fairlead_plan::{NodeName, Plan};

/// Everything that was seen, and the plan.
#[derive(Debug)]
pub struct Known {
    me: String,
    plan: Plan,
    configuration: Configuration,
    speakers: BTreeMap<String, Option<SocketAddr>>,
    /// Where the others of `speakers` are.
    peers: Peers,
    /// How often the own Speaker object has vanished.
    vanished: u64,
    uid: Option<String>,
    /// Kinds whose first list is still to come.
    awaited: BTreeSet<&'static str>,
    changed: bool,
}

/// Configuration objects, by name.
#[derive(Debug, Default)]
struct Configuration {
    pools: BTreeMap<String, v1beta1::IPAddressPool>,
    l2_advertisements: BTreeMap<String, v1beta1::L2Advertisement>,
    bgp_advertisements: BTreeMap<String, v1beta1::BGPAdvertisement>,
    peers: BTreeMap<String, v1beta1::BGPPeer>,
    bfd_profiles: BTreeMap<String, v1beta1::BFDProfile>,
    communities: BTreeMap<String, v1beta1::Community>,
}

const KINDS: [&str; 10] = [
    "Services",
    "EndpointSlices",
    "Nodes",
    "Speakers",
    "IPAddressPools",
    "L2Advertisements",
    "BGPAdvertisements",
    "BGPPeers",
    "BFDProfiles",
    "Communities",
];

impl Known {
    /// Nothing is known yet of the cluster that node `me` is in.
    pub fn new(me: &str) -> Self {
        Self {
            me: me.to_owned(),
            plan: Plan::new(me),
            configuration: Configuration::default(),
            speakers: BTreeMap::new(),
            peers: Peers::default(),
            vanished: 0,
            uid: None,
            awaited: KINDS.into(),
            changed: false,
        }
    }

    /// Takes in what was seen.
    pub fn take(&mut self, input: Input) {
        let configuration = &mut self.configuration;
        match input {
            Input::Services(change) => self.take_services(change),
            Input::Slices(change) => self.take_slices(change),
            Input::Nodes(change) => self.take_nodes(change),
            Input::Speakers(change) => self.take_speakers(change),
            Input::Pools(change) => {
                take_objects(&mut configuration.pools, change);
                self.configured("IPAddressPools");
            }
            Input::L2Advertisements(change) => {
                take_objects(&mut configuration.l2_advertisements, change);
                self.configured("L2Advertisements");
            }
            Input::BgpAdvertisements(change) => {
                take_objects(&mut configuration.bgp_advertisements, change);
                self.configured("BGPAdvertisements");
            }
            Input::Peers(change) => {
                take_objects(&mut configuration.peers, change);
                self.configured("BGPPeers");
            }
            Input::BfdProfiles(change) => {
                take_objects(&mut configuration.bfd_profiles, change);
                self.configured("BFDProfiles");
            }
            Input::Communities(change) => {
                take_objects(&mut configuration.communities, change);
                self.configured("Communities");
            }
        }
    }

    /// These speakers live; see [`Plan::set_live`].
    pub fn set_live(&mut self, live: Option<&BTreeSet<NodeName>>) {
        self.plan.set_live(live);
    }

    /// These interfaces can announce; see [`Plan::set_links`].
    pub fn set_links(&mut self, links: BTreeSet<String>) {
        self.plan.set_links(links);
    }

    /// What must still be seen before anything is decided: half a picture would withdraw what holds.
    pub fn awaited(&self) -> Option<String> {
        if self.awaited.is_empty() {
            return None;
        }
        let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| self.awaited.contains(kind)).collect();
        Some(format!("the first list of {}", kinds.join(", ")))
    }

    /// What is to be done; nothing while something is awaited. Also what configuration was refused, if that is new.
    pub fn changes(&mut self) -> (Vec<fairlead_plan::AnnouncementChange>, Option<Resolution>) {
        if !self.awaited.is_empty() {
            return (Vec::new(), None);
        }
        let resolution = std::mem::take(&mut self.changed).then(|| {
            let mut resolution = resolve(&self.configuration.objects());
            self.plan.set_config(std::mem::take(&mut resolution.config));
            resolution
        });
        (self.plan.changes(), resolution)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// UID of the own Node object, once seen.
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// Addresses of the own Node.
    pub fn own_addresses(&self) -> &[IpAddr] {
        self.plan.own_node().map(|node| node.internal_ips.as_slice()).unwrap_or_default()
    }

    /// Where the other speakers are; `None` until they were listed. The same value while nothing changed.
    pub fn peers(&self) -> Option<Peers> {
        (!self.awaited.contains("Speakers")).then(|| self.peers.clone())
    }

    /// How often the own Speaker object has vanished: whenever that grows, it must be written anew.
    pub fn vanished(&self) -> u64 {
        self.vanished
    }

    fn take_services(
        &mut self,
        change: ObjectChange<(fairlead_crds::model::service::ObjectKey, Option<fairlead_plan::Service>)>,
    ) {
        match change {
            ObjectChange::Apply((key, Some(service))) => self.plan.apply_service(key, service),
            ObjectChange::Apply((key, None)) | ObjectChange::Delete((key, _)) => {
                self.plan.delete_service(&key)
            }
            ObjectChange::Reset(all) => {
                let ours = all.into_iter().filter_map(|(key, service)| Some((key, service?)));
                self.plan.reset_services(ours.collect());
                self.awaited.remove("Services");
            }
        }
    }

    fn take_slices(&mut self, change: ObjectChange<(fairlead_plan::SliceKey, Option<fairlead_plan::Slice>)>) {
        match change {
            ObjectChange::Apply((key, Some(slice))) => self.plan.apply_slice(key, slice),
            ObjectChange::Apply((key, None)) | ObjectChange::Delete((key, _)) => self.plan.delete_slice(&key),
            ObjectChange::Reset(all) => {
                let owned = all.into_iter().filter_map(|(key, slice)| Some((key, slice?)));
                self.plan.reset_slices(owned.collect());
                self.awaited.remove("EndpointSlices");
            }
        }
    }

    fn take_nodes(&mut self, change: ObjectChange<(NodeName, fairlead_plan::Node, String)>) {
        match change {
            ObjectChange::Apply((name, node, uid)) => {
                if *name == *self.me {
                    self.uid = Some(uid);
                }
                self.plan.apply_node(name, node);
            }
            ObjectChange::Delete((name, ..)) => {
                if *name == *self.me {
                    self.uid = None;
                }
                self.plan.delete_node(&name);
            }
            ObjectChange::Reset(all) => {
                let own = all.iter().find(|(name, ..)| **name == *self.me);
                self.uid = own.map(|(_, _, uid)| uid.clone());
                self.plan.reset_nodes(all.into_iter().map(|(name, node, _)| (name, node)).collect());
                self.awaited.remove("Nodes");
            }
        }
    }

    fn take_speakers(&mut self, change: ObjectChange<(String, Option<SocketAddr>)>) {
        let had = self.speakers.contains_key(&self.me);
        match change {
            ObjectChange::Apply((name, address)) => {
                self.speakers.insert(name, address);
            }
            ObjectChange::Delete((name, _)) => {
                self.speakers.remove(&name);
            }
            ObjectChange::Reset(all) => {
                self.speakers = all.into_iter().collect();
                self.awaited.remove("Speakers");
            }
        }
        self.vanished += u64::from(had && !self.speakers.contains_key(&self.me));
        let others = self.speakers.iter().filter(|(name, _)| **name != self.me);
        self.peers = Arc::new(others.filter_map(|(name, at)| Some((name.clone(), (*at)?))).collect());
    }

    fn configured(&mut self, kind: &'static str) {
        // A kind counts as listed with its first message: watches begin with a list.
        self.awaited.remove(kind);
        self.changed = true;
    }
}

impl Configuration {
    fn objects(&self) -> Objects {
        Objects {
            pools: self.pools.values().cloned().collect(),
            l2_advertisements: self.l2_advertisements.values().cloned().collect(),
            bgp_advertisements: self.bgp_advertisements.values().cloned().collect(),
            peers: self.peers.values().cloned().collect(),
            bfd_profiles: self.bfd_profiles.values().cloned().collect(),
            communities: self.communities.values().cloned().collect(),
        }
    }
}

fn take_objects<K: ResourceExt>(objects: &mut BTreeMap<String, K>, change: ObjectChange<K>) {
    let trimmed = |mut object: K| {
        // Bookkeeping of other writers, often larger than the object.
        object.managed_fields_mut().clear();
        object.annotations_mut().clear();
        (object.name_any(), object)
    };
    match change {
        ObjectChange::Apply(object) => objects.extend([trimmed(object)]),
        ObjectChange::Delete(object) => drop(objects.remove(&object.name_any())),
        ObjectChange::Reset(all) => *objects = all.into_iter().map(trimmed).collect(),
    }
}

#[cfg(test)]
mod tests {
    use fairlead_crds::model::service::ObjectKey;
    use kube::core::ObjectMeta;

    use super::*;
    use fairlead_plan::{Node, Service, Slice};

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
    }

    fn service() -> (ObjectKey, Option<Service>) {
        let service = Service { addresses: vec!["192.0.2.1".parse().unwrap()], ..Service::default() };
        (key("web"), Some(service))
    }

    fn named(name: &str) -> ObjectMeta {
        ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
    }

    /// The first list of every kind, in the order of [`KINDS`]: one Service that n1 announces by L2.
    fn lists() -> Vec<Input> {
        let pool =
            v1beta1::IPAddressPoolSpec { addresses: vec!["192.0.2.0/24".to_owned()], ..Default::default() };
        let pool = v1beta1::IPAddressPool { metadata: named("pool"), spec: pool, status: None };
        let ad = v1beta1::L2Advertisement { metadata: named("ad"), spec: Default::default(), status: None };
        vec![
            Input::Services(ObjectChange::Reset(vec![service()])),
            Input::Slices(ObjectChange::Reset(vec![(
                key("web-1"),
                Some(Slice::new("web", [Some("n1".into())])),
            )])),
            Input::Nodes(ObjectChange::Reset(vec![("n1".into(), Node::default(), "uid-1".to_owned())])),
            Input::Speakers(ObjectChange::Reset(Vec::new())),
            Input::Pools(ObjectChange::Reset(vec![pool])),
            Input::L2Advertisements(ObjectChange::Reset(vec![ad])),
            Input::BgpAdvertisements(ObjectChange::Reset(Vec::new())),
            Input::Peers(ObjectChange::Reset(Vec::new())),
            Input::BfdProfiles(ObjectChange::Reset(Vec::new())),
            Input::Communities(ObjectChange::Reset(Vec::new())),
        ]
    }

    fn known() -> Known {
        let mut known = Known::new("n1");
        known.set_live(Some(&BTreeSet::new()));
        lists().into_iter().for_each(|list| known.take(list));
        known
    }

    #[test]
    fn nothing_is_decided_before_every_kind_was_listed() {
        for (missing, kind) in KINDS.into_iter().enumerate() {
            let mut known = Known::new("n1");
            known.set_live(Some(&BTreeSet::new()));
            let mut lists = lists();
            let last = lists.remove(missing);
            lists.into_iter().for_each(|list| known.take(list));
            assert!(known.awaited().unwrap().ends_with(kind), "{:?}", known.awaited());
            assert_eq!(known.changes().0, []);
            known.take(last);
            assert_eq!(known.awaited(), None);
            assert_eq!(known.changes().0.len(), 1);
        }
    }

    #[test]
    fn a_list_again_changes_nothing_and_an_empty_one_withdraws() {
        let mut known = known();
        assert_eq!(known.changes().0.len(), 1);
        lists().into_iter().for_each(|list| known.take(list));
        assert_eq!(known.changes().0, []);
        known.take(Input::Services(ObjectChange::Reset(Vec::new())));
        assert!(matches!(known.changes().0[..], [fairlead_plan::AnnouncementChange::L2Withdraw { .. }]));
    }

    #[test]
    fn a_service_that_leaves_our_class_is_withdrawn() {
        let mut known = known();
        known.changes();
        known.take(Input::Services(ObjectChange::Apply((key("web"), None))));
        assert!(matches!(known.changes().0[..], [fairlead_plan::AnnouncementChange::L2Withdraw { .. }]));
    }

    #[test]
    fn configuration_is_resolved_only_when_it_changed() {
        let mut known = known();
        assert!(known.changes().1.is_some());
        known.take(Input::Services(ObjectChange::Delete(service())));
        assert!(known.changes().1.is_none());
        known.take(Input::Pools(ObjectChange::Reset(Vec::new())));
        assert!(known.changes().1.is_some());
    }

    #[test]
    fn the_own_object_is_missed_only_after_it_was_there() {
        let mut known = known();
        let own = || ("n1".to_owned(), None);
        let other = || ("n2".to_owned(), Some("192.0.2.2:7946".parse().unwrap()));
        for (change, vanished) in [
            (ObjectChange::Reset(vec![]), 0),
            (ObjectChange::Apply(own()), 0),
            (ObjectChange::Apply(other()), 0),
            (ObjectChange::Delete(other()), 0),
            (ObjectChange::Delete(own()), 1),
            (ObjectChange::Delete(own()), 1),
            (ObjectChange::Reset(vec![own(), other()]), 1),
            (ObjectChange::Reset(vec![other()]), 2),
        ] {
            known.take(Input::Speakers(change));
            assert_eq!(known.vanished(), vanished);
        }
        let others: Vec<String> = known.peers().unwrap().keys().cloned().collect();
        assert_eq!(others, ["n2"]);
    }

    #[test]
    fn the_uid_is_that_of_the_own_node_as_long_as_it_is_there() {
        let mut known = known();
        assert_eq!(known.uid(), Some("uid-1"));
        known.take(Input::Nodes(ObjectChange::Apply(("n2".into(), Node::default(), "uid-2".to_owned()))));
        assert_eq!(known.uid(), Some("uid-1"));
        known.take(Input::Nodes(ObjectChange::Delete(("n1".into(), Node::default(), "uid-1".to_owned()))));
        assert_eq!(known.uid(), None);
    }
}
