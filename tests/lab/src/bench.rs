//! The figures: how fast, how much, how big, on this machine, with the machine's own limits beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api as KubeApi, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::addresses;
use crate::binaries;
use crate::lab::{Carrier, Lab};
use crate::process::Process;
use crate::wait::wait_for;

const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(60);
/// Concurrent requests of everything here that writes in bulk.
const PARALLEL: usize = 32;
/// Namespace of the Services.
const NAMESPACE: &str = "bench";

/// Pools large enough for the backlog, and the router as a peer.
const CONFIG: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: bench }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: bgp }
spec: { autoAssign: false, addresses: [10.200.0.0/16] }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: bgp }
spec: { ipAddressPools: [bgp] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: l2 }
spec: { autoAssign: false, addresses: [192.0.2.200-192.0.2.230] }
---
apiVersion: fairlead.dev/v1beta1
kind: L2Advertisement
metadata: { name: l2 }
spec: { ipAddressPools: [l2] }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: router }
spec: { myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, holdTime: 9s, connectTime: 1s }
";

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Services of the backlog
    #[arg(long, default_value_t = 2000)]
    pub services: usize,
    /// Rounds of the cut cable
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Services created one by one to measure a single one
    #[arg(long, default_value_t = 50)]
    pub singles: usize,
}

/// Measures and prints everything.
pub fn bench(options: &Options) -> Result<()> {
    machine();
    sizes()?;
    println!("\n== A cable is cut, {} rounds", options.rounds);
    failover(options.rounds)?;

    let lab = Lab::builder().start()?;
    lab.api()?.apply(CONFIG)?;
    wait_for("the BGP sessions", SOON, || {
        let established = lab.router().sessions()?.into_values().filter(|s| s.state == "Established").count();
        if established == lab.nodes().len() { Ok(()) } else { Err(anyhow!("{established} established")) }
    })?;
    let bench = Bench { lab: &lab, routes: Routes::watch(&lab)? };

    println!(
        "\n== One more Service: from its creation to the route in the router, and to the first ARP answer"
    );
    let mut held = 0;
    for others in [10, 100, options.services] {
        let others = others.min(options.services);
        if others <= held {
            continue;
        }
        if others == options.services {
            println!("\n== A backlog of {} Services", others - held);
            bench.backlog(held, others)?;
            println!("\n== One more Service, with {others} others");
        } else {
            bench.create(held..others)?;
            bench.routes.wait_for(others, SOON)?;
        }
        held = others;
        bench.memory(held)?;
        bench.single("route in the router", held, options.singles, Kind::Route)?;
        bench.single("first ARP answer", held, options.singles, Kind::Arp)?;
    }
    Ok(())
}

/// What ends a measurement of a single Service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Route,
    Arp,
}

struct Bench<'a> {
    lab: &'a Lab,
    routes: Routes,
}

