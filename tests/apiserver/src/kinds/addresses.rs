//! Allocates clusterIPs and node ports.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// An address family by its Kubernetes name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Family> {
        match name {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        }
    }

    pub(crate) fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

/// Allocated clusterIPs and node ports. Changes take effect when committed.
#[derive(Debug)]
pub(crate) struct Addresses {
    ranges: Vec<IpNet>,
    ports: RangeInclusive<u16>,
    taken_ips: HashSet<IpAddr>,
    taken_ports: HashSet<u16>,
    undo: Vec<Undo>,
    dice: SmallRng,
}

#[derive(Clone, Copy, Debug)]
enum Undo {
    TookIp(IpAddr),
    FreedIp(IpAddr),
    TookPort(u16),
    FreedPort(u16),
}

impl Addresses {
    /// # Errors
    /// If there is no range, or two of one family.
    pub(crate) fn new(ranges: &[IpNet], ports: RangeInclusive<u16>, seed: u64) -> anyhow::Result<Addresses> {
        let families: Vec<Family> = ranges.iter().map(|range| Family::of(range.addr())).collect();
        match families[..] {
            [_] => {}
            [a, b] if a != b => {}
            _ => anyhow::bail!("service CIDRs must be one range, or two of different families"),
        }
        Ok(Addresses {
            ranges: ranges.iter().map(IpNet::trunc).collect(),
            ports,
            taken_ips: HashSet::new(),
            taken_ports: HashSet::new(),
            undo: Vec::new(),
            dice: SmallRng::seed_from_u64(seed),
        })
    }

    /// Returns the cluster's families, the primary first.
    pub(crate) fn families(&self) -> Vec<Family> {
        self.ranges.iter().map(|range| Family::of(range.addr())).collect()
    }

    /// Returns the ranges, the primary first.
    pub(crate) fn ranges(&self) -> &[IpNet] {
        &self.ranges
    }

    /// Returns the first address of the primary range, which belongs to the API server.
    pub(crate) fn first(&self) -> Option<IpAddr> {
        self.ranges.first().and_then(|range| nth(range, 1))
    }

    /// Allocates a free clusterIP. None if the range is exhausted.
    pub(crate) fn take_any_ip(&mut self, family: Family) -> Option<IpAddr> {
        let range = *self.ranges.iter().find(|range| Family::of(range.addr()) == family)?;
        let size = usable(&range);
        let start = self.dice.random_range(0..size);
        for step in 0..size {
            let ip = nth(&range, 1 + (start + step) % size)?;
            if self.taken_ips.insert(ip) {
                self.undo.push(Undo::TookIp(ip));
                return Some(ip);
            }
        }
        None
    }

    /// Allocates this clusterIP.
    ///
    /// # Errors
    /// In the words of kube-apiserver.
    pub(crate) fn take_ip(&mut self, ip: IpAddr) -> Result<(), String> {
        if !self.ranges.iter().any(|range| range.contains(&ip)) {
            let range = self
                .ranges
                .iter()
                .find(|range| Family::of(range.addr()) == Family::of(ip))
                .map(IpNet::to_string);
            return Err(format!(
                "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
                range.unwrap_or_default()
            ));
        }
        if !self.taken_ips.insert(ip) {
            return Err(format!("failed to allocate IP {ip}: provided IP is already allocated"));
        }
        self.undo.push(Undo::TookIp(ip));
        Ok(())
    }

    pub(crate) fn free_ip(&mut self, ip: IpAddr) {
        if self.taken_ips.remove(&ip) {
            self.undo.push(Undo::FreedIp(ip));
        }
    }

    /// Allocates a free node port. None if all are allocated.
    pub(crate) fn take_any_port(&mut self) -> Option<u16> {
        let size = self.ports.len();
        let start = self.dice.random_range(0..size.max(1));
        let (low, high) = (*self.ports.start(), *self.ports.end());
        let from = low.saturating_add(u16::try_from(start).unwrap_or_default());
        for port in (from..=high).chain(low..from) {
            if self.taken_ports.insert(port) {
                self.undo.push(Undo::TookPort(port));
                return Some(port);
            }
        }
        None
    }

