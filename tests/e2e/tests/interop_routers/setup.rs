//! One lab with all routers, for all tests here.
//!
//! | router | AS | address | session |
//! |---|---|---|---|
//! | FRR | 64512 | `.1`, `::1` | eBGP, one per family |
//! | `bird` | 4200000005 | `.5` | eBGP from AS 4200000001, TCP-MD5, both families; announces 500 routes itself |
//! | `gobgp` | 64600 | `.6`, `::6` | eBGP, one per family, TCP-MD5, hold time 3 s |
//! | `ibgp` (BIRD) | 64513 | `::7` | iBGP over IPv6, both families, graceful restart |
//! | `exabgp` | 64700 | `.8` | eBGP, TCP-MD5, both families |
//! | `old` (BIRD) | 64900 | `.9` | eBGP from AS 4200000001; supports only two-octet AS numbers |
//!
//! `bird` and `gobgp` also accept sessions between link-local addresses, for the test that needs them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use fairlead_e2e::{LbService, Policy, SECOND, SOON};
use fairlead_lab::peers::{Bird, ExaBgp, GoBgp, Host, Neighbor};
use fairlead_lab::{LAN_INTERFACE, Lab, Process, wait_for};
use serde_json::{Value, json};

/// BGPPeer objects except [`RESTARTING`].
pub(crate) const PEERS: [&str; 7] = ["frr-v4", "frr-v6", "bird", "gobgp-v4", "gobgp-v6", "exabgp", "old"];
/// The peer that offers graceful restart.
pub(crate) const RESTARTING: &str = "ibgp";

/// The TCP-MD5 key of BIRD, GoBGP and ExaBGP, as in [`CONFIG`] and [`BIRD`].
const KEY: &str = "a fine day for a walk";

const CONFIG: &str = "
apiVersion: v1
kind: Secret
metadata: { name: bird, namespace: fairlead-system }
type: kubernetes.io/basic-auth
stringData: { username: '', password: a fine day for a walk }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: single }
spec: { addresses: [198.51.100.0/24, '2001:db8:100::/64'], autoAssign: false }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: whole }
spec: { addresses: [198.51.101.0/24, '2001:db8:101::/64'], autoAssign: false }
---
apiVersion: fairlead.dev/v1beta1
kind: Community
metadata: { name: names }
spec: { communities: [{ name: keep-inside, value: '65535:65281' }] }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: single }
spec:
  ipAddressPools: [single]
  localPref: 250
  communities: ['64513:100', keep-inside, 'large:64513:1:2', 'large:4200000001:0:4294967295']
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: whole }
spec: { ipAddressPools: [whole], aggregationLength: 24, aggregationLengthV6: 64, peers: [bird, ibgp] }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: frr-v4 }
spec: { myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, holdTime: 9s, connectTime: 1s }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: frr-v6 }
spec: { myASN: 64513, dynamicASN: external, peerAddress: '2001:db8:1::1', holdTime: 9s, connectTime: 1s }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: bird }
spec: { myASN: 64513, localASN: 4200000001, peerASN: 4200000005, peerAddress: 192.0.2.5, holdTime: 30s, connectTime: 1s,
        dualStackAddressFamily: true, passwordSecret: { name: bird } }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: gobgp-v4 }
spec: { myASN: 64513, peerASN: 64600, peerAddress: 192.0.2.6, holdTime: 3s, connectTime: 1s,
        passwordSecret: { name: bird } }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: gobgp-v6 }
spec: { myASN: 64513, peerASN: 64600, peerAddress: '2001:db8:1::6', holdTime: 3s, connectTime: 1s,
        passwordSecret: { name: bird } }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: ibgp }
spec: { myASN: 64513, dynamicASN: internal, peerAddress: '2001:db8:1::7', holdTime: 9s, connectTime: 1s,
        dualStackAddressFamily: true, enableGracefulRestart: true }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: exabgp }
spec: { myASN: 64513, peerASN: 64700, peerAddress: 192.0.2.8, holdTime: 9s, connectTime: 1s,
        dualStackAddressFamily: true, passwordSecret: { name: bird } }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: old }
spec: { myASN: 4200000001, peerASN: 64900, peerAddress: 192.0.2.9, holdTime: 9s, connectTime: 1s }
";

/// Its own routes have attributes that the speakers never send.
const BIRD: &str = "
filter everything {
    if source != RTS_STATIC then reject;
    bgp_path.prepend(64999);
    bgp_med = 77;
    bgp_community.add((65535, 666));
    bgp_ext_community.add((rt, 64999, 5));
    bgp_large_community.add((64999, 1, 1));
    accept;
}
template bgp node {
    local 192.0.2.5 as 4200000005;
    passive yes;
    error wait time 1, 2;
    hold time 6;
    password \"a fine day for a walk\";
    ipv4 { import all; export filter everything; };
    ipv6 { import all; export none; };
}
protocol bgp n1 from node { neighbor 192.0.2.11 as 4200000001; }
protocol bgp n2 from node { neighbor 192.0.2.12 as 4200000001; }
";

