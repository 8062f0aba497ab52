//! ExaBGP: not a router, but it records every message as received, with nothing added, dropped or preferred.
//!
//! Version 4.2 fails on some messages, such as a shutdown communication (RFC 9003). Messages are therefore
//! also recorded as octets, before ExaBGP parses them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use serde_json::Value;

use super::path::sequence;
use super::{Host, Path};
use crate::process::{Process, Spec};
use crate::wait::wait_for;

/// Its settings. With this file, ExaBGP does not read those of the host.
const SETTINGS: &str = "\
[exabgp.api]
cli = false
encoder = json
respawn = false

[exabgp.daemon]
user = 'root'

[exabgp.log]
destination = 'stderr'
";

/// Journal of an ExaBGP that the lab does not start.
const JOURNAL: &str = "/var/log/exabgp.json";

/// The beginning of a local address in the configuration that needs an interface.
const LINK_LOCAL: &str = "local-address fe80:";

/// ExaBGP on a host.
#[derive(Debug)]
pub struct ExaBgp {
    process: Process,
    journal: PathBuf,
}

/// A peer that is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Neighbor {
    /// The host's end of the session.
    pub local: IpAddr,
    /// AS number that is shown to the peer.
    pub local_as: u32,
    /// The peer's end.
    pub peer: IpAddr,
    /// AS number it must show.
    pub peer_as: u32,
    /// Hold time offered.
    pub hold_time: Duration,
    /// TCP-MD5 key of the session.
    pub password: Option<&'static str>,
}

/// A received NOTIFICATION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data.
    pub data: Vec<u8>,
}

impl ExaBgp {
    /// Starts ExaBGP with both address families on every session.
    pub fn start(host: &Host, neighbors: &[Neighbor]) -> Result<Self> {
        // A process of its configuration receives the messages on standard input.
        let mut config =
            format!("process journal {{\n run /bin/sh -c \"cat >>{JOURNAL}\";\n encoder json;\n}}\n");
        for Neighbor { local, local_as, peer, peer_as, hold_time, password } in neighbors {
            let hold_time = hold_time.as_secs();
            let password = password.map(|key| format!(" md5-password '{key}';\n")).unwrap_or_default();
            let _ = write!(
                config,
                "neighbor {peer} {{\n router-id {};\n local-address {local};\n local-as {local_as};\n \
                 peer-as {peer_as};\n hold-time {hold_time};\n passive true;\n listen 179;\n{password} \
                 family {{ ipv4 unicast; ipv6 unicast; }}\n api {{\n  processes [ journal ];\n  neighbor-changes;\n  \
                 receive {{ packets; parsed; open; update; notification; }}\n }}\n}}\n",
                host.address().v4
            );
        }
        Self::start_file(host, &config)
    }

    /// Starts ExaBGP with the contents of a complete configuration file. Where its process writes to
    /// `/var/log/exabgp.json`, it writes to the folder of the host. If a local address is a
    /// link-local one, ExaBGP listens on all addresses: it cannot bind that one, because it does not pass the
    /// interface.
    pub fn start_file(host: &Host, config: &str) -> Result<Self> {
        let journal = host.write("journal.json", "")?;
        let config = config.replace(JOURNAL, &journal.display().to_string());
        let program = std::path::Path::new("/usr/sbin/exabgp");
        let spec = Spec::new(host.name(), if program.exists() { program } else { "exabgp".as_ref() })
            .arg("--env")
            .arg(host.write("exabgp.env", SETTINGS)?)
            .arg(host.write("exabgp.conf", &config)?);
        let spec = if config.contains(LINK_LOCAL) {
            spec.env("exabgp_tcp_bind", "::").env("exabgp_tcp_port", "179")
        } else {
            spec
        };
        let exabgp = Self { process: host.start(spec)?, journal };
        wait_for("ExaBGP to run", Duration::from_secs(60), || {
            if !exabgp.process.is_running() {
                bail!("it ended: {}", exabgp.process.tail(5));
            }
            if exabgp.process.tail(50).contains("loaded new configuration") {
                return Ok(());
            }
            bail!("{}", exabgp.process.tail(1))
        })?;
        Ok(exabgp)
    }

