//! The longest time without an answer when the owner of an address fails, by resolution and by streams.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

use crate::Options;
use crate::stage::{DataPlane, SOON, Stage, on_stage};
use crate::statistics::Samples;
use crate::table::{self, Section};
use fairlead_lab::Carrier;
use fairlead_lab::{Client, LATE, Questions, Stream, StreamReport, Transport};
use fairlead_lab::{ensure, wait_for};

/// Time between two packets of a stream; a single lost packet shows as a gap of this length.
const PACE: Duration = Duration::from_millis(10);
const NAME: &str = "failover";
const PORT: u16 = 80;

/// Time between two questions for the address, as of clients without a neighbor cache.
const QUESTION_PACE: Duration = Duration::from_millis(20);
/// Where a gap is seen.
const VIEWS: [&str; 3] = ["resolution", "LAN client", "client behind the router"];

/// Gaps by [`VIEWS`].
type Gaps = [Vec<Duration>; VIEWS.len()];

/// What happens to the owner of the address.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut(Carrier),
    /// The node loses power: its processes end, and its link goes down.
    Gone,
}

const FAULTS: [(Fault, &str); 3] = [
    (Fault::Cut(Carrier::Lost), "the link goes down"),
    (Fault::Cut(Carrier::Kept), "the link stays up"),
    (Fault::Gone, "the node loses power"),
];

/// Runs the measure.
///
/// # Errors
/// If an address does not move.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Runs, |stage| {
        let rounds = options.rounds;
        let mut section = Section::new(
            format!("L2: the owner fails, longest time without an answer ({rounds} rounds each)"),
            ["median", "max"],
        );
        for family in ["IPv4", "IPv6"] {
            let ip = service(stage, family)?;
            let owner = stage.lab.wait_for_owner(ip, SOON)?.to_owned();
            let backend = stage.lab.nodes().iter().map(|node| node.name()).find(|name| *name != owner);
            move_pods(stage, ip, backend.context("a Service on one node only")?)?;
            let mut quiet = Gaps::default();
            let started = Watched::start(stage, ip)?;
            std::thread::sleep(Duration::from_secs(3));
            started.take(&mut quiet)?;
            rows(&mut section, &format!("{family}, floor: nothing fails"), &quiet);
            for (fault, what) in FAULTS {
                let mut gaps = Gaps::default();
                let back = (0..rounds).map(|_| cut(stage, ip, &owner, fault, &mut gaps));
                let back = back.collect::<Result<Samples<Duration>>>()?;
                rows(&mut section, &format!("{family}, {what}"), &gaps);
                section.row(
                    "  repaired, until the owner alone answers again",
                    [table::some_time(back.median()), table::some_time(back.max())],
                );
            }
        }
        section.note(format!(
            "resolution: an ARP request or neighbor solicitation every {}; the longest time from one to the next \
             answer",
            table::time(QUESTION_PACE),
        ));
        section.note(format!(
            "clients: UDP, one packet every {}, answered by a pod on another node than the owner; the longest time \
             in which no packet was answered within {}",
            table::time(PACE),
            table::time(LATE)
        ));
        section.note(
            "repaired: polled every 0.3 s; until then both nodes answer, or the owner does not answer yet",
        );
        section
            .note("link goes down: the node detects it; link stays up: the switch drops the node's frames");
        Ok(section)
    })
}

fn rows(section: &mut Section, what: &str, gaps: &Gaps) {
    for (view, gaps) in VIEWS.into_iter().zip(gaps) {
        let gaps: Samples<Duration> = gaps.iter().copied().collect();
        section
            .row(format!("{what}, {view}"), [table::some_time(gaps.median()), table::some_time(gaps.max())]);
    }
}

fn name(family: &str) -> String {
    format!("{NAME}-{}", family.to_lowercase())
}

/// Creates a Service with an address of the LAN and returns the address.
fn service(stage: &Stage, family: &str) -> Result<IpAddr> {
    let api = stage.lab.api()?;
    let name = name(family);
    api.apply_object(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default", "annotations": { "fairlead.dev/address-pool": "lan" } },
        "spec": {
            "type": "LoadBalancer", "ipFamilyPolicy": "SingleStack", "ipFamilies": [family],
            "selector": { "app": "web" },
            "ports": [{ "name": "udp", "protocol": "UDP", "port": PORT, "targetPort": 8080 }],
        },
    }))?;
    api.wait_for_addresses(&name, 1, SOON)?.first().copied().context("no address")
}

