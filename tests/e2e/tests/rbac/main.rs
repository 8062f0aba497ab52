//! The rights in `config/rbac` and the capabilities in the manifests are exactly those that the programs
//! need: the programs run their main scenarios with them and use all of them.
//!
//! Between each program and the API server runs a gate. It passes requests that the rules of the service
//! account grant, rejects others as RBAC does, and records both.

#![allow(clippy::unwrap_used)]

mod access;
mod gate;
mod overlays;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use fairlead_e2e::{CONFIG, LbService, SECOND, SOON, expect_sessions, merge_service, reach};
use fairlead_lab::netns::Netns;
use fairlead_lab::peers::{Bird, Host};
use fairlead_lab::{Lab, Process, Spec, addresses, binaries, state, wait_for};
use serde_json::{Value, json};

use access::Rules;
use gate::Gate;

/// Bit of `CAP_NET_RAW`.
const NET_RAW: u64 = 1 << 13;

/// One object of every kind besides those of [`CONFIG`], a peer with a password, and an invalid object.
const MORE: &str = "
apiVersion: v1
kind: Secret
metadata: { name: fairlead-bgp-password, namespace: fairlead-system }
type: kubernetes.io/basic-auth
stringData: { username: '', password: hush }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: bird }
spec: { myASN: 64513, peerASN: 64700, peerAddress: 192.0.2.5, connectTime: 1s, bfdProfile: fast, passwordSecret: { name: fairlead-bgp-password } }
---
apiVersion: fairlead.dev/v1beta1
kind: BFDProfile
metadata: { name: fast }
spec: { receiveInterval: 100, transmitInterval: 100 }
---
apiVersion: fairlead.dev/v1beta1
kind: Community
metadata: { name: names }
spec: { communities: [{ name: web, value: '64513:80' }] }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: named }
spec: { ipAddressPools: [cooling], peers: [none], communities: [web] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: overlaps }
spec: { addresses: [192.0.2.210-192.0.2.215] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: cooling }
spec: { addresses: [192.0.2.236-192.0.2.237], autoAssign: false, reuseAfter: 1h }
---
apiVersion: fairlead.dev/v1beta1
kind: IPClaim
metadata: { name: later, namespace: default }
spec: { serviceName: later, pool: l2 }
";

const BIRD: &str = "
protocol bfd { interface \"*\" { interval 100 ms; multiplier 3; }; }
template bgp node {
    local 192.0.2.5 as 64700;
    passive yes;
    bfd on;
    password \"hush\";
    ipv4 { import all; export none; };
}
protocol bgp n1 from node { neighbor 192.0.2.11 as 64513; }
protocol bgp n2 from node { neighbor 192.0.2.12 as 64513; }
";

/// A program behind its gate.
struct Guarded {
    gate: Gate,
    kubeconfig: PathBuf,
    /// As in the manifests.
    capabilities: &'static str,
}

impl Guarded {
    fn new(lab: &Lab, account: &str, port: u16, capabilities: &'static str) -> Self {
        let rules = Rules::of(&binaries::config_dir().join("rbac"), account).unwrap();
        Self::with_rules(lab, account, port, capabilities, rules)
    }

    fn with_rules(lab: &Lab, account: &str, port: u16, capabilities: &'static str, rules: Rules) -> Self {
        let here = SocketAddr::new(addresses::control_plane().v4.into(), port);
        let server = SocketAddr::new(addresses::control_plane().v4.into(), addresses::API_PORT);
        let gate = Gate::open(&lab.network().control_plane, here, server, rules).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": account,
            "clusters": [{ "name": "lab", "cluster": { "server": format!("http://{here}") } }],
            "users": [{ "name": account, "user": {} }],
            "contexts": [{ "name": account, "context": { "cluster": "lab", "user": account } }],
        });
        let kubeconfig = lab.dir().join(format!("kubeconfig-{account}"));
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { gate, kubeconfig, capabilities }
    }

    fn start(&self, lab: &Lab, name: &str, program: &str, netns: &Netns, args: &[&str]) -> Process {
        // Root in a container has the bounding set of its manifest; child processes get no more.
        let spec = Spec::new(name, "setpriv")
            .arg(format!("--bounding-set={}", self.capabilities))
            .args(["--inh-caps=-all", "--no-new-privs", "--"])
            .arg(binaries::find(program).unwrap())
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(args.iter().copied());
        Process::start(spec, netns, &state::logs(lab.id())).unwrap()
    }
}