    /// Returns its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns all records, in order.
    pub fn journal(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.journal)?;
        // The last line may be incomplete.
        let (complete, _) = text.rsplit_once('\n').unwrap_or_default();
        complete.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Returns the paths that result from the messages of all established sessions.
    pub fn paths(&self) -> Result<BTreeSet<Path>> {
        replay(&self.journal()?)
    }

    /// Returns the contents of the last OPEN of `peer`.
    pub fn open(&self, peer: IpAddr) -> Result<Value> {
        let journal = self.journal()?;
        let mut opens = journal
            .iter()
            .rev()
            .filter(|entry| is_from(entry, peer))
            .filter_map(|entry| entry.pointer("/neighbor/open"));
        opens.next().cloned().with_context(|| format!("no OPEN of {peer} yet"))
    }

    /// Returns the NOTIFICATIONs of `peer`.
    pub fn notifications(&self, peer: IpAddr) -> Result<Vec<Notification>> {
        Ok(self.messages(peer)?.into_iter().filter_map(|(kind, body)| notification(kind, &body)).collect())
    }

    /// Returns the messages of `peer`, as type (RFC 4271 §4.1) and octets after the header.
    pub fn messages(&self, peer: IpAddr) -> Result<Vec<(u8, Vec<u8>)>> {
        let journal = self.journal()?;
        Ok(journal.iter().filter(|entry| is_from(entry, peer)).filter_map(message).collect())
    }
}

fn is_from(entry: &Value, peer: IpAddr) -> bool {
    entry.pointer("/neighbor/address/peer").and_then(Value::as_str) == Some(peer.to_string().as_str())
}

/// ExaBGP records each message twice: as received, which this function reads, and as parsed.
fn message(entry: &Value) -> Option<(u8, Vec<u8>)> {
    let message = entry.pointer("/neighbor/message")?;
    let kind = u8::try_from(message.get("category")?.as_u64()?).ok()?;
    let hex = message.get("body")?.as_str()?.trim_start_matches("0x");
    let bytes = (0..hex.len() / 2).map(|i| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok());
    Some((kind, bytes.collect::<Option<_>>()?))
}

fn notification(kind: u8, body: &[u8]) -> Option<Notification> {
    match body {
        [code, subcode, data @ ..] if kind == 3 => {
            Some(Notification { code: *code, subcode: *subcode, data: data.to_vec() })
        }
        _ => None,
    }
}

fn replay(journal: &[Value]) -> Result<BTreeSet<Path>> {
    let mut tables: BTreeMap<&str, BTreeMap<IpNet, Path>> = BTreeMap::new();
    for entry in journal {
        let peer = entry.pointer("/neighbor/address/peer").and_then(Value::as_str).unwrap_or_default();
        let table = tables.entry(peer).or_default();
        if entry["type"] == "state" {
            // A new session and an ended one have no paths.
            table.clear();
        }
        let Some(update) = entry.pointer("/neighbor/message/update") else { continue };
        for withdrawn in update["withdraw"].as_object().into_iter().flat_map(|families| families.values()) {
            for nlri in withdrawn.as_array().into_iter().flatten() {
                table.remove(&prefix(nlri)?);
            }
        }
        for hops in update["announce"].as_object().into_iter().flat_map(|families| families.values()) {
            let hops = hops.as_object().into_iter().flatten();
            // A next hop of 32 octets is listed as the global and the link-local address.
            let (link_local, global): (Vec<_>, Vec<_>) = hops.partition(|(hop, _)| hop.starts_with("fe80:"));
            let hops = if global.is_empty() { link_local } else { global };
            for (hop, announced) in hops {
                for nlri in announced.as_array().into_iter().flatten() {
                    let mut path = Path::new(prefix(nlri)?, hop.parse()?);
                    attributes_of(&mut path, &update["attribute"])?;
                    table.insert(path.prefix, path);
                }
            }
        }
    }
    Ok(tables.into_values().flat_map(BTreeMap::into_values).collect())
}

