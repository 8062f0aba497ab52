//! Many prefixes to four routers: one speaker beside BIRD, with the same scripted routers.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use fairlead_lab::peers::{Bird, Host, Sink};
use fairlead_lab::{Process, ensure, wait_for};
use serde_json::json;

use crate::Options;
use crate::objects::{Plan, Pool};
use crate::stage::{DataPlane, SOON, Stage, on_stage};
use crate::statistics::Samples;
use crate::table::{self, Section, megabytes, percent};
use crate::usage;

/// Number of routers.
const ROUTERS: usize = 4;
/// Host numbers of the first router and of BIRD.
const FIRST_ROUTER: u8 = 3;
const BIRD: u8 = 9;
/// AS number of the routers.
const ASN: u16 = 64998;
/// Ports of the routers. Each sender has its own, so that one waits while the other is measured.
const SPEAKER_PORT: u16 = 179;
const BIRD_PORT: u16 = 1790;
/// Numbers of prefixes. The last one is the default of `--services`.
const SOME: usize = 1000;
const MANY: usize = 10_000;

/// The two senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Speaker,
    Bird,
}

/// The routers' hosts, and the host of BIRD.
struct Network {
    routers: Vec<Host>,
    bird: Host,
}

/// Measures memory with growing numbers of prefixes, then the time of a new session, then withdrawals.
///
/// # Errors
/// If a router does not get all prefixes.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let many = options.services.unwrap_or(MANY);
        let network = Network::build(stage)?;
        let mut section = Section::new(
            format!("{many} prefixes to {ROUTERS} routers, one speaker and BIRD ({} rounds)", options.rounds),
            ["p50", "max", "memory"],
        );
        let mut bird: Option<Bird> = None;
        let mut created = 0;
        for count in [0, SOME, many] {
            if count > many {
                continue;
            }
            create(stage, created..count)?;
            created = count;
            if let Some(bird) = bird.take() {
                bird.process().terminate(SOON)?;
            }
            let started = Bird::start(&network.bird, &bird_config(count))?;
            memory(stage, &network, &started, count, &mut section)?;
            bird = Some(started);
        }
        times(options, &network, many, &mut section)?;
        withdrawals(options, stage, &network, many, &mut section)?;
        section.note("time: from the OPENs of the routers, which all send at once, to the last prefix");
        section.note(
            "last: until all routers have all prefixes; BIRD: 2.0 of Debian, static routes, the same network",
        );
        section.note("memory: VmRSS, while all routers have all prefixes");
        section.note("withdrawal: from before the request that makes the endpoint unready");
        Ok(section)
    })
}

impl Network {
    /// Connects the hosts. Only the first node has sessions, and only with the routers here.
    fn build(stage: &Stage) -> Result<Self> {
        let numbers = (FIRST_ROUTER..).take(ROUTERS);
        let routers = numbers.map(|n| Host::plug(&stage.lab, &format!("sink{n}"), n));
        let routers = routers.collect::<Result<Vec<_>>>()?;
        let bird = Host::plug(&stage.lab, "bird", BIRD)?;
        let api = stage.lab.api()?;
        api.delete("{apiVersion: fairlead.dev/v1beta1, kind: BGPPeer, metadata: {name: router}}")?;
        for host in &routers {
            api.apply_object(json!({
                "apiVersion": "fairlead.dev/v1beta1", "kind": "BGPPeer", "metadata": { "name": host.name() },
                "spec": {
                    "myASN": 64513, "peerASN": ASN, "peerAddress": host.address().v4, "connectTime": "1s",
                    "holdTime": "180s",
                    "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }],
                },
            }))?;
        }
        Ok(Self { routers, bird })
    }

    /// Starts the routers, and waits until the sender has connected to each.
    fn connect(&self, sender: Sender, routers: usize) -> Result<Vec<Sink>> {
        let port = if sender == Sender::Speaker { SPEAKER_PORT } else { BIRD_PORT };
        let sinks = self.routers.iter().take(routers).map(|host| Sink::start(host, port, ASN));
        let sinks = sinks.collect::<Result<Vec<_>>>()?;
        wait_for(format!("{sender:?} to connect to {routers} routers"), SOON, || {
            let connected = sinks.iter().filter(|sink| sink.is_connected()).count();
            ensure(connected == routers, connected).map_err(|connected| anyhow!("{connected}"))
        })?;
        Ok(sinks)
    }
}

/// Opens all sessions at once, and waits until each router has `count` prefixes. Returns the time of each.
fn load(sinks: &[Sink], count: usize) -> Result<Vec<Duration>> {
    let start = Instant::now();
    sinks.iter().for_each(Sink::open);
    wait_for_prefixes(sinks, count)?;
    let times = sinks.iter().map(|sink| Some(sink.prefixes().1?.saturating_duration_since(start)));
    // Without prefixes there is no time.
    Ok(times.map(Option::unwrap_or_default).collect())
}

fn wait_for_prefixes(sinks: &[Sink], count: usize) -> Result<()> {
    wait_for(format!("{count} prefixes in each router"), SOON, || {
        let seen: Vec<_> = sinks.iter().map(|sink| (sink.is_established(), sink.prefixes().0)).collect();
        let complete = seen.iter().all(|(established, prefixes)| *established && *prefixes == count);
        ensure(complete, seen).map_err(|seen| anyhow!("{seen:?}"))
    })
}

