//! The view of a client: which pod answers at an address, how many packets of a stream are lost, which
//! Ethernet address the client's kernel has cached for an address.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use crate::addresses::Mac;
use crate::netns::Netns;
use crate::sys;
use crate::topology::LAN_INTERFACE;
use crate::wait::{ensure, wait_for};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// One HTTP request on its own connection.
    Tcp,
    /// One datagram.
    Udp,
}

impl Transport {
    /// Both protocols.
    pub const BOTH: [Self; 2] = [Self::Tcp, Self::Udp];
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// The answer of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Name of the pod.
    pub pod: String,
    /// Name of its node.
    pub node: String,
    /// The client's address as the pod saw it.
    pub client: IpAddr,
}

/// A stream counts an answer that arrives later than this as missing.
pub const LATE: Duration = Duration::from_millis(250);

/// A host that sends requests.
#[derive(Clone, Debug)]
pub struct Client {
    netns: Netns,
}

/// A stream of packets in progress.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    /// Packets sent so far.
    sent: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<StreamReport>>,
}

/// Results of a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamReport {
    /// Packets sent.
    pub sent: u64,
    /// Packets answered.
    pub answered: u64,
    /// The longest time in which no packet that was sent was answered within [`LATE`].
    pub longest_gap: Duration,
    /// Answers by pod.
    pub pods: BTreeMap<String, u64>,
}

impl Client {
    /// Returns a client in `netns`.
    pub fn new(netns: &Netns) -> Self {
        Self { netns: netns.clone() }
    }

    /// Returns its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Sends one request on a new connection or socket.
    pub fn ask(&self, to: SocketAddr, transport: Transport, limit: Duration) -> Result<Answer> {
        let text = self
            .netns
            .run(|| match transport {
                Transport::Tcp => ask_tcp(to, limit),
                Transport::Udp => ask_udp(to, limit),
            })?
            .with_context(|| format!("{transport} to {to} from {}", self.netns.name()))?;
        parse_answer(&text)
    }

    /// Sends a packet every `interval` from one socket until stopped, and counts every answer.
    pub fn stream(&self, to: SocketAddr, interval: Duration) -> Stream {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (netns, stopped, count) = (self.netns.clone(), stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            netns.enter()?;
            stream(to, interval, &stopped, &count)
        });
        Stream { stop, sent, thread }
    }

    /// Returns the Ethernet address that the client's kernel has cached for `ip`.
    pub fn neighbor(&self, ip: IpAddr) -> Result<Option<Mac>> {
        let text = self.netns.output(Command::new("ip").args(["-json", "neigh", "show", &ip.to_string()]))?;
        let entries: Value = serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text })?;
        let mac = entries.as_array().into_iter().flatten().find_map(|e| e.get("lladdr")?.as_str());
        Ok(mac.and_then(Mac::parse))
    }

    /// Flushes `ip` from the cache and resolves it again. Returns `None` if no host answers.
    pub fn resolve(&self, ip: IpAddr) -> Result<Option<Mac>> {
        self.forget(ip)?;
        self.netns.run(|| -> io::Result<()> {
            let socket = UdpSocket::bind(unspecified(ip))?;
            socket.send_to(&[], SocketAddr::new(ip, 9)).map(drop)
        })??;
        // The kernel sends three requests, one second apart.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(3200) {
            if let Some(mac) = self.neighbor(ip)? {
                return Ok(Some(mac));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }

    /// Opens a socket that sends raw Ethernet frames on the client's LAN interface.
    pub fn sender(&self) -> Result<socket2::Socket> {
        Ok(self.netns.run(|| sys::packet_socket(LAN_INTERFACE))??)
    }

    /// Flushes the neighbor cache entry of `ip`.
    pub fn forget(&self, ip: IpAddr) -> Result<()> {
        self.netns.output(Command::new("ip").args(["neigh", "flush", "to", &ip.to_string()])).map(drop)
    }
}

impl Stream {
    /// Waits until the stream has sent this number of packets since its start.
    pub fn wait_for_sent(&self, packets: u64, limit: Duration) -> Result<()> {
        wait_for(format!("{packets} packets of a stream"), limit, || {
            let sent = self.sent.load(Ordering::Relaxed);
            ensure(sent >= packets, format!("{sent} packets"))
        })
    }

    /// Waits until the stream has sent this number of packets more than now.
    pub fn wait_for_more(&self, packets: u64, limit: Duration) -> Result<()> {
        self.wait_for_sent(self.sent.load(Ordering::Relaxed) + packets, limit)
    }

    /// Ends the stream and waits half a second for outstanding answers.
    pub fn stop(self) -> Result<StreamReport> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(report) => Ok(report?),
            Err(_) => Err(anyhow!("the stream's thread panicked")),
        }
    }
}

