//! The longest gap that a client sees when the cable of an address's owner is cut.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

use crate::Options;
use crate::stage::{DataPlane, SOON, Stage, on_stage};
use crate::statistics::Samples;
use crate::table::{self, Section};
use fairlead_lab::Carrier;
use fairlead_lab::{Client, LATE, Stream, StreamReport, Transport};
use fairlead_lab::{ensure, wait_for};

/// Time between two packets of a stream; a single lost packet shows as a gap of this length.
const PACE: Duration = Duration::from_millis(10);
const NAME: &str = "failover";
const PORT: u16 = 80;

/// Gaps of the LAN client and of the client behind the router.
type Gaps = [Vec<Duration>; 2];

/// Runs the measure.
///
/// # Errors
/// If an address does not move.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Runs, |stage| {
        let rounds = options.rounds;
        let mut section = Section::new(
            format!("L2: the owner's cable is cut, longest gap of a stream ({rounds} rounds each)"),
            ["median", "max"],
        );
        let ip = service(stage)?;
        let owner = stage.lab.wait_for_owner(ip, SOON)?.to_owned();
        let backend = stage.lab.nodes().iter().map(|node| node.name()).find(|name| *name != owner);
        move_pods(stage, ip, backend.context("a Service on one node only")?)?;

        let mut quiet = Gaps::default();
        let started = streams(stage, ip);
        std::thread::sleep(Duration::from_secs(3));
        take(started, &mut quiet)?;
        rows(&mut section, "floor: nothing is cut", &quiet);
        for (carrier, what) in [(Carrier::Lost, "the link goes down"), (Carrier::Kept, "the link stays up")] {
            let mut gaps = Gaps::default();
            let back = (0..rounds).map(|_| cut(stage, ip, &owner, carrier, &mut gaps));
            let back = back.collect::<Result<Samples<Duration>>>()?;
            rows(&mut section, what, &gaps);
            section.row(
                "  mended, until the owner alone answers again",
                [table::some_time(back.median()), table::some_time(back.max())],
            );
        }
        section.note(format!(
            "UDP, one packet every {}, answered by a pod on another node than the owner; the gap is the longest time \
             in which no packet was answered within {}",
            table::time(PACE),
            table::time(LATE)
        ));
        section.note(
            "mended: polled every 0.3 s; until then both nodes answer, or the owner does not answer yet",
        );
        section
            .note("link goes down: the node detects it; link stays up: the switch drops the node's frames");
        Ok(section)
    })
}

fn rows(section: &mut Section, what: &str, gaps: &Gaps) {
    for (client, gaps) in ["LAN client", "client behind the router"].into_iter().zip(gaps) {
        let gaps: Samples<Duration> = gaps.iter().copied().collect();
        section.row(
            format!("{what}, {client}"),
            [table::some_time(gaps.median()), table::some_time(gaps.max())],
        );
    }
}

/// Creates a Service with an address of the LAN and returns the address.
fn service(stage: &Stage) -> Result<IpAddr> {
    let api = stage.lab.api()?;
    api.apply_object(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": NAME, "namespace": "default", "annotations": { "fairlead.dev/address-pool": "lan" } },
        "spec": {
            "type": "LoadBalancer", "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
            "selector": { "app": "web" },
            "ports": [{ "name": "udp", "protocol": "UDP", "port": PORT, "targetPort": 8080 }],
        },
    }))?;
    api.wait_for_addresses(NAME, 1, SOON)?.first().copied().context("no address")
}

/// Leaves only the pods of `node` in the Service, and waits until they answer both clients.
fn move_pods(stage: &Stage, ip: IpAddr, node: &str) -> Result<()> {
    let object = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": NAME, "namespace": "default" } });
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

fn streams(stage: &Stage, ip: IpAddr) -> [Stream; 2] {
    [stage.lab.client(), stage.lab.remote()].map(|client| client.stream(SocketAddr::new(ip, PORT), PACE))
}

fn take(streams: [Stream; 2], gaps: &mut Gaps) -> Result<()> {
    for (stream, gaps) in streams.into_iter().zip(gaps) {
        let report: StreamReport = stream.stop()?;
        if report.answered < 50 {
            bail!("the stream has no answers: {report}");
        }
        gaps.push(report.longest_gap);
    }
    Ok(())
}

/// Runs one round: streams, cut, failover, mend, failback. Returns how long the failback took.
fn cut(stage: &Stage, ip: IpAddr, owner: &str, carrier: Carrier, gaps: &mut Gaps) -> Result<Duration> {
    let lab = &stage.lab;
    let mac = lab.node(owner)?.mac();
    // The clients must use the node whose cable is cut, or there is no gap.
    for cache in caches(stage) {
        cache.forget(ip)?;
    }
    reach_any(stage, ip)?;
    for cache in caches(stage) {
        let now = cache.neighbor(ip)?;
        ensure(now == Some(mac), now).map_err(|now| anyhow!("{ip} is at {now:?} before the cut"))?;
    }
    let started = streams(stage, ip);
    std::thread::sleep(Duration::from_secs(1));
    lab.cut(owner, carrier)?;
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
    take(started, gaps)?;
    let start = Instant::now();
    lab.mend()?;
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