impl Bench<'_> {
    /// Creates the Services of these numbers, with an endpoint each.
    fn create(&self, numbers: std::ops::Range<usize>) -> Result<Duration> {
        let client = self.lab.api()?.client();
        let start = Instant::now();
        self.lab.api()?.run(async move {
            futures::stream::iter(numbers.map(|n| create(client.clone(), format!("s{n}"), "bgp", None)))
                .buffer_unordered(PARALLEL)
                .try_collect::<Vec<()>>()
                .await
        })?;
        Ok(start.elapsed())
    }

    fn backlog(&self, held: usize, target: usize) -> Result<()> {
        let count = target - held;
        self.lab.controller()?.terminate(SOON)?;
        let created = self.create(held..target)?;
        let limit = self.status_patcher(count)?;
        let assigned = self.lab.api()?.run(assigned_after(self.lab.api()?.client(), target))?;
        let start = Instant::now();
        self.lab.controller()?.spawn_again()?;
        let assigned =
            self.lab.api()?.run(async move { tokio::time::timeout(10 * SOON, assigned).await? })?;
        let took = assigned - start;
        let routes = self.routes.wait_for(target, 5 * SOON)? - start;
        let rate = count as f64 / took.as_secs_f64();
        line("creation by the bench itself", per_second(count, created));
        line("plain parallel status patcher", format!("{limit:.0} /s"));
        line(
            "controller start to all assigned",
            format!(
                "{:.2} s, {rate:.0} /s, {:.0} % of the plain patcher",
                took.as_secs_f64(),
                100.0 * rate / limit
            ),
        );
        line("controller start to all routes in the router", format!("{:.2} s", routes.as_secs_f64()));
        Ok(())
    }

    /// How many status patches a second the API server takes from somebody who does nothing else.
    fn status_patcher(&self, count: usize) -> Result<f64> {
        let client = self.lab.api()?.client();
        let names: Vec<String> = (0..count).map(|n| format!("plain{n}")).collect();
        let api = KubeApi::<Service>::namespaced(client, NAMESPACE);
        let rate = self.lab.api()?.run(async move {
            let plain = json!({ "spec": { "type": "ClusterIP", "ports": [{ "port": 80 }] } });
            let status = json!({ "metadata": { "annotations": { "fairlead.dev/bench": "1" } },
                "status": { "conditions": [{ "type": "bench", "status": "True", "reason": "Bench", "message": "",
                            "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
            in_parallel(&names, |name| {
                let (api, mut plain) = (api.clone(), plain.clone());
                plain["metadata"] = json!({ "name": name });
                async move { Ok(api.create(&PostParams::default(), &serde_json::from_value(plain)?).await.map(drop)?) }
            })
            .await?;
            let start = Instant::now();
            in_parallel(&names, |name| {
                let (api, patch) = (api.clone(), Patch::Merge(status.clone()));
                async move { Ok(api.patch_status(&name, &PatchParams::default(), &patch).await.map(drop)?) }
            })
            .await?;
            let rate = count as f64 / start.elapsed().as_secs_f64();
            in_parallel(&names, |name| {
                let api = api.clone();
                async move { Ok(api.delete(&name, &DeleteParams::default()).await.map(drop)?) }
            })
            .await?;
            anyhow::Ok(rate)
        })?;
        Ok(rate)
    }

    /// Creates and deletes Services one after the other; prints the distribution of one time.
    fn single(&self, what: &str, others: usize, count: usize, kind: Kind) -> Result<()> {
        let mut times = Vec::new();
        for n in 0..count {
            let name = format!("single{n}");
            let octet = u8::try_from(n % 31)?;
            let (pool, ip) = match kind {
                Kind::Route => ("bgp", Ipv4Addr::new(10, 200, 255, u8::try_from(1 + n % 200)?)),
                Kind::Arp => ("l2", Ipv4Addr::new(192, 0, 2, 200 + octet)),
            };
            let asker = (kind == Kind::Arp).then(|| Asker::start(self.lab, ip)).transpose()?;
            let client = self.lab.api()?.client();
            self.routes.forget(ip.into());
            let start = Instant::now();
            let key = name.clone();
            self.lab.api()?.run(async move { create(client, key, pool, Some(ip)).await })?;
            let done = match &asker {
                Some(asker) => asker.answered(SOON)?,
                None => self.routes.seen(ip.into(), SOON)?,
            };
            times.push(done - start);
            drop(asker);
            let client = self.lab.api()?.client();
            self.lab.api()?.run(async move { delete(client, &name).await })?;
            if kind == Kind::Route {
                self.routes.gone(ip.into(), SOON)?;
            } else {
                // The next round asks for another address; this one must only not be answered in between.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        line(&format!("{what}, {others} others"), distribution(&mut times));
        Ok(())
    }

    fn memory(&self, services: usize) -> Result<()> {
        std::thread::sleep(2 * SECOND);
        let speakers =
            self.lab.nodes().iter().map(|node| resident(node.speaker()?)).collect::<Result<Vec<_>>>()?;
        let largest = speakers.into_iter().max().unwrap_or_default();
        line(
            &format!("resident memory with {services} Services"),
            format!(
                "controller {:.1} MB, speaker {:.1} MB",
                mb(resident(self.lab.controller()?)?),
                mb(largest)
            ),
        );
        Ok(())
    }
}

/// The router's routes as they come: a netlink monitor in its namespace.
struct Routes {
    seen: Arc<Mutex<BTreeMap<IpAddr, Instant>>>,
    monitor: Child,
}

impl Routes {
    fn watch(lab: &Lab) -> Result<Self> {
        let mut monitor = lab.network().router.run(|| {
            Command::new("ip").args(["-4", "-oneline", "monitor", "route"]).stdout(Stdio::piped()).spawn()
        })??;
        let output = monitor.stdout.take().context("no output")?;
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let now = Instant::now();
                let mut words = line.split_whitespace();
                let first = words.next().unwrap_or_default();
                let (deleted, prefix) = if first == "Deleted" {
                    (true, words.next().unwrap_or_default())
                } else {
                    (false, first)
                };
                let Ok(ip) = prefix.parse::<IpAddr>() else { continue };
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if deleted {
                    seen.remove(&ip);
                } else {
                    seen.entry(ip).or_insert(now);
                }
            }
        });
        Ok(Self { seen, monitor })
    }

    fn forget(&self, ip: IpAddr) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&ip);
    }

    fn seen(&self, ip: IpAddr, limit: Duration) -> Result<Instant> {
        fast(&format!("a route to {ip}"), limit, || {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&ip).copied()
        })
    }

    fn gone(&self, ip: IpAddr, limit: Duration) -> Result<()> {
        fast(&format!("no route to {ip}"), limit, || {
            (!self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&ip)).then_some(())
        })
    }

    /// When the last of `count` routes came.
    fn wait_for(&self, count: usize, limit: Duration) -> Result<Instant> {
        fast(&format!("{count} routes"), limit, || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.len() >= count).then(|| seen.values().max().copied()).flatten()
        })
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

