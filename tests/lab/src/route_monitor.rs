//! The changes of the routes in the kernel of the router, as netlink reports them.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;

use crate::netns::Netns;

/// Destination of the routes that mark a position in the sequence of events. Their number is the metric. They
/// are in a table of their own, which FRR does not read.
const MARKER: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
const MARKER_TABLE: &str = "250";
/// Limit for the event of a marker.
const MARKED_WITHIN: Duration = Duration::from_secs(20);

/// A change of a route that BGP installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEvent {
    /// When the event was read.
    pub at: Instant,
    /// Destination.
    pub prefix: IpNet,
    /// Number of next hops; 0 if the route was deleted.
    pub next_hops: usize,
}

/// Follows the routes that FRR or BIRD learned by BGP in one namespace. Routes are unknown until they change.
#[derive(Debug)]
pub struct RouteMonitor {
    netns: Netns,
    child: Child,
    lines: Receiver<(Instant, Line)>,
    /// Number of the last marker.
    marks: Cell<u32>,
}

/// A line of `ip monitor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Marker(u32),
    Bgp { prefix: IpNet, next_hops: usize },
}

impl RouteMonitor {
    /// Follows all changes from the return of this function on.
    ///
    /// # Errors
    /// If `ip monitor` does not start.
    pub fn start(netns: &Netns) -> Result<Self> {
        let mut command = Command::new("ip");
        // Thousands of changes arrive faster than `ip` prints them; a small socket buffer would lose some.
        command.args(["-o", "-rcvbuf", "33554432", "monitor", "route"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = netns.run(|| command.spawn())?.context("ip monitor")?;
        let output = BufReader::new(child.stdout.take().context("ip monitor has no output")?);
        let (sink, lines) = channel();
        std::thread::spawn(move || {
            for text in output.lines() {
                let at = Instant::now();
                let Ok(text) = text else { return };
                if let Some(line) = parse(&text)
                    && sink.send((at, line)).is_err()
                {
                    return;
                }
            }
        });
        let monitor = Self { netns: netns.clone(), child, lines, marks: Cell::new(0) };
        // `ip monitor` does not report when its socket is open.
        let end = Instant::now() + MARKED_WITHIN;
        while Instant::now() < end {
            monitor.mark()?;
            if monitor.lines.recv_timeout(Duration::from_millis(100)).is_ok() {
                monitor.events()?;
                return Ok(monitor);
            }
        }
        bail!("ip monitor reports no changes")
    }

    /// Returns the next change, or `None` if there is none within `limit`.
    pub fn next(&self, limit: Duration) -> Option<RouteEvent> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let (at, Line::Bgp { prefix, next_hops }) = self.lines.recv_timeout(left).ok()? {
                return Some(RouteEvent { at, prefix, next_hops });
            }
        }
    }

    /// Returns the changes until now, without those that an earlier call or [`Self::next`] returned.
    ///
    /// # Errors
    /// If `ip monitor` ended.
    pub fn events(&self) -> Result<Vec<RouteEvent>> {
        let mark = self.mark()?;
        let end = Instant::now() + MARKED_WITHIN;
        let mut events = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left).context("ip monitor reports no changes")? {
                (_, Line::Marker(number)) if number == mark => return Ok(events),
                (_, Line::Marker(_)) => {}
                (at, Line::Bgp { prefix, next_hops }) => events.push(RouteEvent { at, prefix, next_hops }),
            }
        }
    }

    /// Adds and deletes the route that marks this position, and returns its number.
    fn mark(&self) -> Result<u32> {
        let number = self.marks.get() + 1;
        self.marks.set(number);
        let route = format!("unreachable {MARKER} metric {number} table {MARKER_TABLE}");
        let batch = format!("route add {route}\nroute del {route}\n");
        self.netns.feed(Command::new("ip").args(["-batch", "-"]), &batch)?;
        Ok(number)
    }
}

impl Drop for RouteMonitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parses a line of `ip -o monitor route`: the deletion of a marker, or a change of a route of BGP. BIRD
/// gives all its routes the protocol `bird`.
fn parse(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace().peekable();
    let deleted = words.next_if_eq(&"Deleted").is_some();
    words.next_if_eq(&"unreachable");
    // `ip` prints host routes without a prefix length.
    let text = words.next()?;
    let prefix: IpNet = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    let words: Vec<&str> = words.collect();
    let value = |name: &str| words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
    if prefix.addr() == IpAddr::from(MARKER) {
        return value("metric")?.parse().ok().filter(|_| deleted).map(Line::Marker);
    }
    if !matches!(value("proto"), Some("bgp" | "bird")) {
        return None;
    }
    let next_hops = words.iter().filter(|word| **word == "via").count();
    Some(Line::Bgp { prefix, next_hops: if deleted { 0 } else { next_hops.max(1) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bgp_routes_and_markers_are_parsed() {
        let bgp = |prefix: &str, next_hops| Some(Line::Bgp { prefix: prefix.parse().unwrap(), next_hops });
        for (line, expected) in [
            ("198.18.0.1 nhid 12 via 192.0.2.11 dev eth0 proto bgp metric 20 ", bgp("198.18.0.1/32", 1)),
            (
                "198.18.0.1 nhid 14 proto bgp metric 20 \\\tnexthop via 192.0.2.11 dev eth0 weight 1 \
                 \\\tnexthop via 192.0.2.12 dev eth0 weight 1 ",
                bgp("198.18.0.1/32", 2),
            ),
            ("Deleted 198.18.0.1 nhid 14 proto bgp metric 20 ", bgp("198.18.0.1/32", 0)),
            (
                "Deleted 198.18.0.1 nhid 12 via 192.0.2.11 dev eth0 proto bgp metric 20 ",
                bgp("198.18.0.1/32", 0),
            ),
            ("198.18.0.0/24 via 192.0.2.11 dev eth0 proto bgp metric 20 ", bgp("198.18.0.0/24", 1)),
            (
                "2001:db8:100::1 nhid 9 via fe80::1 dev eth0 proto bgp metric 20 pref medium",
                bgp("2001:db8:100::1/128", 1),
            ),
            ("198.18.0.1 via 192.0.2.11 dev eth0 proto bird metric 32 ", bgp("198.18.0.1/32", 1)),
            ("198.18.0.1 via 192.0.2.11 dev eth0 proto static ", None),
            ("local 192.0.2.1 dev eth0 table local proto kernel scope host src 192.0.2.1 ", None),
            ("unreachable 240.0.0.1 table 250 metric 7 ", None),
            ("Deleted unreachable 240.0.0.1 table 250 metric 7 ", Some(Line::Marker(7))),
            ("", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
