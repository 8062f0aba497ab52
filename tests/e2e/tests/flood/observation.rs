//! What others notice of a flood: who answers ARP and after what time, and the kubelet's probe.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fairlead_lab::{LAN_INTERFACE, Lab, Mac, Message, addresses, frame, sys};

/// Time between two ARP requests.
const ARP_INTERVAL: Duration = Duration::from_millis(20);
/// A request without an answer after this time fails.
const ARP_LIMIT: Duration = Duration::from_secs(2);
/// Time between two probes of a node.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// Time after which a probe fails.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// Port of `/healthz`.
const HTTP_PORT: u16 = 7474;

/// Largest 99th percentile of the time to an ARP answer, and longest time of a probe, on a machine that does
/// nothing else (`FAIRLEAD_QUIET_MACHINE`).
const QUIET_MACHINE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// The same on any machine, where all nodes, the routers and other programs share the processors. A speaker
/// that a router stalls needs seconds.
const ANY_MACHINE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The same values without a flood times this are the limit, if that is more.
const TOLERANCE: u32 = 4;

/// Measured values.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    /// Hosts that claimed the address.
    claimants: BTreeSet<Mac>,
    /// Times to the first answer, sorted.
    arp: Vec<Duration>,
    /// Times of `/healthz`, sorted.
    probes: Vec<Duration>,
}

/// Limits for a flood.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    claimants: BTreeSet<Mac>,
    arp_p99: Duration,
    probe_max: Duration,
}

impl Observation {
    fn arp_p99(&self) -> Duration {
        percentile(&self.arp, 99)
    }

    fn probe_max(&self) -> Duration {
        percentile(&self.probes, 100)
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ARP answers of {:?}, median {:?}, 99 % {:?}, max {:?}; {} probes, median {:?}, max {:?}",
            self.arp.len(),
            self.claimants,
            percentile(&self.arp, 50),
            self.arp_p99(),
            percentile(&self.arp, 100),
            self.probes.len(),
            percentile(&self.probes, 50),
            self.probe_max()
        )
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "99 % of ARP answers within {:?}, probes within {:?}", self.arp_p99, self.probe_max)
    }
}

impl Bounds {
    pub(crate) fn from_quiet(quiet: &[Observation]) -> Self {
        let arp_p99 = quiet.iter().map(Observation::arp_p99).min().unwrap_or_default();
        let probe_max = quiet.iter().map(Observation::probe_max).min().unwrap_or_default();
        let (arp_limit, probe_limit) = match std::env::var_os("FAIRLEAD_QUIET_MACHINE") {
            Some(_) => QUIET_MACHINE,
            None => ANY_MACHINE,
        };
        Self {
            claimants: quiet.iter().flat_map(|quiet| quiet.claimants.clone()).collect(),
            arp_p99: arp_limit.max(arp_p99 * TOLERANCE),
            probe_max: probe_limit.max(probe_max * TOLERANCE),
        }
    }

    pub(crate) fn check(&self, flooded: &Observation) {
        assert_eq!(self.claimants.len(), 1, "one node owns the address");
        assert_eq!(flooded.claimants, self.claimants, "the same node answers, and no other");
        assert!(flooded.arp_p99() < self.arp_p99, "ARP: limit {:?}; {flooded}", self.arp_p99);
        assert!(flooded.probe_max() < self.probe_max, "/healthz: limit {:?}; {flooded}", self.probe_max);
    }
}

/// Asks for `ip` and probes all nodes for this time.
pub(crate) fn observe(lab: &Lab, ip: IpAddr, time: Duration) -> Result<Observation> {
    let IpAddr::V4(ip) = ip else { bail!("{ip} is not an IPv4 address") };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let probing: Vec<_> = lab
            .network()
            .nodes
            .iter()
            .map(|node| {
                scope.spawn(|| -> Result<Vec<Duration>> {
                    node.netns.enter()?;
                    let mut times = Vec::new();
                    while !ended.load(Ordering::Relaxed) {
                        times.push(probe()?);
                        std::thread::sleep(PROBE_INTERVAL);
                    }
                    Ok(times)
                })
            })
            .collect();
        let asked = ask(lab, ip, time);
        ended.store(true, Ordering::Relaxed);
        let mut probes = Vec::new();
        for thread in probing {
            probes.extend(thread.join().map_err(|_| anyhow::anyhow!("a probing thread panicked"))??);
        }
        let (claimants, mut arp) = asked?;
        arp.sort();
        probes.sort();
        Ok(Observation { claimants, arp, probes })
    })
}

/// Returns the longest part of the period without an event.
pub(crate) fn longest_silence(events: impl Iterator<Item = Instant>, period: Range<Instant>) -> Duration {
    let inside = events.filter(|at| period.contains(at));
    let times: Vec<Instant> = [period.start].into_iter().chain(inside).chain([period.end]).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

fn ask(lab: &Lab, ip: Ipv4Addr, time: Duration) -> Result<(BTreeSet<Mac>, Vec<Duration>)> {
    let mut socket = lab.network().client.run(|| sys::packet_socket(LAN_INTERFACE))??;
    let own = addresses::client();
    let request = arp_request(addresses::lan_mac(own), own.v4, ip);
    let mut claimants = BTreeSet::new();
    let mut times = Vec::new();
    let mut buffer = [0; 2048];
    let start = Instant::now();
    while start.elapsed() < time {
        let asked = Instant::now();
        socket.send(&request)?;
        let mut answered = None;
        while asked.elapsed() < ARP_INTERVAL || answered.is_none() {
            if asked.elapsed() > ARP_LIMIT {
                bail!("no host answered ARP for {ip} within {ARP_LIMIT:?}");
            }
            let left = ARP_INTERVAL.saturating_sub(asked.elapsed());
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            // The error is the read timeout.
            let Ok(length) = socket.read(&mut buffer) else { continue };
            let Some(frame) = frame::parse(&buffer[..length]) else { continue };
            if !frame.message.claims(ip.into()) {
                continue;
            }
            claimants.insert(frame.source);
            if matches!(frame.message, Message::Arp { operation: 2, .. }) {
                answered.get_or_insert_with(|| asked.elapsed());
            }
        }
        times.extend(answered);
    }
    Ok((claimants, times))
}

/// Returns a broadcast request (RFC 826).
fn arp_request(mac: Mac, own: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    // Ethernet type ARP; hardware type Ethernet, protocol type IPv4, their address lengths, operation
    // request.
    const HEADER: [u8; 10] = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6][..], &mac.0, &HEADER, &mac.0, &own.octets(), &[0; 6], &target.octets()].concat()
}

/// Requests `/healthz` on this thread's node, and returns the time to the response.
fn probe() -> io::Result<Duration> {
    let start = Instant::now();
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), HTTP_PORT);
    let mut stream = TcpStream::connect_timeout(&address, PROBE_LIMIT)?;
    stream.set_read_timeout(Some(PROBE_LIMIT))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.starts_with("HTTP/1.1 200") {
        true => Ok(start.elapsed()),
        false => Err(io::Error::other(text)),
    }
}

/// Returns a percentile of sorted values, by nearest rank.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}