impl Drop for Guarded {
    /// A failure for lack of a right is only reported as a failure.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("refused: {:#?}", self.gate.refused());
        }
    }
}

fn is_plain_http(lab: &Lab) -> bool {
    let kubeconfig = std::fs::read_to_string(lab.api_server().unwrap().kubeconfig()).unwrap();
    kubeconfig.contains("http://")
}

fn effective_capabilities(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// Waits until the Service's condition `fairlead.dev/Allocated` has this reason.
fn expect_reason(lab: &Lab, name: &str, reason: &str) {
    wait_for(format!("{name} to be {reason}"), SOON, || {
        let condition = lab.api()?.condition(name, "fairlead.dev/Allocated")?;
        ensure!(condition.as_ref().is_some_and(|(_, seen, _)| seen == reason), "{condition:?}");
        Ok(())
    })
    .unwrap();
}

/// Waits until the object has the condition `Accepted`.
fn expect_verdict(lab: &Lab, kind: &str, name: &str, status: &str) {
    wait_for(format!("condition Accepted of {kind}/{name}"), SOON, || {
        let object = lab.api()?.get("fairlead.dev/v1beta1", kind, None, name)?;
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let accepted = conditions.into_iter().flatten().find(|condition| condition["type"] == "Accepted");
        match accepted {
            Some(condition) if condition["status"] == status => Ok(()),
            other => bail!("{other:?}"),
        }
    })
    .unwrap();
}

/// An unavailable request, then an available one, then an unavailable one again: the same Event twice, which
/// becomes a series.
fn wish_for_a_taken_address(lab: &Lab, taken: IpAddr) {
    let ask = |ip: &str| json!({ "metadata": { "annotations": { "fairlead.dev/load-balancer-ips": ip } } });
    let wish = LbService::new("wish", "l2").any_pool().single("IPv4");
    let wish = wish.annotation("fairlead.dev/load-balancer-ips", &taken.to_string());
    wish.apply(lab).unwrap();
    expect_reason(lab, "wish", "AddressInUse");
    merge_service(lab, "wish", ask("192.0.2.229")).unwrap();
    expect_reason(lab, "wish", "Allocated");
    merge_service(lab, "wish", ask(&taken.to_string())).unwrap();
    expect_reason(lab, "wish", "AddressInUse");
    wish.delete(lab).unwrap();
}

/// The speaker and its router are stopped for a time, so that the speaker is too late and finds no packet.
fn be_late_for_bfd(lab: &Lab, speaker: &Process, router: &Process) {
    let bfd = |field: &str| {
        let speaker = speaker_object(lab, "n1")?;
        let sessions = speaker.pointer("/status/sessions").and_then(Value::as_array).into_iter().flatten();
        let session = sessions.into_iter().find(|session| session["peer"] == "bird");
        session.map(|session| session["bfd"][field].clone()).context("no session with BIRD")
    };
    wait_for("BFD with BIRD", SOON, || {
        let state = bfd("state")?;
        ensure!(state == "Up", "{state}");
        Ok(())
    })
    .unwrap();
    router.stop().unwrap();
    speaker.stop().unwrap();
    std::thread::sleep(SECOND);
    speaker.resume().unwrap();
    wait_for("an Event about the lateness", SOON, || {
        let events = lab.api()?.list("events.k8s.io/v1", "Event")?;
        let event = events.iter().find(|event| event["reason"] == "BFDLate");
        let event = event.with_context(|| format!("lateness {:?}", bfd("lateness")))?;
        ensure!(event["regarding"]["name"] == "n1", "{event}");
        Ok(())
    })
    .unwrap();
    router.resume().unwrap();
}

/// The speaker of n2 is killed, which that of n1 reports. Started again, it runs, but its Pod is said not to
/// be ready, which the controller reports once.
fn fall_silent(lab: &Lab, speaker: &Process) {
    speaker.kill().unwrap();
    wait_for("the report about n2", SOON, || {
        let object = lab.api()?.get("fairlead.dev/v1beta1", "Speaker", None, "n2")?;
        ensure!(object["status"]["ready"] == false, "{object}");
        Ok(())
    })
    .unwrap();
    speaker.spawn_again().unwrap();
    wait_for("the speaker of n2", SOON, || speaker_object(lab, "n2")).unwrap();
    let endpoint = |node: &str, address: &str, ready: bool| json!({ "addresses": [address], "nodeName": node, "conditions": { "ready": ready } });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "fairlead-speaker-a", "namespace": "fairlead-system",
                      "labels": { "kubernetes.io/service-name": "fairlead-speaker" } },
        "addressType": "IPv4",
        "endpoints": [endpoint("n1", "192.0.2.11", true), endpoint("n2", "192.0.2.12", false)],
    });
    lab.api().unwrap().apply_object(slice).unwrap();
}