/// A client that asks for an address a thousand times a second until somebody claims it.
struct Asker {
    capture: crate::capture::Capture,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    ip: Ipv4Addr,
}

impl Asker {
    fn start(lab: &Lab, ip: Ipv4Addr) -> Result<Self> {
        let capture = lab.capture_client()?;
        let own = addresses::client();
        let mac = addresses::lan_mac(own).0;
        let frame = [
            &[0xff; 6][..],
            &mac,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &mac,
            &own.v4.octets(),
            &[0; 6],
            &ip.octets(),
        ]
        .concat();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sender = lab.client().sender()?;
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = sender.send(&frame);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Ok(Self { capture, stop, thread: Some(thread), ip })
    }

    fn answered(&self, limit: Duration) -> Result<Instant> {
        fast(&format!("an ARP answer for {}", self.ip), limit, || self.capture.first_claim(self.ip.into()))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn failover(rounds: usize) -> Result<()> {
    let lab = Lab::builder().start()?;
    lab.api()?.apply(CONFIG)?;
    let client = lab.api()?.client();
    let ip = Ipv4Addr::new(192, 0, 2, 200);
    lab.api()?.run(async move { create(client, "failover".to_owned(), "l2", Some(ip)).await })?;
    // The one endpoint is the pod of n1 (see `create`): another node must own the address.
    let ip = IpAddr::from(ip);
    let mut gaps = Vec::new();
    let mut remote_gaps = Vec::new();
    let mut own_backend = 0;
    while gaps.len() < rounds {
        let owner = lab.wait_for_owner(ip, SOON)?.to_owned();
        if owner == "n1" {
            // Another address may have another owner.
            own_backend += 1;
            if own_backend > 1 {
                return Err(anyhow!("n1 owns {ip} although it was preferred to others"));
            }
            let only = json!({ "spec": { "nodeSelectors": [{ "matchExpressions": [
                { "key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n1"] }] }] } });
            let object = json!({ "apiVersion": "fairlead.dev/v1beta1", "kind": "L2Advertisement",
                                 "metadata": { "name": "l2" } });
            lab.api()?.merge(object, only)?;
            wait_for("another owner", SOON, || match lab.owner(ip)? {
                Some(owner) if owner != "n1" => Ok(()),
                other => Err(anyhow!("{other:?}")),
            })?;
            continue;
        }
        let to = SocketAddr::new(ip, 80);
        wait_for("the pod to answer", SOON, || lab.client().ask(to, crate::Transport::Udp, SECOND))?;
        let pace = Duration::from_millis(10);
        let (near, far) = (lab.client().stream(to, pace), lab.remote().stream(to, pace));
        std::thread::sleep(SECOND);
        let carrier = if gaps.len() % 2 == 0 { Carrier::Lost } else { Carrier::Kept };
        lab.cut(&owner, carrier)?;
        std::thread::sleep(4 * SECOND);
        gaps.push(near.stop()?.longest_gap);
        remote_gaps.push(far.stop()?.longest_gap);
        lab.mend()?;
        wait_for("the first owner back", SOON, || match lab.owner(ip)? {
            Some(now) if now == owner => Ok(()),
            other => Err(anyhow!("{other:?}")),
        })?;
        std::thread::sleep(SECOND);
    }
    line("longest gap, LAN client", distribution(&mut gaps));
    line("longest gap, remote client", distribution(&mut remote_gaps));
    Ok(())
}

/// Does the same for every name, [`PARALLEL`] at a time.
async fn in_parallel<F: Future<Output = Result<()>>>(
    names: &[String],
    work: impl Fn(String) -> F,
) -> Result<()> {
    futures::stream::iter(names.iter().cloned().map(work))
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}

/// Creates an EndpointSlice and then its Service, so that the Service is complete the moment it exists.
async fn create(client: Client, name: String, pool: &str, ip: Option<Ipv4Addr>) -> Result<()> {
    let post = PostParams::default();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { crate::proxy::SERVICE_NAME: name } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [addresses::pod(1, 1).v4], "nodeName": "n1", "conditions": { "ready": true } }],
        "ports": [{ "name": "", "port": addresses::POD_PORT, "protocol": "UDP" }],
    });
    KubeApi::namespaced(client.clone(), NAMESPACE)
        .create(&post, &serde_json::from_value::<Slice>(slice)?)
        .await?;
    let mut annotations = BTreeMap::from([("fairlead.dev/address-pool", pool.to_owned())]);
    if let Some(ip) = ip {
        annotations.insert("fairlead.dev/load-balancer-ips", ip.to_string());
    }
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ipFamilyPolicy": "SingleStack",
                  "ports": [{ "port": 80, "protocol": "UDP" }] },
    }))?;
    KubeApi::namespaced(client, NAMESPACE).create(&post, &service).await?;
    Ok(())
}