const IBGP: &str = "
template bgp node {
    local 2001:db8:1::7 as 64513;
    direct;
    passive yes;
    error wait time 1, 2;
    hold time 90;
    ipv4 { import all; export none; };
    ipv6 { import all; export none; };
}
protocol bgp n1 from node { neighbor 2001:db8:1::11 as 64513; }
protocol bgp n2 from node { neighbor 2001:db8:1::12 as 64513; }
";

const OLD: &str = "
template bgp node {
    local 192.0.2.9 as 64900;
    passive yes;
    error wait time 1, 2;
    enable as4 no;
    hold time 90;
    ipv4 { import all; export none; };
}
protocol bgp n1 from node { neighbor 192.0.2.11 external; }
protocol bgp n2 from node { neighbor 192.0.2.12 external; }
";

const GOBGP: &str = "
[global.config]
as = 64600
router-id = '192.0.2.6'
";

/// The lab and its routers.
pub(crate) struct Setup {
    pub bird: Bird,
    pub ibgp: Bird,
    pub old: Bird,
    pub gobgp: GoBgp,
    pub exabgp: ExaBgp,
    // The last field: dropping it ends the routers.
    pub lab: Lab,
}

static SETUP: Mutex<Option<Setup>> = Mutex::new(None);

/// Exclusive use of the lab by one test.
pub(crate) struct Turn(MutexGuard<'static, Option<Setup>>);

/// Waits for the lab, with every process running and every session established.
pub(crate) fn turn() -> Turn {
    let mut setup = SETUP.lock().unwrap_or_else(PoisonError::into_inner);
    if setup.is_none() {
        *setup = Some(Setup::start().unwrap_or_else(|error| panic!("{error:#}")));
    }
    let turn = Turn(setup);
    turn.restore().unwrap();
    turn
}

impl Deref for Turn {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // A failed test leaves the lab in an unknown state. Dropped during a panic, the lab keeps its logs.
        if std::thread::panicking() {
            *self.0 = None;
        }
    }
}

impl Setup {
    fn start() -> Result<Self> {
        let lab = Lab::builder().nodes(2).start()?;
        let peers: Vec<IpAddr> = lab.nodes().iter().map(|node| node.addresses()[0]).collect();
        let host = |name: &str, n| Host::plug(&lab, name, n);
        let exabgp = host("exabgp", 8)?;
        let neighbor = |peer: &IpAddr| Neighbor {
            local: exabgp.address().v4.into(),
            local_as: 64700,
            peer: *peer,
            peer_as: 64513,
            hold_time: 90 * SECOND,
            password: Some(KEY),
        };
        let bird = host("bird", 5)?;
        let routes: String =
            (0..500).map(|n| format!("route 10.{}.{}.0/24 blackhole;\n", n / 250, n % 250)).collect();
        let statics = format!("protocol static {{ ipv4;\n{routes}}}\n");
        let setup = Self {
            exabgp: ExaBgp::start(&exabgp, &peers.iter().map(neighbor).collect::<Vec<_>>())?,
            bird: Bird::start(&bird, &(statics + BIRD + &bird_link_local(&lab, &bird)?))?,
            ibgp: Bird::start(&host("ibgp", 7)?, IBGP)?,
            old: Bird::start(&host("old", 9)?, OLD)?,
            gobgp: GoBgp::start(&host("gobgp", 6)?, &gobgp_config(&lab)?)?,
            lab,
        };
        setup.lab.api()?.apply(CONFIG)?;
        for service in services() {
            service.up(&setup.lab)?;
        }
        Ok(setup)
    }

    fn restore(&self) -> Result<()> {
        let speakers = self.lab.nodes().iter().filter_map(|node| node.speaker().ok());
        for process in speakers.chain(self.routers().into_values()) {
            if process.is_running() {
                process.resume()?;
            } else {
                process.spawn_again()?;
            }
        }
        self.expect_sessions(&PEERS)?;
        self.expect_sessions(&[RESTARTING])
    }

    /// Returns the processes of the routers other than FRR.
    pub(crate) fn routers(&self) -> BTreeMap<&str, &Process> {
        [
            self.bird.process(),
            self.ibgp.process(),
            self.old.process(),
            self.gobgp.process(),
            self.exabgp.process(),
        ]
        .map(|process| (process.name(), process))
        .into()
    }

    /// Returns the session with `peer` in the Speaker object of `node`.
    pub(crate) fn session(&self, node: &str, peer: &str) -> Result<Value> {
        let speaker = self.lab.api()?.get("fairlead.dev/v1beta1", "Speaker", None, node)?;
        let sessions = speaker.pointer("/status/sessions").and_then(Value::as_array);
        let session = sessions.into_iter().flatten().find(|session| session["peer"] == peer);
        session.cloned().ok_or_else(|| anyhow!("no session with {peer} in {speaker}"))
    }

