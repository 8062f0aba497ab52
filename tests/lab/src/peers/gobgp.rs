//! GoBGP.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use serde_json::Value;

use super::path::sequence;
use super::{Host, Path};
use crate::process::{Process, Spec};
use crate::wait::wait_for;

/// Port of its gRPC service, in its own namespace.
const API: &str = "127.0.0.1:50051";

/// GoBGP on a host.
#[derive(Debug)]
pub struct GoBgp {
    host: Host,
    process: Process,
}

/// A BGP session as GoBGP reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoBgpSession {
    /// True if the session is established.
    pub established: bool,
    /// Negotiated hold time.
    pub hold_time: Duration,
    /// NOTIFICATIONs received.
    pub notifications: u64,
}

impl GoBgp {
    /// Starts GoBGP with a configuration in TOML.
    pub fn start(host: &Host, config: &str) -> Result<Self> {
        let spec = Spec::new(host.name(), "gobgpd").arg("-f").arg(host.write("gobgp.toml", config)?).args([
            "-t",
            "toml",
            "--api-hosts",
            API,
            "--pprof-disable",
        ]);
        let gobgp = Self { host: host.clone(), process: host.start(spec)? };
        wait_for("GoBGP to respond", Duration::from_secs(60), || {
            if !gobgp.process.is_running() {
                bail!("it ended: {}", gobgp.process.tail(5));
            }
            gobgp.gobgp(&["global"])
        })?;
        Ok(gobgp)
    }

    /// Returns its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Runs its command-line client.
    pub fn gobgp(&self, args: &[&str]) -> Result<String> {
        self.host.netns().output(Command::new("gobgp").args(args))
    }

    /// Returns the session with `peer`.
    pub fn session(&self, peer: IpAddr) -> Result<GoBgpSession> {
        parse_session(&self.json(&["neighbor", &peer.to_string()])?)
    }

    /// Returns all paths of its table, both families, best or not.
    pub fn paths(&self) -> Result<BTreeSet<Path>> {
        let mut paths = BTreeSet::new();
        for family in ["ipv4", "ipv6"] {
            paths.append(&mut parse_paths(&self.json(&["global", "rib", "-a", family])?)?);
        }
        Ok(paths)
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.gobgp(&[args, &["-j"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("gobgp {args:?}: {text}"))
    }
}

fn parse_session(neighbor: &Value) -> Result<GoBgpSession> {
    let number = |pointer: &str| neighbor.pointer(pointer).and_then(Value::as_u64);
    Ok(GoBgpSession {
        // SESSION_STATE of its API: 6 is ESTABLISHED.
        established: number("/state/session_state").with_context(|| format!("no state in {neighbor}"))? == 6,
        hold_time: Duration::from_secs(number("/timers/state/negotiated_hold_time").unwrap_or(0)),
        // GoBGP omits fields that are zero.
        notifications: number("/state/messages/received/notification").unwrap_or(0),
    })
}

fn parse_paths(table: &Value) -> Result<BTreeSet<Path>> {
    let mut paths = BTreeSet::new();
    for (prefix, entries) in table.as_object().into_iter().flatten() {
        let prefix: IpNet = prefix.parse().with_context(|| format!("prefix {prefix}"))?;
        for entry in entries.as_array().into_iter().flatten() {
            paths.insert(parse_path(prefix, entry).with_context(|| entry.to_string())?);
        }
    }
    Ok(paths)
}

fn parse_path(prefix: IpNet, entry: &Value) -> Result<Path> {
    let attributes = || entry["attrs"].as_array().into_iter().flatten();
    let hop = attributes().find_map(|attribute| attribute["nexthop"].as_str()).context("no next hop")?;
    let mut path = Path::new(prefix, hop.parse()?);
    if entry["stale"] == true {
        path.other.insert("stale".to_owned());
    }
    for attribute in attributes() {
        let value = attribute["value"].as_u64();
        let number = || value.and_then(|value| u32::try_from(value).ok());
        match attribute["type"].as_u64() {
            Some(1) if value == Some(0) => {}
            Some(1) => drop(path.other.insert(format!("origin {}", attribute["value"]))),
            Some(2) => path.as_path = as_path(attribute),
            Some(3 | 14) => {}
            Some(4) => drop(path.other.insert(format!("med {}", attribute["metric"]))),
            Some(5) => path.local_pref = number(),
            Some(8) => {
                let values =
                    attribute["communities"].as_array().into_iter().flatten().filter_map(Value::as_u64);
                path.communities =
                    values.map(|value| format!("{}:{}", value >> 16, value & 0xffff)).collect();
            }
            Some(32) => {
                let values = attribute["value"].as_array().into_iter().flatten();
                path.large_communities = values
                    .map(|value| format!("{}:{}:{}", value["ASN"], value["LocalData1"], value["LocalData2"]))
                    .collect();
            }
            _ => drop(path.other.insert(attribute.to_string())),
        }
    }
    Ok(path)
}

fn as_path(attribute: &Value) -> String {
    let segments = attribute["as_paths"].as_array().into_iter().flatten().map(|segment| {
        let numbers = sequence(segment["asns"].as_array().into_iter().flatten().filter_map(Value::as_u64));
        // 2 is AS_SEQUENCE.
        if segment["segment_type"] == 2 { numbers } else { format!("{{{numbers}}}") }
    });
    segments.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_parsed_with_attributes() {
        let table = json!({ "2001:db8:100::/128": [{ "attrs": [
            { "type": 1, "value": 0 },
            { "type": 2, "as_paths": [{ "segment_type": 2, "num": 2, "asns": [64513, 1] },
                                      { "segment_type": 1, "num": 1, "asns": [7] }] },
            { "type": 8, "communities": [4227924068u32] },
            { "type": 14, "nexthop": "2001:db8:1::11", "afi": 2, "safi": 1 },
            { "type": 32, "value": [{ "ASN": 64513, "LocalData1": 1, "LocalData2": 2 }] },
        ], "stale": false }], "198.51.100.1/32": [{ "attrs": [
            { "type": 1, "value": 2 }, { "type": 2, "as_paths": [] }, { "type": 3, "nexthop": "192.0.2.11" },
            { "type": 4, "metric": 9 }, { "type": 5, "value": 250 },
        ] }] });
        let paths: Vec<String> = parse_paths(&table).unwrap().iter().map(Path::to_string).collect();
        assert_eq!(
            paths,
            [
                "198.51.100.1/32 via 192.0.2.11 pref 250 also med 9 origin 2",
                "2001:db8:100::/128 via 2001:db8:1::11 path 64513 1 {7} communities 64513:100 large 64513:1:2",
            ]
        );
    }

    #[test]
    fn session_reports_negotiated_values() {
        let neighbor = json!({ "state": { "session_state": 6, "messages": { "received": { "notification": 1 } } },
                               "timers": { "state": { "negotiated_hold_time": 3 } } });
        let session = parse_session(&neighbor).unwrap();
        let expected =
            GoBgpSession { established: true, hold_time: Duration::from_secs(3), notifications: 1 };
        assert_eq!(session, expected);
    }
}