/// Leaves only the pods of `node` in the Service, and waits until they answer both clients.
fn move_pods(stage: &Stage, ip: IpAddr, node: &str) -> Result<()> {
    let name = name(if ip.is_ipv4() { "IPv4" } else { "IPv6" });
    let object = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" } });
    stage.lab.api()?.merge(object, json!({ "spec": { "selector": { "node": node } } }))?;
    wait_for(format!("the pod of {node} to answer, and no other"), SOON, || {
        for _ in 0..5 {
            reach(stage, ip, node)?;
        }
        anyhow::Ok(())
    })
}

fn reach(stage: &Stage, ip: IpAddr, node: &str) -> Result<()> {
    for client in [stage.lab.client(), stage.lab.remote()] {
        let answer = client.ask(SocketAddr::new(ip, PORT), Transport::Udp, Duration::from_secs(1))?;
        ensure(answer.node == node, answer.node).map_err(|node| anyhow!("answered by {node}"))?;
    }
    Ok(())
}

/// The questions and streams of one round, in the order of [`VIEWS`].
struct Watched {
    questions: Questions,
    streams: [Stream; 2],
}

impl Watched {
    fn start(stage: &Stage, ip: IpAddr) -> Result<Self> {
        let questions = Questions::start(&stage.lab, ip, QUESTION_PACE)?;
        let clients = [stage.lab.client(), stage.lab.remote()];
        Ok(Self { questions, streams: clients.map(|client| client.stream(SocketAddr::new(ip, PORT), PACE)) })
    }

    fn take(self, gaps: &mut Gaps) -> Result<()> {
        let [resolution, clients @ ..] = gaps;
        for (stream, gaps) in self.streams.into_iter().zip(clients) {
            let report: StreamReport = stream.stop()?;
            if report.answered < 50 {
                bail!("the stream has no answers: {report}");
            }
            gaps.push(report.longest_gap);
        }
        resolution.push(self.questions.stop()?.longest_wait());
        Ok(())
    }
}

/// Runs one round: streams, fault, failover, repair, failback. Returns how long the failback took.
fn cut(stage: &Stage, ip: IpAddr, owner: &str, fault: Fault, gaps: &mut Gaps) -> Result<Duration> {
    let lab = &stage.lab;
    let mac = lab.node(owner)?.mac();
    let speaker = lab.node(owner)?.speaker()?;
    // The clients must use the node that fails, or there is no gap.
    for cache in caches(stage) {
        cache.forget(ip)?;
    }
    reach_any(stage, ip)?;
    for cache in caches(stage) {
        let now = cache.neighbor(ip)?;
        ensure(now == Some(mac), now).map_err(|now| anyhow!("{ip} is at {now:?} before the fault"))?;
    }
    let started = Watched::start(stage, ip)?;
    std::thread::sleep(Duration::from_secs(1));
    match fault {
        Fault::Cut(carrier) => lab.cut(owner, carrier)?,
        Fault::Gone => {
            lab.cut(owner, Carrier::Lost)?;
            speaker.kill()?;
        }
    }
    for cache in caches(stage) {
        // Reads the cache; a request on the wire would help the streams.
        wait_for(format!("{} to find {ip} elsewhere", cache.netns().name()), SOON, || {
            match cache.neighbor(ip)? {
                Some(now) if now != mac => Ok(()),
                other => Err(anyhow!("at {other:?}")),
            }
        })?;
    }
    std::thread::sleep(Duration::from_millis(500));
    started.take(gaps)?;
    let start = Instant::now();
    lab.mend()?;
    if matches!(fault, Fault::Gone) {
        speaker.spawn_again()?;
        speaker.wait_until_ready(SOON)?;
    }
    wait_for(format!("{owner} alone to answer for {ip}"), SOON, || {
        let capture = lab.capture_client()?;
        let begin = start.elapsed();
        for _ in 0..3 {
            lab.client().resolve(ip)?;
            // A second reply may arrive after the first.
            std::thread::sleep(Duration::from_millis(50));
        }
        let claimants = capture.claimants(ip);
        ensure(claimants == [mac], claimants).map_err(|macs| anyhow!("answered by {macs:?}")).map(|()| begin)
    })
}

/// The hosts that cache the Ethernet address: the LAN client, and the router for the client behind it.
fn caches(stage: &Stage) -> [Client; 2] {
    let network = stage.lab.network();
    [&network.client, &network.router].map(Client::new)
}

fn reach_any(stage: &Stage, ip: IpAddr) -> Result<()> {
    for client in [stage.lab.client(), stage.lab.remote()] {
        client.ask(SocketAddr::new(ip, PORT), Transport::Udp, Duration::from_secs(3))?;
    }
    Ok(())
}