    /// Waits until all nodes report established sessions with these peers.
    pub(crate) fn expect_sessions(&self, peers: &[&str]) -> Result<()> {
        for node in self.lab.nodes() {
            for peer in peers {
                wait_for(format!("{}'s session with {peer}", node.name()), Duration::from_secs(45), || {
                    let session = self.session(node.name(), peer)?;
                    ensure!(session["state"] == "Established", "{session}");
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Waits until the last error of every node with `peer` contains all of `words`, and the session is not
    /// established.
    pub(crate) fn expect_error(&self, peer: &str, words: &[&str]) -> Result<()> {
        for node in self.lab.nodes() {
            wait_for(format!("{} to report {words:?} for {peer}", node.name()), SOON, || {
                let session = self.session(node.name(), peer)?;
                let error = session["lastError"].as_str().unwrap_or_default();
                ensure!(session["state"] != "Established", "{session}");
                ensure!(words.iter().all(|word| error.contains(word)), "{session}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until every node has an established session with `peer` and this message about it.
    pub(crate) fn expect_message(&self, peer: &str, message: &str) -> Result<()> {
        for node in self.lab.nodes() {
            wait_for(format!("{} to report {message:?} for {peer}", node.name()), SOON, || {
                let session = self.session(node.name(), peer)?;
                let mut messages = session["messages"].as_array().into_iter().flatten();
                ensure!(session["state"] == "Established", "{session}");
                ensure!(messages.any(|seen| seen == message), "{session}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Changes the spec of a BGPPeer.
    pub(crate) fn change_peer(&self, name: &str, spec: Value) -> Result<()> {
        let object =
            json!({ "apiVersion": "fairlead.dev/v1beta1", "kind": "BGPPeer", "metadata": { "name": name } });
        self.lab.api()?.merge(object, json!({ "spec": spec }))
    }
}

/// Services that exist during all tests.
pub(crate) fn services() -> [LbService; 4] {
    [
        service("everywhere", "single", "198.51.100.10,2001:db8:100::10"),
        service("on-n1", "single", "198.51.100.20,2001:db8:100::20").policy(Policy::Local).on("n1"),
        // Two addresses of one prefix.
        service("whole-a", "whole", "198.51.101.1,2001:db8:101::1"),
        service("whole-b", "whole", "198.51.101.2,2001:db8:101::2"),
    ]
}

/// Returns a Service with these addresses.
pub(crate) fn service(name: &str, pool: &str, addresses: &str) -> LbService {
    LbService::new(name, pool).annotation("fairlead.dev/load-balancer-ips", addresses)
}

/// Returns the sessions of BIRD between link-local addresses: `ll1` with n1, `ll2` with n2.
fn bird_link_local(lab: &Lab, bird: &Host) -> Result<String> {
    let mut config = format!(
        "template bgp link_local {{\n local {} as 4200000005;\n interface \"{LAN_INTERFACE}\";\n direct;\n \
         passive yes;\n error wait time 1, 2;\n hold time 90;\n \
         ipv4 {{ import all; export none; extended next hop yes; }};\n \
         ipv6 {{ import all; export none; }};\n}}\n",
        bird.netns().link_local(LAN_INTERFACE)?
    );
    for (address, node) in node_link_locals(lab)?.iter().zip(1..) {
        config += &format!("protocol bgp ll{node} from link_local {{ neighbor {address} as 64513; }}\n");
    }
    Ok(config)
}

/// Returns the link-local addresses of the nodes on the LAN.
pub(crate) fn node_link_locals(lab: &Lab) -> Result<Vec<Ipv6Addr>> {
    lab.network().nodes.iter().map(|node| node.netns.link_local(LAN_INTERFACE)).collect()
}

fn gobgp_config(lab: &Lab) -> Result<String> {
    let neighbors = lab.nodes().iter().flat_map(|node| node.addresses()).map(|address| {
        let family = if address.is_ipv4() { "ipv4-unicast" } else { "ipv6-unicast" };
        format!(
            "[[neighbors]]\nconfig = {{ neighbor-address = '{address}', peer-as = 64513, auth-password = '{KEY}' }}\n\
             transport.config = {{ passive-mode = true }}\ntimers.config = {{ hold-time = 9 }}\n\
             [[neighbors.afi-safis]]\nconfig = {{ afi-safi-name = '{family}' }}\n"
        )
    });
    let mut config = GOBGP.to_owned() + &neighbors.collect::<String>();
    for address in node_link_locals(lab)? {
        config += &format!(
            "[[neighbors]]\nconfig = {{ neighbor-address = '{address}%{LAN_INTERFACE}', peer-as = 64513 }}\n\
             transport.config = {{ passive-mode = true }}\n\
             graceful-restart.config = {{ enabled = true, restart-time = 60, helper-only = true }}\n"
        );
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            config += &format!(
                "[[neighbors.afi-safis]]\nconfig = {{ afi-safi-name = '{family}' }}\n\
                 mp-graceful-restart.config = {{ enabled = true }}\n"
            );
        }
    }
    Ok(config)
}
