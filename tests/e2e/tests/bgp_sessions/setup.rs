//! One lab for all tests here: two nodes with sessions to FRR, and BIRD on a host of its own.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use fairlead_e2e::{SOON, Shared, VERSION, configure};
use fairlead_lab::peers::{Bird, Host};
use fairlead_lab::{Builder, Lab, wait_for};
use serde_json::{Value, json};

pub(crate) static LAB: Shared = Shared::new(builder, configure);

fn builder() -> Builder {
    let lab = Lab::builder().nodes(2).router_config(STATIC);
    lab.speaker_arg("--daemonset").speaker_arg("fairlead-speaker")
}

/// FRR applies the options of the TTL only to neighbors that are configured one by one, here those for IPv4.
const STATIC: &str = "
 neighbor 192.0.2.11 remote-as 64513
 neighbor 192.0.2.11 passive
 neighbor 192.0.2.12 remote-as 64513
 neighbor 192.0.2.12 passive
 address-family ipv4 unicast
  neighbor 192.0.2.11 activate
  neighbor 192.0.2.12 activate
 exit-address-family
";

/// Returns the BGPPeer with this name.
pub(crate) fn peer(name: &str) -> Value {
    json!({ "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": name } })
}

/// Starts BIRD at `192.0.2.N` with AS number 64700. `template` contains the options of its sessions with both
/// nodes, which are the protocols n1 and n2.
pub(crate) fn bird(lab: &Lab, name: &str, n: u8, template: &str) -> Bird {
    let host = Host::plug(lab, name, n).unwrap();
    Bird::start(&host, &bird_config(n, template)).unwrap()
}

/// Returns the configuration of [`bird`].
pub(crate) fn bird_config(n: u8, template: &str) -> String {
    let protocols = [(1, 11), (2, 12)].map(|(node, address)| {
        format!("protocol bgp n{node} from node {{ neighbor 192.0.2.{address} as 64513; }}\n")
    });
    format!(
        "template bgp node {{ local 192.0.2.{n} as 64700; passive; error wait time 1, 2; \
         ipv4 {{ import all; export none; }}; {template} }}\n{}",
        protocols.concat()
    )
}

/// Returns the session with `peer` in the Speaker object of `node`.
pub(crate) fn session(lab: &Lab, node: &str, peer: &str) -> Result<Value> {
    let speaker = lab.api()?.get(VERSION, "Speaker", None, node)?;
    let sessions = speaker.pointer("/status/sessions").and_then(Value::as_array);
    let session = sessions.into_iter().flatten().find(|session| session["peer"] == peer);
    session.cloned().ok_or_else(|| anyhow!("no session with {peer} in {speaker}"))
}

/// Waits until `node` reports that the session with `peer` is established.
pub(crate) fn expect_established(lab: &Lab, node: &str, peer: &str) {
    wait_for(format!("{node}'s session with {peer}"), 2 * SOON, || {
        let session = session(lab, node, peer)?;
        ensure!(session["state"] == "Established", "{session}");
        Ok(())
    })
    .unwrap();
}

/// Waits until `node` reports this in the messages of its session with `peer`.
pub(crate) fn expect_message(lab: &Lab, node: &str, peer: &str, words: &str) {
    wait_for(format!("{node} to report {words:?} for {peer}"), 2 * SOON, || {
        let session = session(lab, node, peer)?;
        let messages = session["messages"].as_array().into_iter().flatten().filter_map(Value::as_str);
        ensure!(messages.into_iter().any(|message| message.contains(words)), "{session}");
        Ok(())
    })
    .unwrap();
}

/// Waits until the last error of `node` with `peer` contains all of `words`, and the session is not
/// established.
pub(crate) fn expect_error(lab: &Lab, node: &str, peer: &str, words: &[&str], limit: Duration) {
    wait_for(format!("{node} to report {words:?} for {peer}"), limit, || {
        let session = session(lab, node, peer)?;
        let error = session["lastError"].as_str().unwrap_or_default();
        ensure!(session["state"] != "Established", "{session}");
        ensure!(words.iter().all(|word| error.contains(word)), "{session}");
        Ok(())
    })
    .unwrap();
}