type Slice = k8s_openapi::api::discovery::v1::EndpointSlice;

async fn delete(client: Client, name: &str) -> Result<()> {
    let params = DeleteParams::default();
    KubeApi::<Service>::namespaced(client.clone(), NAMESPACE).delete(name, &params).await?;
    KubeApi::<Slice>::namespaced(client, NAMESPACE).delete(name, &params).await?;
    Ok(())
}

/// Watches until `target` Services have an address; when that was. The watch is up when the outer future is done.
async fn assigned_after(
    client: Client,
    target: usize,
) -> Result<impl Future<Output = Result<Instant>> + Send + 'static> {
    let api = KubeApi::<Service>::namespaced(client, NAMESPACE);
    let has = |service: &Service| {
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        balancer.and_then(|balancer| balancer.ingress.as_ref()).is_some_and(|ingress| !ingress.is_empty())
    };
    let list = api.list(&ListParams::default()).await?;
    let mut done: BTreeSet<String> = list.iter().filter(|s| has(s)).map(|s| s.name_any()).collect();
    let mut events = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    Ok(async move {
        while done.len() < target {
            let service = events.next().await.context("the watch ended")??;
            if has(&service) {
                done.insert(service.name_any());
            }
        }
        Ok(Instant::now())
    })
}

fn machine() {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": ?");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("== Machine");
    line("processor", format!("{cores} × {}", model.trim_start_matches(['\t', ' ', ':'])));
    line("kernel", kernel.trim());
    line("load before", load.split(' ').next().unwrap_or_default());
}

fn sizes() -> Result<()> {
    println!("\n== Size of the binaries");
    for name in ["fairlead-controller", "fairlead-speaker", "fairlead"] {
        if let Ok(path) = binaries::find(name) {
            line(name, format!("{:.1} MB", std::fs::metadata(path)?.len() as f64 / 1e6));
        }
    }
    Ok(())
}

/// Resident memory in bytes.
fn resident(process: &Process) -> Result<u64> {
    let pid = process.pid().with_context(|| format!("{} does not run", process.name()))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kb: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb * 1024)
}

/// Looks every half millisecond.
fn fast<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if start.elapsed() > limit {
            return Err(anyhow!("waited {limit:?} for {what}"));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn line(what: &str, value: impl Display) {
    println!("   {what:46} {value}");
}

fn per_second(count: usize, took: Duration) -> String {
    format!("{:.2} s, {:.0} /s", took.as_secs_f64(), count as f64 / took.as_secs_f64())
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Median, 99th percentile and extremes. With few samples the percentile is the largest.
fn distribution(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: f64| -> f64 {
        let rank = (share * times.len() as f64).ceil() as usize;
        times.get(rank.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, min {:.1} ms, max {:.1} ms ({} times)",
        at(0.5),
        at(0.99),
        at(0.0),
        at(1.0),
        times.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let mut times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(
            distribution(&mut times),
            "p50 50.0 ms, p99 99.0 ms, min 1.0 ms, max 100.0 ms (100 times)"
        );
    }
}
