//! What was seen in the API, and what the plan makes of it. No I/O: the deciding task feeds it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use fairlead_crds::api;
use fairlead_crds::resolve::{Objects, Resolution, resolve};
use fairlead_runtime::watch::Change;
use kube::ResourceExt;

use crate::plan::{self, NodeName, Plan};
use crate::watches::Input;

/// Everything that was seen, and the plan.
#[derive(Debug)]
pub struct Known {
    me: String,
    plan: Plan,
    configuration: Configuration,
    speakers: BTreeMap<String, Option<SocketAddr>>,
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
    pools: BTreeMap<String, api::IPAddressPool>,
    l2_advertisements: BTreeMap<String, api::L2Advertisement>,
    bgp_advertisements: BTreeMap<String, api::BGPAdvertisement>,
    peers: BTreeMap<String, api::BGPPeer>,
    bfd_profiles: BTreeMap<String, api::BFDProfile>,
    communities: BTreeMap<String, api::Community>,
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
    pub fn changes(&mut self) -> (Vec<plan::Change>, Option<Resolution>) {
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

    /// Where the other speakers are; `None` until they were listed.
    pub fn peers(&self) -> Option<BTreeMap<String, SocketAddr>> {
        if self.awaited.contains("Speakers") {
            return None;
        }
        let others = self.speakers.iter().filter(|(name, _)| **name != self.me);
        Some(others.filter_map(|(name, address)| Some((name.clone(), (*address)?))).collect())
    }

    /// How often the own Speaker object has vanished: whenever that grows, it must be written anew.
    pub fn vanished(&self) -> u64 {
        self.vanished
    }

    fn take_services(&mut self, change: Change<(fairlead_crds::service::ObjectKey, Option<plan::Service>)>) {
        match change {
            Change::Apply((key, Some(service))) => self.plan.apply_service(key, service),
            Change::Apply((key, None)) | Change::Delete((key, _)) => self.plan.remove_service(&key),
            Change::Reset(all) => {
                let ours = all.into_iter().filter_map(|(key, service)| Some((key, service?)));
                self.plan.reset_services(ours.collect());
                self.awaited.remove("Services");
            }
        }
    }

    fn take_slices(&mut self, change: Change<(plan::SliceKey, Option<plan::Slice>)>) {
        match change {
            Change::Apply((key, Some(slice))) => self.plan.apply_slice(key, slice),
            Change::Apply((key, None)) | Change::Delete((key, _)) => self.plan.remove_slice(&key),
            Change::Reset(all) => {
                let owned = all.into_iter().filter_map(|(key, slice)| Some((key, slice?)));
                self.plan.reset_slices(owned.collect());
                self.awaited.remove("EndpointSlices");
            }
        }
    }

    fn take_nodes(&mut self, change: Change<(NodeName, plan::Node, String)>) {
        match change {
            Change::Apply((name, node, uid)) => {
                if *name == *self.me {
                    self.uid = Some(uid);
                }
                self.plan.apply_node(name, node);
            }
            Change::Delete((name, ..)) => {
                if *name == *self.me {
                    self.uid = None;
                }
                self.plan.remove_node(&name);
            }
            Change::Reset(all) => {
                let own = all.iter().find(|(name, ..)| **name == *self.me);
                self.uid = own.map(|(_, _, uid)| uid.clone());
                self.plan.reset_nodes(all.into_iter().map(|(name, node, _)| (name, node)).collect());
                self.awaited.remove("Nodes");
            }
        }
    }

    fn take_speakers(&mut self, change: Change<(String, Option<SocketAddr>)>) {
        let had = self.speakers.contains_key(&self.me);
        match change {
            Change::Apply((name, address)) => {
                self.speakers.insert(name, address);
            }
            Change::Delete((name, _)) => {
                self.speakers.remove(&name);
            }
            Change::Reset(all) => {
                self.speakers = all.into_iter().collect();
                self.awaited.remove("Speakers");
            }
        }
        self.vanished += u64::from(had && !self.speakers.contains_key(&self.me));
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

fn take_objects<K: ResourceExt>(objects: &mut BTreeMap<String, K>, change: Change<K>) {
    let trimmed = |mut object: K| {
        // Bookkeeping of other writers, often larger than the object.
        object.managed_fields_mut().clear();
        object.annotations_mut().clear();
        (object.name_any(), object)
    };
    match change {
        Change::Apply(object) => objects.extend([trimmed(object)]),
        Change::Delete(object) => drop(objects.remove(&object.name_any())),
        Change::Reset(all) => *objects = all.into_iter().map(trimmed).collect(),
    }
}