/// Creates the Services with these numbers.
fn create(stage: &Stage, numbers: std::ops::Range<usize>) -> Result<()> {
    if !numbers.is_empty() {
        let plans = Plan::many("scale", numbers.start, numbers.len(), &[Pool::Bgp]);
        let mut watch = stage.control.watch()?;
        stage.control.create(&plans)?;
        watch.addresses("scale-", numbers.end, 4 * SOON)?;
    }
    stage.quiet()
}

fn memory(stage: &Stage, network: &Network, bird: &Bird, count: usize, section: &mut Section) -> Result<()> {
    for sender in [Sender::Speaker, Sender::Bird] {
        let sinks = network.connect(sender, ROUTERS)?;
        load(&sinks, count)?;
        let process: &Process = match sender {
            Sender::Speaker => stage.lab.node("n1")?.speaker()?,
            Sender::Bird => bird.process(),
        };
        let resident = megabytes(usage::memory(process)?.resident);
        section.row(format!("{}, {count} prefixes", name(sender)), [String::new(), String::new(), resident]);
    }
    Ok(())
}

/// Measures the time of new sessions, with one router and with all. The senders alternate.
fn times(options: &Options, network: &Network, count: usize, section: &mut Section) -> Result<()> {
    for routers in [1, ROUTERS] {
        let mut each = [Vec::new(), Vec::new()];
        let mut last = [Vec::new(), Vec::new()];
        for _ in 0..options.rounds {
            for (i, sender) in [Sender::Speaker, Sender::Bird].into_iter().enumerate() {
                let times = load(&network.connect(sender, routers)?, count)?;
                last[i].extend(times.iter().max());
                each[i].extend(times);
            }
        }
        let one = routers == 1;
        let row = |section: &mut Section, what: &str, samples: &[Vec<Duration>; 2]| {
            let samples = samples.clone().map(|samples| samples.into_iter().collect::<Samples<Duration>>());
            for (sender, samples) in [Sender::Speaker, Sender::Bird].into_iter().zip(&samples) {
                let [p50, max] = [samples.median(), samples.max()].map(table::some_time);
                section.row(format!("{}, {what}", name(sender)), [p50, max, String::new()]);
            }
            let [speaker, bird] = samples.map(|samples| samples.median().unwrap_or_default());
            if !bird.is_zero() {
                let share = percent(speaker.as_secs_f64() / bird.as_secs_f64());
                section.row("  the speaker's share of BIRD's time", [share, String::new(), String::new()]);
            }
        };
        if one {
            row(section, "a session with one router", &each);
        } else {
            row(section, "sessions with all routers, each", &each);
            row(section, "sessions with all routers, last", &last);
        }
    }
    Ok(())
}

/// Measures the withdrawal of one route beside `others`, when the Service loses its endpoint.
fn withdrawals(
    options: &Options,
    stage: &Stage,
    network: &Network,
    others: usize,
    section: &mut Section,
) -> Result<()> {
    let sinks = network.connect(Sender::Speaker, ROUTERS)?;
    load(&sinks, others)?;
    let mut plan = Plan::new("lost", Pool::Bgp);
    plan.local = true;
    let mut watch = stage.control.watch()?;
    stage.control.create_slice(&plan)?;
    stage.control.create_service(&plan)?;
    let (address, _) = watch.address(&plan.name, SOON)?;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for _ in 0..options.samples() {
        wait_for_prefixes(&sinks, others + 1)?;
        let start = Instant::now();
        stage.control.set_ready(&plan.name, false)?;
        wait_for_prefixes(&sinks, others)?;
        let times = sinks.iter().map(|sink| Some(sink.withdrawn(address, start)? - start));
        let times = times.collect::<Option<Vec<_>>>().context("a router lost the session")?;
        first.extend(times.iter().min());
        last.extend(times.iter().max());
        stage.control.set_ready(&plan.name, true)?;
    }
    for (what, samples) in [("at the first router", first), ("at the last router", last)] {
        let samples: Samples<Duration> = samples.into_iter().collect();
        let cells = [samples.median(), samples.max()].map(table::some_time);
        let [p50, max] = cells;
        let p99 = table::some_time(samples.percentile(0.99));
        let what = format!("withdrawal {what}, {others} others (p99 {p99})");
        section.row(what, [p50, max, String::new()]);
    }
    Ok(())
}

fn name(sender: Sender) -> &'static str {
    match sender {
        Sender::Speaker => "speaker",
        Sender::Bird => "BIRD",
    }
}

/// Returns a configuration of BIRD that announces `count` host routes to all routers.
fn bird_config(count: usize) -> String {
    let mut config = "protocol static {\n ipv4;\n".to_owned();
    for address in (u32::from(Ipv4Addr::new(198, 18, 0, 0))..).take(count).map(Ipv4Addr::from) {
        let _ = writeln!(config, " route {address}/32 blackhole;");
    }
    let _ = write!(
        config,
        "}}\ntemplate bgp sink {{\n local 192.0.2.{BIRD} as 64513;\n hold time 180;\n \
         connect delay time 1;\n connect retry time 1;\n error wait time 1, 2;\n \
         ipv4 {{ import none; export all; next hop self; }};\n}}\n"
    );
    for n in (FIRST_ROUTER..).take(ROUTERS) {
        let _ = writeln!(
            config,
            "protocol bgp r{n} from sink {{ neighbor 192.0.2.{n} port {BIRD_PORT} as {ASN}; }}"
        );
    }
    config
}
