//! The routes of the router's kernel, as netlink reports their changes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ipnet::Ipv4Net;

use fairlead_lab::Lab;

/// A change of a route that BGP installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    address: Ipv4Addr,
    /// Number of next hops; 0 if the route was deleted.
    next_hops: usize,
}

/// When a route changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// When the route first had a next hop.
    pub first: Instant,
    /// Last change.
    pub last: Instant,
    /// Current number of next hops.
    pub next_hops: usize,
}

/// Follows the host routes of BGP in the router's kernel.
#[derive(Debug)]
pub(crate) struct Routes {
    child: Child,
    changes: Receiver<(Instant, Change)>,
    routes: BTreeMap<Ipv4Addr, Route>,
}

impl Routes {
    /// Follows changes from now on. Existing routes are unknown until they change.
    ///
    /// # Errors
    /// If `ip monitor` does not start.
    pub(crate) fn follow(lab: &Lab) -> Result<Self> {
        let mut command = Command::new("ip");
        // Thousands of changes arrive faster than `ip` prints them; a small socket buffer would lose some.
        command.args(["-o", "-4", "-rcvbuf", "33554432", "monitor", "route"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = lab.network().router.run(|| command.spawn())?.context("ip monitor")?;
        let lines = BufReader::new(child.stdout.take().context("ip monitor has no output")?);
        let (sink, changes) = channel();
        std::thread::spawn(move || {
            for line in lines.lines() {
                let at = Instant::now();
                let Ok(line) = line else { return };
                if let Some(change) = parse(&line)
                    && sink.send((at, change)).is_err()
                {
                    return;
                }
            }
        });
        // `ip monitor` does not report when its socket is open.
        std::thread::sleep(Duration::from_millis(200));
        Ok(Self { child, changes, routes: BTreeMap::new() })
    }

    /// Forgets all routes.
    pub(crate) fn forget(&mut self) {
        while self.changes.try_recv().is_ok() {}
        self.routes.clear();
    }

    /// Waits until there is a route to `address`. Returns when it appeared.
    ///
    /// # Errors
    /// If there is none within `limit`.
    pub(crate) fn appears(&mut self, address: Ipv4Addr, limit: Duration) -> Result<Instant> {
        self.until(limit, |routes| routes.get(&address).map(|route| route.first))
            .with_context(|| format!("no route to {address} after {limit:?}"))
    }

    /// Waits until the route to `address` has this many next hops. Returns when the last one was added.
    ///
    /// # Errors
    /// If it has fewer after `limit`.
    pub(crate) fn complete(
        &mut self,
        address: Ipv4Addr,
        next_hops: usize,
        limit: Duration,
    ) -> Result<Instant> {
        self.until(limit, |routes| routes.get(&address).filter(|r| r.next_hops == next_hops).map(|r| r.last))
            .with_context(|| format!("no route to {address} with {next_hops} next hops after {limit:?}"))
    }

    /// Waits until there is no route to `address`.
    ///
    /// # Errors
    /// If there still is one after `limit`.
    pub(crate) fn vanishes(&mut self, address: Ipv4Addr, limit: Duration) -> Result<()> {
        self.until(limit, |routes| (!routes.contains_key(&address)).then_some(()))
            .with_context(|| format!("still a route to {address} after {limit:?}"))
    }

    /// Waits until there are `count` routes. Returns when the last one appeared.
    ///
    /// # Errors
    /// If there are fewer after `limit`.
    pub(crate) fn count(&mut self, count: usize, limit: Duration) -> Result<Instant> {
        let all = self.until(limit, |routes| (routes.len() >= count).then_some(()));
        match all {
            Some(()) => self.routes.values().map(|route| route.first).max().context("no routes at all"),
            None => bail!("{} of {count} routes after {limit:?}", self.routes.len()),
        }
    }

    /// Waits until `count` routes have this many next hops. Returns when the last change was.
    ///
    /// # Errors
    /// If fewer have them after `limit`.
    pub(crate) fn complete_count(
        &mut self,
        count: usize,
        next_hops: usize,
        limit: Duration,
    ) -> Result<Instant> {
        let of = |routes: &BTreeMap<Ipv4Addr, Route>| {
            routes.values().filter(|route| route.next_hops == next_hops).count()
        };
        match self.until(limit, |routes| (of(routes) >= count).then_some(())) {
            Some(()) => self.routes.values().map(|route| route.last).max().context("no routes at all"),
            None => {
                bail!("{} of {count} routes have {next_hops} next hops after {limit:?}", of(&self.routes))
            }
        }
    }

    fn until<T>(
        &mut self,
        limit: Duration,
        mut found: impl FnMut(&BTreeMap<Ipv4Addr, Route>) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + limit;
        loop {
            while let Ok((at, change)) = self.changes.try_recv() {
                self.take(at, change);
            }
            if let Some(found) = found(&self.routes) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            let (at, change) = self.changes.recv_timeout(left).ok()?;
            self.take(at, change);
        }
    }

    fn take(&mut self, at: Instant, Change { address, next_hops }: Change) {
        if next_hops == 0 {
            self.routes.remove(&address);
            return;
        }
        let route = self.routes.entry(address).or_insert(Route { first: at, last: at, next_hops });
        if route.next_hops != next_hops {
            (route.last, route.next_hops) = (at, next_hops);
        }
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parses a line of `ip -o -4 monitor route`: a host route of BGP, or its deletion.
fn parse(line: &str) -> Option<Change> {
    let mut words = line.split_whitespace().peekable();
    let deleted = words.next_if_eq(&"Deleted").is_some();
    let destination = words.next()?;
    // `ip` prints host routes without a prefix length.
    let address = destination.parse::<Ipv4Addr>().ok().or_else(|| {
        destination.parse::<Ipv4Net>().ok().filter(|net| net.prefix_len() == 32).map(|n| n.addr())
    })?;
    let words: Vec<&str> = words.collect();
    if !words.windows(2).any(|pair| pair == ["proto", "bgp"]) {
        return None;
    }
    let next_hops = words.iter().filter(|word| **word == "via").count();
    Some(Change { address, next_hops: if deleted { 0 } else { next_hops.max(1) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bgp_host_routes_are_parsed() {
        for (line, expected) in [
            ("198.18.0.1 nhid 12 via 192.0.2.11 dev eth0 proto bgp metric 20 ", Some(1)),
            (
                "198.18.0.1 nhid 14 proto bgp metric 20 \\\tnexthop via 192.0.2.11 dev eth0 weight 1 \
                 \\\tnexthop via 192.0.2.12 dev eth0 weight 1 ",
                Some(2),
            ),
            ("Deleted 198.18.0.1 nhid 14 proto bgp metric 20 ", Some(0)),
            ("Deleted 198.18.0.1 nhid 12 via 192.0.2.11 dev eth0 proto bgp metric 20 ", Some(0)),
            ("198.18.0.0/24 via 192.0.2.11 dev eth0 proto bgp metric 20 ", None),
            ("198.18.0.1 via 192.0.2.11 dev eth0 proto static ", None),
            ("local 192.0.2.1 dev eth0 table local proto kernel scope host src 192.0.2.1 ", None),
            ("", None),
        ] {
            let seen = parse(line);
            assert_eq!(seen.map(|change| change.next_hops), expected, "{line}");
            assert!(seen.is_none_or(|change| change.address == Ipv4Addr::new(198, 18, 0, 1)), "{line}");
        }
    }
}