fn speaker_object(lab: &Lab, node: &str) -> Result<Value> {
    let speaker = lab.api()?.get("fairlead.dev/v1beta1", "Speaker", None, node)?;
    ensure!(speaker["status"]["ready"] == true, "{speaker}");
    Ok(speaker)
}

#[test]
fn main_scenarios_use_exactly_granted_rights() {
    let lab = Lab::builder().nodes(2).without_fairlead().start().unwrap();
    if !is_plain_http(&lab) {
        eprintln!("skipped: the gate cannot read the TLS connections of a real kube-apiserver");
        return;
    }
    let of_controller = Guarded::new(&lab, "fairlead-controller", 6501, "-all");
    let of_speaker = Guarded::new(&lab, "fairlead-speaker", 6502, "-all,+net_raw");
    let cp = &lab.network().control_plane;
    let controller = of_controller.start(&lab, "controller", "fairlead-controller", cp, &[]);
    let speakers: Vec<Process> = lab
        .network()
        .nodes
        .iter()
        .map(|node| {
            let name = format!("speaker-{}", node.name);
            of_speaker.start(
                &lab,
                &name,
                "fairlead-speaker",
                &node.netns,
                &["--node-name", &node.name, "--daemonset", "fairlead-speaker"],
            )
        })
        .collect();
    let bird = Bird::start(&Host::plug(&lab, "bird", 5).unwrap(), BIRD).unwrap();

    lab.api().unwrap().apply(CONFIG).unwrap();
    lab.api().unwrap().apply(MORE).unwrap();
    expect_sessions(&lab, SOON).unwrap();
    assert_eq!(effective_capabilities(&controller), 0);
    for speaker in &speakers {
        assert_eq!(effective_capabilities(speaker), NET_RAW);
    }
    for kind in ["IPAddressPool", "L2Advertisement"] {
        expect_verdict(&lab, kind, "l2", "True");
    }
    for (kind, name) in
        [("BGPAdvertisement", "bgp"), ("BGPPeer", "bird"), ("BFDProfile", "fast"), ("Community", "names")]
    {
        expect_verdict(&lab, kind, name, "True");
    }
    expect_verdict(&lab, "IPAddressPool", "overlaps", "False");

    // ARP, NDP, BGP, and BGP with TCP-MD5, with the capabilities of the manifests.
    let (l2, bgp) = (LbService::new("l2", "l2"), LbService::new("bgp", "bgp"));
    let l2_addresses = l2.up(&lab).unwrap();
    for ip in l2_addresses.iter().chain(&bgp.up(&lab).unwrap()) {
        reach(&lab, *ip, 1).unwrap();
    }
    wait_for("both nodes' paths in BIRD", SOON, || {
        let paths = bird.paths()?;
        ensure!(paths.len() == 2, "{paths:?}");
        Ok(())
    })
    .unwrap();
    wish_for_a_taken_address(&lab, l2_addresses[0]);
    be_late_for_bfd(&lab, &speakers[0], bird.process());

    // An address enters its cool-down.
    let cool = LbService::new("cool", "cooling").single("IPv4");
    cool.up(&lab).unwrap();
    cool.delete(&lab).unwrap();
    wait_for("the cool-down to be recorded", SOON, || {
        let object = lab.api()?.get("fairlead.dev/v1beta1", "PoolCooldown", None, "cooling")?;
        let released = object.pointer("/spec/released/0").and_then(Value::as_str);
        ensure!(released.is_some_and(|entry| entry.contains(" default/cool ")), "{object}");
        Ok(())
    })
    .unwrap();

    // Restarts, and an object that is deleted.
    controller.restart().unwrap();
    speakers[0].restart().unwrap();
    lab.api()
        .unwrap()
        .delete("apiVersion: fairlead.dev/v1beta1\nkind: Speaker\nmetadata: { name: n2 }")
        .unwrap();
    for node in ["n1", "n2"] {
        wait_for(format!("the Speaker object of {node}"), SOON, || speaker_object(&lab, node)).unwrap();
    }
    expect_sessions(&lab, SOON).unwrap();
    fall_silent(&lab, &speakers[1]);
    // The type changes, so the address is released.
    merge_service(&lab, "l2", json!({ "spec": { "type": "ClusterIP" } })).unwrap();
    let again = LbService::new("again", "l2")
        .annotation("fairlead.dev/load-balancer-ips", &format!("{},{}", l2_addresses[0], l2_addresses[1]));
    assert_eq!(again.up(&lab).unwrap(), l2_addresses);

    for (account, guarded) in [("controller", &of_controller), ("speaker", &of_speaker)] {
        assert_eq!(
            guarded.gate.refused(),
            Vec::<String>::new(),
            "the {account} requested access without a right"
        );
        // Lists each right that is granted without being used, with the reason.
        wait_for(format!("the {account} to have used every right"), 2 * SOON, || {
            let unused = guarded.gate.unused();
            ensure!(unused.is_empty(), "never used: {unused:?}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn gate_rejects_access_without_right() {
    let rules = Rules::of(&binaries::config_dir().join("rbac"), "fairlead-controller").unwrap();
    let granted = |method: &str, target: &str| rules.grant(&access::Access::of(method, target, "").unwrap());
    assert!(granted("GET", "/api/v1/services?limit=500"));
    assert!(granted("GET", "/api/v1/namespaces/default/services/web"));
    let secret = "fieldSelector=metadata.name%3Dfairlead-mesh";
    assert!(granted("GET", &format!("/api/v1/namespaces/fairlead-system/secrets?{secret}")));
    assert!(granted("PATCH", "/api/v1/namespaces/fairlead-system/secrets/fairlead-mesh"));
    for (method, target) in [
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces/fairlead-system/secrets"),
        ("GET", "/api/v1/namespaces/fairlead-system/secrets/other"),
        ("GET", "/api/v1/namespaces/default/secrets/fairlead-mesh"),
        ("POST", "/api/v1/namespaces/default/secrets"),
        // A Secret of any name could be one with the token of another account.
        ("POST", "/api/v1/namespaces/fairlead-system/secrets"),
        ("PATCH", "/api/v1/namespaces/fairlead-system/secrets/other"),
        ("PATCH", "/api/v1/namespaces/default/services/web"),
        ("DELETE", "/api/v1/namespaces/default/services/web"),
        ("GET", "/api/v1/nodes/n1"),
        ("PATCH", "/api/v1/nodes/n1"),
        ("PATCH", "/apis/fairlead.dev/v1beta1/bgppeers/l2"),
        ("PATCH", "/apis/fairlead.dev/v1beta1/namespaces/default/ipclaims/web"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/fairlead-system/leases/other"),
    ] {
        assert!(!granted(method, target), "{method} {target}");
    }
}
