//! The router: FRR (zebra, bgpd, bfdd) in its own namespace, and its tables.
//!
//! Its files and sockets are in the lab's folder, not in `/etc/frr` and `/var/run/frr`, so that it never
//! meets the host's FRR or the FRR of another lab.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use serde_json::Value;

use crate::addresses::{self, ROUTER_ASN, SPEAKER_ASN};
use crate::netns::{self, Netns};
use crate::process::{Process, Spec};
use crate::route_monitor::RouteMonitor;
use crate::wait::wait_for;

/// Location of the daemons in Debian's `frr` package.
const FRR_DIR: &str = "/usr/lib/frr";

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 unicast.
    V4,
    /// IPv6 unicast.
    V6,
}

impl Family {
    /// Both families.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn frr(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }
}

/// Prefixes, each with its next hops.
pub type Routes = BTreeMap<IpNet, BTreeSet<IpAddr>>;

/// A BGP session as the router reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterSession {
    /// `Established`, `Active`, …
    pub state: String,
    /// Prefixes accepted from the peer.
    pub prefixes: u64,
}

/// FRR in the router's namespace.
#[derive(Debug)]
pub struct Router {
    netns: Netns,
    dir: PathBuf,
    daemons: Vec<Process>,
}

impl Router {
    /// Starts FRR; `extra` are lines of configuration inside `router bgp`.
    pub fn start(netns: &Netns, dir: &Path, logs: &Path, extra: &str) -> Result<Self> {
        let dir = dir.join("frr");
        fs::create_dir(&dir)?;
        // The daemons drop root for the user `frr`.
        std::os::unix::fs::chown(&dir, Some(id_of("frr", "-u")?), Some(id_of("frr", "-g")?))?;
        let mut router = Self { netns: netns.clone(), dir, daemons: Vec::new() };
        router.launch("zebra", "ip forwarding\nipv6 forwarding\n", logs)?;
        router.wait_for_socket("zserv.api")?;
        router.launch("bgpd", &bgpd_conf(extra), logs)?;
        router.launch("bfdd", "", logs)?;
        router.wait_for_socket("bgpd.vty")?;
        router.wait_for_socket("bfdd.vty")?;
        wait_for("bgpd to respond", Duration::from_secs(60), || router.vtysh("show bgp summary json"))?;
        Ok(router)
    }

    /// Runs a vtysh command and returns its output.
    pub fn vtysh(&self, command: &str) -> Result<String> {
        netns::output(Command::new("vtysh").arg("--vty_socket").arg(&self.dir).args(["-c", command]))
    }

    /// Runs several vtysh commands in order, such as the lines of a configuration change.
    pub fn configure(&self, lines: &[&str]) -> Result<String> {
        let mut vtysh = Command::new("vtysh");
        vtysh.arg("--vty_socket").arg(&self.dir).args(["-c", "configure terminal"]);
        for line in lines {
            vtysh.args(["-c", line]);
        }
        netns::output(&mut vtysh)
    }

    /// Returns the equivalent command line for a terminal.
    pub fn vtysh_command(&self) -> String {
        format!("vtysh --vty_socket {}", self.dir.display())
    }

    /// Runs a vtysh command that prints JSON.
    pub fn json(&self, command: &str) -> Result<Value> {
        let text = self.vtysh(command)?;
        serde_json::from_str(&text).with_context(|| format!("{command}: {text}"))
    }

    /// Returns the routes in the BGP table with the selected next hops (best and multipath).
    pub fn bgp_routes(&self, family: Family) -> Result<Routes> {
        parse_bgp(&self.json(&format!("show bgp {} unicast json", family.frr()))?)
    }

    /// Returns the BGP routes in the router's kernel.
    pub fn kernel_routes(&self, family: Family) -> Result<Routes> {
        let text = self.netns.output(Command::new("ip").args([
            "-json",
            family.flag(),
            "route",
            "show",
            "proto",
            "bgp",
        ]))?;
        let text = if text.trim().is_empty() { "[]" } else { text.as_str() };
        parse_kernel(&serde_json::from_str(text)?)
    }

    /// Follows the changes of the BGP routes in the router's kernel.
    pub fn monitor_routes(&self) -> Result<RouteMonitor> {
        RouteMonitor::start(&self.netns)
    }