    /// Allocates this node port.
    ///
    /// # Errors
    /// In the words of kube-apiserver.
    pub(crate) fn take_port(&mut self, port: u16) -> Result<(), String> {
        if !self.ports.contains(&port) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.ports.start(),
                self.ports.end()
            ));
        }
        if !self.taken_ports.insert(port) {
            return Err("provided port is already allocated".into());
        }
        self.undo.push(Undo::TookPort(port));
        Ok(())
    }

    pub(crate) fn free_port(&mut self, port: u16) {
        if self.taken_ports.remove(&port) {
            self.undo.push(Undo::FreedPort(port));
        }
    }

    /// Makes allocations and releases permanent.
    pub(crate) fn commit(&mut self) {
        self.undo.clear();
    }

    /// Restores the last commit.
    pub(crate) fn rollback(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::TookIp(ip) => drop(self.taken_ips.remove(&ip)),
                Undo::FreedIp(ip) => drop(self.taken_ips.insert(ip)),
                Undo::TookPort(port) => drop(self.taken_ports.remove(&port)),
                Undo::FreedPort(port) => drop(self.taken_ports.insert(port)),
            }
        }
    }
}

/// Returns the usable addresses of a range: without network and broadcast address, limited to the size of
/// kube-apiserver's bitmap.
fn usable(range: &IpNet) -> u128 {
    let bits = range.max_prefix_len() - range.prefix_len();
    let size = 1_u128.checked_shl(u32::from(bits.min(16))).unwrap_or(1 << 16);
    let reserved = if Family::of(range.addr()) == Family::V4 { 2 } else { 1 };
    size.saturating_sub(reserved).max(1)
}

fn nth(range: &IpNet, offset: u128) -> Option<IpAddr> {
    match range.addr() {
        IpAddr::V4(base) => {
            let offset = u32::try_from(offset).ok()?;
            Some(IpAddr::V4(Ipv4Addr::from(u32::from(base).checked_add(offset)?)))
        }
        IpAddr::V6(base) => Some(IpAddr::V6(Ipv6Addr::from(u128::from(base).checked_add(offset)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ranges: &[&str]) -> Addresses {
        let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Addresses::new(&ranges, 30000..=30002, 1).unwrap()
    }

    #[test]
    fn range_is_allocated_without_its_ends() {
        let mut addresses = addresses(&["10.0.0.0/29"]);
        let mut got: Vec<IpAddr> = (0..6).map(|_| addresses.take_any_ip(Family::V4).unwrap()).collect();
        got.sort();
        let all: Vec<IpAddr> = (1..7).map(|last| format!("10.0.0.{last}").parse().unwrap()).collect();
        assert_eq!(got, all);
        assert_eq!(addresses.take_any_ip(Family::V4), None);
        assert_eq!(addresses.take_any_ip(Family::V6), None);
    }

    #[test]
    fn rollback_restores_last_commit() {
        let mut addresses = addresses(&["10.0.0.0/24"]);
        let kept: IpAddr = "10.0.0.9".parse().unwrap();
        addresses.take_ip(kept).unwrap();
        addresses.commit();
        addresses.free_ip(kept);
        addresses.take_port(30001).unwrap();
        addresses.rollback();
        assert!(addresses.take_ip(kept).is_err());
        assert!(addresses.take_port(30001).is_ok());
    }

    #[test]
    fn exhausted_ports_and_bad_ranges_are_rejected() {
        let mut addresses = addresses(&["10.0.0.0/24", "fd00::/112"]);
        assert_eq!((0..3).filter_map(|_| addresses.take_any_port()).collect::<HashSet<_>>().len(), 3);
        assert_eq!(addresses.take_any_port(), None);
        assert!(addresses.take_port(80).is_err());
        assert!(Addresses::new(&[], 1..=2, 0).is_err());
        let v4: IpNet = "10.0.0.0/24".parse().unwrap();
        assert!(Addresses::new(&[v4, v4], 1..=2, 0).is_err());
    }
}
