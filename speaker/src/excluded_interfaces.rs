//! The interfaces that L2 announcements never use.

use std::convert::Infallible;
use std::str::FromStr;

/// Patterns of interface names. `*` matches any text, also none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludedInterfaces(Vec<String>);

impl ExcludedInterfaces {
    /// Interfaces of container runtimes, network plugins and virtual machines. Equal to MetalLB's default.
    pub const DEFAULT: &str = "lo,docker*,cbr*,dummy*,virbr*,lxcbr*,veth*,cali*,tunl*,flannel*,\
                               kube-ipvs*,cni*,nodelocaldns*,lxc*";

    /// Returns whether the interface with this name is excluded.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| matches_pattern(pattern, name))
    }
}

impl FromStr for ExcludedInterfaces {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()))
    }
}

/// Returns whether the name begins with the first piece of the pattern, ends with the last, and contains the
/// others in order between them.
fn matches_pattern(pattern: &str, name: &str) -> bool {
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
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn empty_list_excludes_nothing() {
        let excluded: ExcludedInterfaces = "".parse().unwrap();
        assert!(!excluded.matches("lo"));
    }

    #[test]
    fn default_excludes_virtual_and_not_physical_interfaces() {
        let excluded: ExcludedInterfaces = ExcludedInterfaces::DEFAULT.parse().unwrap();
        for name in ["eth0", "ens3", "enp1s0f0", "bond0", "br0", "vlan100", "wlan0"] {
            assert!(!excluded.matches(name), "{name}");
        }
        for name in ["lo", "docker0", "veth1", "cali123", "cni0", "lxc_health", "kube-ipvs0", "nodelocaldns"]
        {
            assert!(excluded.matches(name), "{name}");
        }
    }
}