impl std::fmt::Display for StreamReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} packets answered, longest gap {:.2} s",
            self.answered,
            self.sent,
            self.longest_gap.as_secs_f64()
        )?;
        for (pod, count) in &self.pods {
            write!(f, ", {count} by {pod}")?;
        }
        Ok(())
    }
}

fn unspecified(like: IpAddr) -> SocketAddr {
    if like.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0u16; 8], 0)) }
}

fn ask_tcp(to: SocketAddr, limit: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {text:?}"))),
    }
}

fn ask_udp(to: SocketAddr, limit: Duration) -> io::Result<String> {
    let socket = fresh_socket(to.ip())?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"?")?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Returns a socket on a port that was not used recently. A node forwards a known UDP flow as before,
/// possibly to a pod of another Service that had the address earlier.
fn fresh_socket(like: IpAddr) -> io::Result<UdpSocket> {
    /// Below the ephemeral ports of the kernel (`net.ipv4.ip_local_port_range`).
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let mut address = unspecified(like);
    for _ in PORTS {
        address.set_port(PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start));
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn parse_answer(text: &str) -> Result<Answer> {
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next().map(str::parse)) {
        (Some(pod), Some(node), Some(Ok(client))) => {
            Ok(Answer { pod: pod.to_owned(), node: node.to_owned(), client })
        }
        _ => bail!("not an answer of a pod: {text:?}"),
    }
}

fn stream(
    to: SocketAddr,
    interval: Duration,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> io::Result<StreamReport> {
    let socket = fresh_socket(to.ip())?;
    let mut report = StreamReport::default();
    let mut packets: Vec<Packet> = Vec::new();
    let mut buffer = [0; 2048];
    let mut receive_until = |until: Instant, packets: &mut [Packet], report: &mut StreamReport| {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // An error here is a timeout, or an ICMP message about an earlier packet.
            let _ = socket.set_read_timeout(Some(left));
            let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..length]);
            let Ok(answer) = parse_answer(&text) else { continue };
            // The pod repeats the request, which is the number of the packet.
            let number = text.rsplit(' ').next().and_then(|number| number.trim().parse::<usize>().ok());
            let Some(packet) = number.and_then(|number| packets.get_mut(number)) else { continue };
            packet.answered |= packet.sent.elapsed() <= LATE;
            report.answered += 1;
            *report.pods.entry(answer.pod).or_default() += 1;
        }
    };
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // Recorded before sending, because the answer may arrive at once.
        let number = packets.len();
        packets.push(Packet { sent: Instant::now(), answered: false });
        // A refusal by the kernel (no neighbor, no route) counts as a lost packet.
        let _ = socket.send_to(number.to_string().as_bytes(), to);
        sent.store(packets.len() as u64, Ordering::Relaxed);
        let next = start + interval * u32::try_from(packets.len()).unwrap_or(u32::MAX);
        receive_until(next, &mut packets, &mut report);
    }
    receive_until(Instant::now() + Duration::from_millis(500), &mut packets, &mut report);
    report.sent = packets.len() as u64;
    report.longest_gap = longest_gap(&packets, interval);
    Ok(report)
}

struct Packet {
    sent: Instant,
    answered: bool,
}

/// Measured between packets that were sent: a client that did not run for a while lost nothing in that time.
fn longest_gap(packets: &[Packet], interval: Duration) -> Duration {
    let lost = packets.split(|packet| packet.answered);
    let gaps = lost.filter_map(|run| Some(run.last()?.sent - run.first()?.sent + interval));
    gaps.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_names_pod_node_and_client() {
        let answer = parse_answer("echo-n1 n1 192.0.2.100 17\n").unwrap();
        assert_eq!(
            answer,
            Answer { pod: "echo-n1".into(), node: "n1".into(), client: "192.0.2.100".parse().unwrap() }
        );
        assert!(parse_answer("hello").is_err());
    }

    #[test]
    fn gap_covers_unanswered_packets_that_were_sent() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        for (packets, gap) in [
            (&[][..], 0),
            (&[(0, true), (10, true)], 0),
            (&[(0, true), (10, false), (20, true)], 10),
            (&[(0, false), (10, false), (20, true), (30, false)], 20),
            (&[(0, true), (10, false), (20, false), (30, false)], 30),
            // Nothing was sent for a second.
            (&[(0, true), (1000, true)], 0),
        ] {
            let sent: Vec<_> = packets
                .iter()
                .map(|(at, answered)| Packet { sent: start + ms(*at), answered: *answered })
                .collect();
            assert_eq!(longest_gap(&sent, ms(10)), ms(gap), "{packets:?}");
        }
    }
}