fn prefix(nlri: &Value) -> Result<IpNet> {
    let text = nlri["nlri"].as_str().or(nlri.as_str()).with_context(|| nlri.to_string())?;
    text.parse().with_context(|| format!("prefix {text}"))
}

fn attributes_of(path: &mut Path, attributes: &Value) -> Result<()> {
    let tuples = |value: &Value| -> BTreeSet<String> {
        let tuples = value.as_array().into_iter().flatten();
        tuples
            .map(|tuple| {
                let numbers = tuple.as_array().into_iter().flatten().map(Value::to_string);
                numbers.collect::<Vec<_>>().join(":")
            })
            .collect()
    };
    for (name, value) in attributes.as_object().into_iter().flatten() {
        match name.as_str() {
            "origin" if value == "igp" => {}
            "as-path" => {
                path.as_path = sequence(value.as_array().into_iter().flatten().filter_map(Value::as_u64))
            }
            "as-set" | "confederation-path" | "confederation-set"
                if value.as_array().is_some_and(Vec::is_empty) => {}
            "local-preference" => path.local_pref = Some(u32::try_from(value.as_u64().unwrap_or(u64::MAX))?),
            "community" => path.communities = tuples(value),
            "large-community" => path.large_communities = tuples(value),
            _ => drop(path.other.insert(format!("{name} {value}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(peer: &str, content: Value) -> Value {
        let mut neighbor = json!({ "address": { "local": "192.0.2.8", "peer": peer } });
        if let (Some(neighbor), Some(content)) = (neighbor.as_object_mut(), content.as_object()) {
            neighbor.extend(content.clone());
        }
        neighbor
    }

    fn update(peer: &str, update: Value) -> Value {
        json!({ "type": "update", "neighbor": of(peer, json!({ "message": { "update": update } })) })
    }

    fn paths(journal: &[Value]) -> Vec<String> {
        replay(journal).unwrap().iter().map(Path::to_string).collect()
    }

    #[test]
    fn notification_is_parsed() {
        let raw = json!({ "message": { "body": "0x0602026869", "category": 3, "header": "0xFFFF" } });
        let entry = json!({ "type": "notification", "neighbor": of("192.0.2.12", raw) });
        let (kind, body) = message(&entry).unwrap();
        let expected = Notification { code: 6, subcode: 2, data: b"\x02hi".to_vec() };
        assert_eq!(notification(kind, &body), Some(expected));
        assert_eq!(
            message(&update("192.0.2.12", json!({}))),
            None,
            "the parsed record is not a second message"
        );
    }

    #[test]
    fn session_messages_result_in_paths() {
        let attribute = json!({ "origin": "igp", "as-path": [64513], "confederation-path": [],
            "community": [[64513, 100]], "large-community": [[64513, 1, 2]], "med": 5 });
        let announce = json!({ "attribute": attribute, "announce": { "ipv4 unicast": { "192.0.2.12": [
            { "nlri": "198.51.100.0/32" }, { "nlri": "198.51.100.1/32" } ] } } });
        let mut journal = vec![
            json!({ "type": "state", "neighbor": of("192.0.2.12", json!({ "state": "up" })) }),
            update("192.0.2.12", announce),
            json!({ "type": "update",
                    "neighbor": of("192.0.2.12", json!({ "message": { "eor": { "afi": "ipv4" } } })) }),
        ];
        let rest = "via 192.0.2.12 path 64513 communities 64513:100 large 64513:1:2 also med 5";
        assert_eq!(paths(&journal), [format!("198.51.100.0/32 {rest}"), format!("198.51.100.1/32 {rest}")]);

        journal.push(update(
            "192.0.2.12",
            json!({ "withdraw": { "ipv4 unicast": [{ "nlri": "198.51.100.0/32" }] } }),
        ));
        assert_eq!(paths(&journal), [format!("198.51.100.1/32 {rest}")]);

        journal.push(json!({ "type": "state", "neighbor": of("192.0.2.12", json!({ "state": "down" })) }));
        assert_eq!(paths(&journal), <[String; 0]>::default());
    }
}
