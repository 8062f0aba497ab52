//! The lab alone, without API server, controller and speakers.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fairlead_lab::{Carrier, Family, Lab, Transport, addresses, ensure, netns, state, wait_for};

const SECOND: Duration = Duration::from_secs(1);

/// One lab at a time, because these tests compare the state of the machine.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn network(nodes: usize) -> Lab {
    Lab::builder().nodes(nodes).pods_per_node(2).network_only().start().unwrap()
}

#[test]
fn every_pod_answers_both_clients() {
    let _alone = alone();
    let lab = network(2);
    // The router needs routes to the pods; in a cluster a load balancer makes them reachable.
    for node in lab.nodes() {
        let [v4, v6] = node.addresses();
        let index = &node.name()[1..];
        for (network, via) in
            [(format!("10.244.{index}.0/24"), v4), (format!("fd00:10:244:{index}::/64"), v6)]
        {
            for netns in [&lab.network().router, &lab.network().client] {
                netns
                    .output(Command::new("ip").args(["route", "add", &network, "via", &via.to_string()]))
                    .unwrap();
            }
        }
        for k in [1, 2] {
            for ip in node.pod_addresses(k) {
                for transport in Transport::BOTH {
                    for (own, client) in
                        [(addresses::client(), lab.client()), (addresses::remote_client(), lab.remote())]
                    {
                        let answer = client.ask((ip, 8080).into(), transport, 2 * SECOND).unwrap();
                        assert_eq!(answer.node, node.name());
                        assert_eq!(answer.pod, fairlead_lab::pod_name(node.name(), k));
                        assert_eq!(answer.client, own.of(ip));
                    }
                }
            }
        }
    }
}

#[test]
fn new_router_has_no_bgp_routes() {
    let _alone = alone();
    let lab = network(1);
    for family in Family::BOTH {
        assert!(lab.router().bgp_routes(family).unwrap().is_empty());
        assert!(lab.router().kernel_routes(family).unwrap().is_empty());
    }
    assert!(lab.router().sessions().unwrap().is_empty());
    let running = lab.router().vtysh("show running-config").unwrap();
    for line in
        ["router bgp 64512", "bgp listen range 2001:db8:1::/64 peer-group speakers6", "maximum-paths 16"]
    {
        assert!(running.contains(line), "{line} in {running}");
    }
    assert!(lab.router().json("show bfd peers json").unwrap().is_array());
}

#[test]
fn cut_cable_drops_frames_and_optionally_carrier() {
    let _alone = alone();
    let lab = network(2);
    let node = lab.node("n1").unwrap();
    let ip = node.addresses()[0];
    let carrier = || {
        let text =
            lab.network().nodes[0].netns.output(Command::new("ip").args(["link", "show", "eth0"])).unwrap();
        !text.contains("NO-CARRIER")
    };
    for (cut, expected) in [(Carrier::Lost, false), (Carrier::Kept, true)] {
        assert_eq!(lab.client().resolve(ip).unwrap(), Some(node.mac()));
        lab.cut("n1", cut).unwrap();
        assert_eq!(lab.client().resolve(ip).unwrap(), None, "{cut:?}");
        assert_eq!(carrier(), expected, "{cut:?}");
        assert!(lab.client().resolve(lab.node("n2").unwrap().addresses()[0]).unwrap().is_some());
        lab.mend().unwrap();
        wait_for("the carrier", 10 * SECOND, || if carrier() { Ok(()) } else { Err("none") }).unwrap();
    }
    assert_eq!(lab.client().resolve(ip).unwrap(), Some(node.mac()));
}

#[test]
fn stream_reports_length_of_interruption() {
    let _alone = alone();
    let lab = network(1);
    let ip = lab.nodes()[0].pod_addresses(1)[0];
    let via = lab.nodes()[0].addresses()[0].to_string();
    lab.network()
        .client
        .output(Command::new("ip").args(["route", "add", "10.244.1.0/24", "via", &via]))
        .unwrap();
    let stream = lab.client().stream((ip, 8080).into(), Duration::from_millis(10));
    std::thread::sleep(Duration::from_millis(500));
    lab.cut("n1", Carrier::Kept).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    lab.mend().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let report = stream.stop().unwrap();
    assert!(report.longest_gap >= Duration::from_millis(650), "{report}");
    assert!(report.longest_gap < Duration::from_millis(2500), "{report}");
    assert!(report.answered > 60 && report.answered < report.sent, "{report}");
    assert_eq!(report.pods.keys().collect::<Vec<_>>(), ["web-n1"]);
}

