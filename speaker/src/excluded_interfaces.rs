//! Which interfaces are left out of L2 announcements.

use std::convert::Infallible;
use std::str::FromStr;

/// Patterns of interface names, in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded(Vec<String>);

impl Excluded {
    /// Interfaces of container runtimes, network plugins and virtual machines: the same as MetalLB's.
    pub const DEFAULT: &str = "lo,docker*,cbr*,dummy*,virbr*,lxcbr*,veth*,cali*,tunl*,flannel*,kube-ipvs*,cni*,\
                               nodelocaldns*,lxc*";

    /// Whether an interface is left out.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern, name))
    }
}

impl FromStr for Excluded {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()))
    }
}

/// Matches piece by piece: the first at the start, the last at the end, the others in order in between.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match name.find(piece) {
            Some(at) => name = &name[at + piece.len()..],
            None => return false,
        }
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
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
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn an_empty_list_leaves_nothing_out() {
        let excluded: Excluded = "".parse().unwrap();
        assert!(!excluded.matches("lo"));
    }

    #[test]
    fn the_default_leaves_the_usual_names_of_real_interfaces() {
        let excluded: Excluded = Excluded::DEFAULT.parse().unwrap();
        for name in ["eth0", "ens3", "enp1s0f0", "bond0", "br0", "vlan100", "wlan0"] {
            assert!(!excluded.matches(name), "{name}");
        }
        for name in ["lo", "docker0", "veth1", "cali123", "cni0", "lxc_health", "kube-ipvs0", "nodelocaldns"]
        {
            assert!(excluded.matches(name), "{name}");
        }
    }
}
