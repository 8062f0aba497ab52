//! Part of [`Ipam`]: the addresses and Pod ranges of Nodes. No Service gets the address of a Node, because
//! the traffic of the Node would go to the Service; a Service that holds one already keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::objects::{MAX_NODE_ADDRESSES, Node};

use super::Ipam;
use super::refusal::AllocationRefusal;

/// The network of a Node, as far as allocation depends on it. The default is that of an unknown Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeNetwork {
    /// Addresses of the types `InternalIP` and `ExternalIP`.
    pub addresses: BTreeSet<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_ranges: BTreeSet<IpRange>,
}

impl NodeNetwork {
    /// Reads a Node. Texts that are no addresses are ignored.
    pub fn of(node: &Node) -> Self {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let addresses = addresses.filter(|address| matches!(&*address.type_, "InternalIP" | "ExternalIP"));
        let pod_ranges =
            node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
        Self {
            addresses: addresses
                .filter_map(|address| address.address.parse().ok())
                .take(MAX_NODE_ADDRESSES)
                .collect(),
            pod_ranges: pod_ranges
                .filter_map(|cidr| IpRange::parse_cidr(cidr))
                .take(MAX_NODE_ADDRESSES)
                .collect(),
        }
    }
}

/// The effect of [`Ipam::set_node`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    /// Services that hold an address that the Node gained or lost.
    pub holders: BTreeSet<ObjectKey>,
    /// Pools that overlap something that the Node gained or lost.
    pub pools: BTreeSet<Arc<str>>,
}

/// The networks of all Nodes, by Node and by address; both sides always agree.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeNetworks {
    by_node: BTreeMap<Arc<str>, NodeNetwork>,
    /// Several Nodes report one address only by mistake.
    by_address: BTreeMap<IpAddr, BTreeSet<Arc<str>>>,
    /// By first address. Nodes have disjoint ranges.
    pod_ranges: BTreeMap<(IpAddr, Arc<str>), IpRange>,
}

impl NodeNetworks {
    /// Returns the first Node that has the address.
    pub(super) fn node(&self, ip: IpAddr) -> Option<&Arc<str>> {
        self.by_address.get(&ip)?.first()
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.by_address.contains_key(&ip)
    }

    /// Returns the addresses in a range, each with the first Node that has it.
    pub(super) fn within(&self, range: &IpRange) -> impl Iterator<Item = (IpAddr, &Arc<str>)> {
        let addresses = self.by_address.range(range.first()..=range.last());
        addresses.filter_map(|(ip, nodes)| Some((*ip, nodes.first()?)))
    }

    /// Returns the last Pod range that overlaps a range, with its Node.
    fn pod_range_in(&self, range: &IpRange) -> Option<(&IpRange, &Arc<str>)> {
        // The end of the key range: no name of a Node is as long as this one.
        let end = (range.last(), Arc::from("\u{10ffff}"));
        let ((_, node), pod_range) = self.pod_ranges.range(..=end).next_back()?;
        pod_range.overlaps(range).then_some((pod_range, node))
    }

    #[cfg(test)]
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.by_address.keys().copied()
    }

    /// Sets the network of a Node. Returns what it gained or lost.
    fn set(&mut self, node: &str, new: NodeNetwork) -> NodeNetwork {
        let name = self.by_node.get_key_value(node).map_or_else(|| node.into(), |(name, _)| name.clone());
        let old = self.by_node.remove(node).unwrap_or_default();
        for ip in old.addresses.difference(&new.addresses) {
            if let Some(nodes) = self.by_address.get_mut(ip) {
                nodes.remove(&name);
                if nodes.is_empty() {
                    self.by_address.remove(ip);
                }
            }
        }
        for ip in new.addresses.difference(&old.addresses) {
            self.by_address.entry(*ip).or_default().insert(name.clone());
        }
        for range in old.pod_ranges.difference(&new.pod_ranges) {
            self.pod_ranges.remove(&(range.first(), name.clone()));
        }
        for range in &new.pod_ranges {
            self.pod_ranges.insert((range.first(), name.clone()), *range);
        }
        let changed = NodeNetwork {
            addresses: old.addresses.symmetric_difference(&new.addresses).copied().collect(),
            pod_ranges: old.pod_ranges.symmetric_difference(&new.pod_ranges).copied().collect(),
        };
        if new != NodeNetwork::default() {
            self.by_node.insert(name, new);
        }
        changed
    }
}

impl Ipam {
    /// Sets the network of a Node; the default if the Node was deleted. The cost depends on what the Node
    /// gained or lost.
    pub fn set_node(&mut self, node: &str, network: NodeNetwork) -> NodeChange {
        let changed = self.nodes.set(node, network);
        let mut change = NodeChange::default();
        for ip in changed.addresses {
            change.holders.extend(self.holders(ip).iter().map(|holder| ObjectKey::clone(holder)));
            if self.nodes.contains(ip) {
                self.pools.take(ip);
            } else {
                self.free_if_unused(ip);
            }
            if let Some(pool) = self.pools.containing(ip).cloned() {
                self.record_change(ip, &pool);
            }
            change.pools.extend(IpRange::new(ip, ip).iter().flat_map(|range| self.pools.overlapping(range)));
        }
        let overlapping = changed.pod_ranges.iter().flat_map(|range| self.pools.overlapping(range));
        change.pools.extend(overlapping);
        change
    }

    /// Returns the names of the Nodes with addresses or Pod ranges.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.by_node.keys()
    }

    /// Returns the addresses of Nodes in a range, each with the name of its Node.
    pub fn node_addresses_in(&self, range: &IpRange) -> impl Iterator<Item = (IpAddr, &Arc<str>)> {
        self.nodes.within(range)
    }

    /// Returns a Pod range that overlaps a range, with the name of its Node.
    pub fn pod_range_in(&self, range: &IpRange) -> Option<(&IpRange, &Arc<str>)> {
        self.nodes.pod_range_in(range)
    }

    /// Returns an error if an address that the Service does not hold yet is that of a Node.
    pub(super) fn check_node_address(
        &self,
        ip: IpAddr,
        service: &ObjectKey,
    ) -> Result<(), AllocationRefusal> {
        match self.nodes.node(ip) {
            Some(node) if !self.holders(ip).iter().any(|holder| **holder == *service) => {
                Err(AllocationRefusal::NodeAddress { address: ip, node: node.clone() })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn node_keeps_its_addresses_and_pod_ranges() {
        let node = json!({
            "metadata": { "name": "n1" },
            "spec": { "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64", "nonsense"] },
            "status": { "addresses": [
                { "type": "Hostname", "address": "192.0.2.9" },
                { "type": "InternalIP", "address": "192.0.2.1" },
                { "type": "InternalIP", "address": "2001:db8::1" },
                { "type": "ExternalIP", "address": "198.51.100.1" },
                { "type": "InternalIP", "address": "nonsense" },
            ] },
        });
        let network = NodeNetwork::of(&from_value(node).unwrap());
        let addresses: Vec<String> = network.addresses.iter().map(ToString::to_string).collect();
        let pod_ranges: Vec<String> = network.pod_ranges.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "198.51.100.1", "2001:db8::1"]);
        assert_eq!(pod_ranges, ["10.244.1.0-10.244.1.255", "fd00:1::-fd00:1::ffff:ffff:ffff:ffff"]);
        let unscheduled = from_value(json!({ "metadata": { "name": "n2" } })).unwrap();
        assert_eq!(NodeNetwork::of(&unscheduled), NodeNetwork::default());
    }
}