    /// Returns how many sessions with each peer ended since the router knows the peer (`connectionsDropped`).
    pub fn dropped_sessions(&self) -> Result<BTreeMap<IpAddr, u64>> {
        let neighbors = self.json("show bgp neighbors json")?;
        let dropped = |neighbor: &Value| neighbor["connectionsDropped"].as_u64().unwrap_or_default();
        let neighbors = neighbors.as_object().into_iter().flatten();
        // An unnumbered neighbor has the name of an interface.
        let numbered = neighbors.filter_map(|(name, neighbor)| Some((name.parse().ok()?, dropped(neighbor))));
        Ok(numbered.collect())
    }

    /// Returns the weights of the next hops of a route in the router's kernel; 1 for a single next hop.
    pub fn kernel_weights(&self, prefix: IpNet) -> Result<BTreeMap<IpAddr, u64>> {
        let family = if prefix.addr().is_ipv4() { "-4" } else { "-6" };
        let mut ip = Command::new("ip");
        ip.args(["-json", family, "route", "show", "proto", "bgp", &prefix.to_string()]);
        let routes: Value = serde_json::from_str(&self.netns.output(&mut ip)?)?;
        let route = routes.get(0).with_context(|| format!("no route to {prefix}"))?;
        let hops = route["nexthops"].as_array();
        let hops = hops.map_or_else(|| vec![route], |hops| hops.iter().collect());
        hops.into_iter()
            .map(|hop| {
                let gateway = hop["gateway"].as_str().with_context(|| format!("next hop {hop}"))?;
                Ok((gateway.parse()?, hop["weight"].as_u64().unwrap_or(1)))
            })
            .collect()
    }

    /// Returns the BGP sessions by address of the peer.
    pub fn sessions(&self) -> Result<BTreeMap<IpAddr, RouterSession>> {
        parse_sessions(&self.json("show bgp summary json")?)
    }

    /// Returns the daemons, so that a test can kill and restart them.
    pub fn daemon(&self, name: &str) -> Option<&Process> {
        self.daemons.iter().find(|daemon| daemon.name() == name)
    }

    fn launch(&mut self, daemon: &str, configuration: &str, logs: &Path) -> Result<()> {
        let file = |name: &str| self.dir.join(name);
        let conf = file(&format!("{daemon}.conf"));
        fs::write(&conf, format!("hostname router\nlog stdout\n{configuration}"))?;
        fs::set_permissions(&conf, fs::Permissions::from_mode(0o644))?;
        let mut spec = Spec::new(daemon, Path::new(FRR_DIR).join(daemon))
            .arg("-f")
            .arg(conf)
            .arg("-z")
            .arg(file("zserv.api"))
            .arg("--vty_socket")
            .arg(&self.dir)
            .arg("-i")
            .arg(file(&format!("{daemon}.pid")))
            // vty listens on its socket only, not on TCP.
            .args(["-P", "0"]);
        if daemon == "bfdd" {
            spec = spec.arg("--bfdctl").arg(file("bfdd.sock"));
        }
        self.daemons.push(Process::start(spec, &self.netns, logs)?);
        Ok(())
    }

    fn wait_for_socket(&self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        wait_for(format!("FRR's socket {name}"), Duration::from_secs(60), || {
            if let Some(dead) = self.daemons.iter().find(|daemon| !daemon.is_running()) {
                return Err(format!("{} ended: {}", dead.name(), dead.tail(5)));
            }
            if path.exists() { Ok(()) } else { Err("not there yet".to_owned()) }
        })
    }
}

fn id_of(user: &str, which: &str) -> Result<u32> {
    let text = netns::output(Command::new("id").args([which, user]))
        .context("the user frr does not exist; install Debian's package frr")?;
    Ok(text.trim().parse()?)
}

fn bgpd_conf(extra: &str) -> String {
    let router = addresses::router().v4;
    let family = |name: &str| {
        format!(
            " address-family {name} unicast\n  neighbor speakers activate\n  neighbor speakers6 activate\n  \
             maximum-paths 16\n  maximum-paths ibgp 16\n exit-address-family\n"
        )
    };
    let (v4, v6) = (family("ipv4"), family("ipv6"));
    format!(
        "router bgp {ROUTER_ASN}\n bgp router-id {router}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n timers bgp 3 9\n \
         neighbor speakers peer-group\n neighbor speakers remote-as {SPEAKER_ASN}\n \
         neighbor speakers6 peer-group\n neighbor speakers6 remote-as {SPEAKER_ASN}\n \
         bgp listen limit 200\n \
         bgp listen range 192.0.2.0/24 peer-group speakers\n \
         bgp listen range 2001:db8:1::/64 peer-group speakers6\n{extra}\n{v4}{v6}exit\n"
    )
}

