//! The interfaces that L2 announcements never use.

use std::convert::Infallible;
use std::net::IpAddr;
use std::str::FromStr;

use fairlead_net::links::Link;

/// Patterns of interface names, and kinds of interfaces as the kernel names them (`ip -details link`), with
/// `kind:` before them. In names, `*` matches any text, also none, and `?` matches one character.
///
/// The kind `veth` excludes only those without an address of a subnet. The end of a pod's cable in the node
/// has no address, or one of host length. The LAN of a node that is itself a container can be such a cable,
/// too, and has an address of the LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludedInterfaces {
    names: Vec<String>,
    kinds: Vec<String>,
}

/// Marks a kind in the list.
const KIND: &str = "kind:";

impl ExcludedInterfaces {
    /// Interfaces of container runtimes, network plugins, virtual machines and tunnels. The names contain
    /// MetalLB's default. Docker names the bridge of a network `br-` and 12 digits of its id; other names
    /// that begin with `br-`, such as `br-ex` and `br-lan`, are often the LAN.
    pub const DEFAULT: &str = "lo,docker*,cbr*,dummy*,virbr*,lxcbr*,veth*,cali*,tunl*,flannel*,kube-ipvs*,\
                               cni*,nodelocaldns*,lxc*,br-????????????,br-int,br-tun,kube-bridge,cilium_*,\
                               ovn-*,ovs-system,antrea-gw*,antrea-egress*,weave*,vxlan*,genev*,wg*,tun*,tap*,\
                               tailscale*,podman*,kind:dummy,kind:ifb,kind:tun,kind:veth,kind:netkit,\
                               kind:vxlan,kind:geneve,kind:wireguard,kind:gretap,kind:ip6gretap,\
                               kind:erspan,kind:ip6erspan,kind:ipip,kind:ip6tnl,kind:sit,kind:gre,\
                               kind:ip6gre,kind:vti,kind:vti6,kind:xfrm,kind:vrf,kind:bareudp,kind:batadv";

    /// Returns whether the interface is excluded.
    pub fn matches(&self, link: &Link) -> bool {
        let kind =
            link.kind.as_deref().is_some_and(|kind| self.kinds.iter().any(|excluded| excluded == kind));
        let is_lan = link.kind.as_deref() == Some("veth") && has_subnet(link);
        (kind && !is_lan) || self.names.iter().any(|pattern| matches_pattern(pattern, &link.name))
    }
}

/// Returns whether the interface has an address of a subnet: neither link-local nor of host length.
fn has_subnet(link: &Link) -> bool {
    link.addresses.iter().any(|net| {
        let is_link_local = match net.addr() {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        !is_link_local && net.prefix_len() < net.max_prefix_len()
    })
}

impl FromStr for ExcludedInterfaces {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let (kinds, names): (Vec<&str>, Vec<&str>) = entries.partition(|entry| entry.starts_with(KIND));
        let kinds = kinds.iter().filter_map(|entry| entry.strip_prefix(KIND));
        Ok(Self {
            names: names.into_iter().map(str::to_owned).collect(),
            kinds: kinds.map(str::to_owned).collect(),
        })
    }
}

/// Returns whether a pattern matches the whole name.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Where to go on if the rest does not match: behind the last `*`, which then matches one character more.
    let mut resume = None;
    loop {
        let rest = name.clone();
        match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                resume = Some((pattern.clone(), rest.clone()));
                name = rest;
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {}
            _ => {
                let Some((behind, mut from)) = resume.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, name) = (behind.clone(), from.clone());
                resume = Some((behind, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_test_support::links::link;

    use super::*;

    fn excluded(text: &str) -> ExcludedInterfaces {
        text.parse().unwrap()
    }

    #[test]
    fn exclude_patterns_match_names() {
        for (pattern, name, expected) in [
            ("lo", "lo", true),
            ("lo", "lo1", false),
            ("veth*", "veth12ab", true),
            ("veth*", "eth0", false),
            ("*", "anything", true),
            ("*.100", "bond0.100", true),
            ("*.100", "bond0.1001", false),
            ("en*s*f1", "enp3s0f1", true),
            ("en*s*f1", "enp3f1", false),
            ("a*a", "a", false),
            ("br-????", "br-0123", true),
            ("br-????", "br-012", false),
            ("br-????", "br-01234", false),
            ("e?p*s?", "enp3s0", true),
            ("e?p*s?", "enp3s", false),
            ("a*?b", "ab", false),
            ("a*é?*b", "aééxéb", true),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn empty_list_excludes_nothing() {
        let none = excluded("");
        assert!(!none.matches(&link(1, "lo", &[])));
        assert!(!none.matches(&Link { kind: Some("vxlan".to_owned()), ..link(1, "vx0", &[]) }));
    }

    #[test]
    fn default_excludes_virtual_and_not_physical_interfaces() {
        let default = excluded(ExcludedInterfaces::DEFAULT);
        for name in
            ["eth0", "ens3", "enp1s0f0", "bond0", "br0", "vlan100", "wlan0", "br-ex", "br-lan", "vmbr0"]
        {
            assert!(!default.matches(&link(1, name, &[])), "{name}");
        }
        for name in [
            "lo",
            "docker0",
            "br-9f2c4d1e8a7b",
            "br-int",
            "veth1",
            "cali123",
            "cni0",
            "lxc_health",
            "kube-ipvs0",
            "nodelocaldns",
            "cilium_host",
            "kube-bridge",
            "ovn-k8s-mp0",
            "antrea-gw0",
            "weave",
            "wg0",
            "tailscale0",
            "flannel.1",
            "vxlan.calico",
            "genev_sys_6081",
        ] {
            assert!(default.matches(&link(1, name, &[])), "{name}");
        }
    }

    /// Given an interface whose name says nothing: its kind, its addresses, and whether it is excluded.
    #[test]
    fn default_excludes_by_kind() {
        let default = excluded(ExcludedInterfaces::DEFAULT);
        let table: [(&str, &[&str], bool); 14] = [
            ("", &["192.0.2.11/24"], false),
            ("bridge", &["192.0.2.11/24"], false),
            ("bond", &[], false),
            ("vlan", &["192.0.2.11/24"], false),
            ("macvlan", &["192.0.2.11/24"], false),
            ("openvswitch", &["192.0.2.11/24"], false),
            ("vxlan", &["10.244.0.0/32"], true),
            ("geneve", &["192.0.2.11/24"], true),
            ("tun", &["192.168.122.1/24"], true),
            ("dummy", &["192.0.2.11/24"], true),
            // The cable of a pod: without an address, or with that of the gateway (CNI plugin `ptp`).
            ("veth", &["fe80::1/64", "169.254.1.1/16"], true),
            ("veth", &["10.244.1.1/32", "fd00::1/128"], true),
            // The cable of a node that is a container (kind).
            ("veth", &["172.18.0.3/16"], false),
            ("veth", &["fc00:f853:ccd:e793::3/64"], false),
        ];
        for (kind, addresses, expected) in table {
            let kind = Some(kind.to_owned()).filter(|kind| !kind.is_empty());
            let link = Link { kind: kind.clone(), ..link(2, "net0", addresses) };
            assert_eq!(default.matches(&link), expected, "{kind:?} {addresses:?}");
        }
    }
}