#[test]
fn capture_reports_claimants_of_address() {
    let _alone = alone();
    let lab = network(1);
    let node = &lab.nodes()[0];
    let capture = lab.capture_client().unwrap();
    for ip in node.addresses() {
        assert_eq!(lab.client().resolve(ip).unwrap(), Some(node.mac()));
        wait_for("the answer in the capture", SECOND, || match capture.claimants(ip).as_slice() {
            [mac] if *mac == node.mac() => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
        assert!(capture.frames().iter().any(|seen| seen.frame.message.asks_for(ip)));
    }
}

#[test]
fn two_labs_are_isolated() {
    let _alone = alone();
    let (one, two) = (network(1), network(1));
    assert_ne!(one.id(), two.id());
    two.router()
        .configure(&["router bgp 64512", "address-family ipv4 unicast", "network 198.51.100.0/24"])
        .unwrap();
    assert!(two.router().vtysh("show running-config").unwrap().contains("network 198.51.100.0/24"));
    assert!(!one.router().vtysh("show running-config").unwrap().contains("network 198.51.100.0/24"));
    let name = two.id().to_owned();
    drop(two);
    assert!(netns::list(&name).unwrap().is_empty());
    let ip = one.nodes()[0].addresses()[0];
    assert_eq!(one.client().resolve(ip).unwrap(), Some(one.nodes()[0].mac()), "the other lab still works");
}

#[test]
fn stopped_lab_leaves_host_unchanged() {
    let _alone = alone();
    let before = host();
    let start = Instant::now();
    let lab = network(3);
    eprintln!("up after {:?}", start.elapsed());
    assert_eq!(host(), before, "while a lab runs");
    let (id, dir) = (lab.id().to_owned(), lab.dir());
    let start = Instant::now();
    drop(lab);
    eprintln!("down after {:?}", start.elapsed());
    assert!(netns::list(&id).unwrap().is_empty());
    assert!(!dir.exists());
    assert!(!state::labs().unwrap().contains(&id));
    assert_eq!(host(), before, "after it");
}

/// Starts a process that holds a lab, and returns it with the lab's id.
fn held() -> (Child, String) {
    // A shell that starts these tests in the background ignores SIGINT, and child processes inherit that.
    let mut child = Command::new("env")
        .args(["--default-signal", env!("CARGO_BIN_EXE_fairlead-lab"), "hold"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It prints its id when the lab is ready.
    let mut id = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut id).unwrap();
    let id = id.trim().to_owned();
    assert!(netns::list(&id).unwrap().iter().any(|name| name.ends_with("n1-p1")), "{id}");
    (child, id)
}

fn is_gone(id: &str) -> Result<(), String> {
    let left = (netns::list(id).unwrap(), state::dir(id).exists());
    if left.0.is_empty() && !left.1 { Ok(()) } else { Err(format!("{left:?}")) }
}

/// Returns true if a process does not exist or is a zombie.
fn has_ended(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

#[test]
fn lab_ends_with_its_process() {
    let _alone = alone();
    // Ctrl-C, a termination request, a crash.
    for signal in ["-INT", "-TERM", "-KILL"] {
        let (mut child, id) = held();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        wait_for(format!("the end by {signal}"), 10 * SECOND, || {
            child.try_wait().unwrap().ok_or_else(|| format!("{} runs", child.id()))
        })
        .unwrap();
        wait_for(format!("the reaper after {signal}"), 10 * SECOND, || is_gone(&id)).unwrap();
    }
}

#[test]
fn next_lab_removes_abandoned_lab() {
    let _alone = alone();
    let (mut child, id) = held();
    let reaper = std::fs::read_to_string(state::dir(&id).join("reaper")).unwrap();
    let reaper = reaper.split(' ').next().unwrap();
    assert!(Command::new("kill").args(["-9", reaper]).status().unwrap().success());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of the reaper", 10 * SECOND, || ensure(has_ended(reaper), "it runs")).unwrap();
    assert!(is_gone(&id).is_err());
    drop(network(1));
    is_gone(&id).unwrap();
}

/// State that a lab must not change: interfaces, addresses, routes, rules, nftables, forwarding, FRR's
/// folders.
fn host() -> Vec<String> {
    let mut seen: Vec<String> =
        ["-o link", "addr", "route show table all", "-6 route show table all", "rule"]
            .iter()
            .map(|args| run("ip", args))
            .collect();
    seen.push(run("nft", "list ruleset"));
    for file in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter"] {
        seen.push(std::fs::read_to_string(format!("/proc/sys/{file}")).unwrap_or_default());
    }
    seen.push(run("ls", "-lR /etc/frr /run/frr"));
    seen
}

fn run(program: &str, args: &str) -> String {
    let done = Command::new(program).args(args.split(' ')).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    // Counters of expiry times change without the lab.
    text.lines()
        .map(|line| line.split(" expires ").next().unwrap_or_default().to_owned())
        .filter(|line| !line.trim_start().starts_with("valid_lft"))
        .collect::<Vec<_>>()
        .join("\n")
}