fn parse_bgp(table: &Value) -> Result<Routes> {
    let Some(routes) = table.get("routes").and_then(Value::as_object) else {
        return Ok(Routes::new());
    };
    let mut found = Routes::new();
    for (prefix, paths) in routes {
        let prefix: IpNet = prefix.parse().with_context(|| format!("prefix {prefix}"))?;
        for path in paths.as_array().into_iter().flatten() {
            let yes = |key: &str| path.get(key).and_then(Value::as_bool).unwrap_or(false);
            if !(yes("bestpath") || yes("multipath")) {
                continue;
            }
            for hop in path.get("nexthops").and_then(Value::as_array).into_iter().flatten() {
                // A path over IPv6 lists the global and the link-local next hop.
                if hop.get("scope").and_then(Value::as_str) == Some("link-local") {
                    continue;
                }
                let Some(ip) = hop.get("ip").and_then(Value::as_str) else { bail!("next hop {hop}") };
                found.entry(prefix).or_default().insert(ip.parse()?);
            }
        }
    }
    Ok(found)
}

fn parse_kernel(routes: &Value) -> Result<Routes> {
    let mut found = Routes::new();
    for route in routes.as_array().into_iter().flatten() {
        let Some(text) = route.get("dst").and_then(Value::as_str) else { continue };
        let prefix: IpNet = match text.parse() {
            Ok(prefix) => prefix,
            Err(_) => IpNet::from(text.parse::<IpAddr>().with_context(|| format!("route to {text}"))?),
        };
        let hops = match route.get("nexthops").and_then(Value::as_array) {
            Some(hops) => hops.iter().collect(),
            None => vec![route],
        };
        let entry = found.entry(prefix).or_default();
        for hop in hops {
            let gateway = hop.get("gateway").or_else(|| hop.get("via").and_then(|via| via.get("host")));
            if let Some(ip) = gateway.and_then(Value::as_str) {
                entry.insert(ip.parse()?);
            }
        }
    }
    Ok(found)
}

fn parse_sessions(summary: &Value) -> Result<BTreeMap<IpAddr, RouterSession>> {
    let mut sessions = BTreeMap::new();
    for family in ["ipv4Unicast", "ipv6Unicast"] {
        let peers = summary.get(family).and_then(|f| f.get("peers")).and_then(Value::as_object);
        for (address, peer) in peers.into_iter().flatten() {
            // An unnumbered neighbor has the name of an interface.
            let Ok(address) = address.parse() else { continue };
            let state = peer.get("state").and_then(Value::as_str).unwrap_or("?").to_owned();
            let prefixes = peer.get("pfxRcd").and_then(Value::as_u64).unwrap_or(0);
            let session =
                sessions.entry(address).or_insert(RouterSession { state: state.clone(), prefixes: 0 });
            session.prefixes += prefixes;
        }
    }
    Ok(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unused_paths_are_not_counted() {
        let table = json!({ "routes": { "198.51.100.1/32": [
            { "valid": true, "bestpath": true, "nexthops": [{ "ip": "192.0.2.11", "used": true }] },
            { "valid": true, "multipath": true, "nexthops": [{ "ip": "192.0.2.12" }] },
            { "valid": true, "nexthops": [{ "ip": "192.0.2.13" }] },
        ], "2001:db8:100::1/128": [ { "bestpath": true, "nexthops": [
            { "ip": "2001:db8:1::11", "scope": "global" }, { "ip": "fe80::1", "scope": "link-local" } ] } ] } });
        let routes = parse_bgp(&table).unwrap();
        let shown: Vec<String> = routes.iter().map(|(p, n)| format!("{p} via {n:?}")).collect();
        assert_eq!(
            shown,
            ["198.51.100.1/32 via {192.0.2.11, 192.0.2.12}", "2001:db8:100::1/128 via {2001:db8:1::11}"]
        );
    }

    #[test]
    fn kernel_host_route_without_length_is_parsed() {
        let routes = json!([
            { "dst": "198.51.100.1", "gateway": "192.0.2.11" },
            { "dst": "198.51.100.2", "nexthops": [{ "gateway": "192.0.2.11" }, { "gateway": "192.0.2.12" }] },
        ]);
        let routes = parse_kernel(&routes).unwrap();
        assert_eq!(routes.len(), 2);
        assert_eq!(routes[&"198.51.100.2/32".parse().unwrap()].len(), 2);
    }
}
