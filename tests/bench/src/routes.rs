//! The host routes of the router's kernel, as netlink reports their changes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fairlead_lab::{Lab, RouteEvent, RouteMonitor};
use ipnet::IpNet;

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
    monitor: RouteMonitor,
    routes: BTreeMap<Ipv4Addr, Route>,
}

impl Routes {
    /// Follows changes from now on. Existing routes are unknown until they change.
    ///
    /// # Errors
    /// If `ip monitor` does not start.
    pub(crate) fn follow(lab: &Lab) -> Result<Self> {
        Ok(Self { monitor: lab.router().monitor_routes()?, routes: BTreeMap::new() })
    }

    /// Forgets all routes.
    pub(crate) fn forget(&mut self) {
        while self.monitor.next(Duration::ZERO).is_some() {}
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
            while let Some(event) = self.monitor.next(Duration::ZERO) {
                self.take(event);
            }
            if let Some(found) = found(&self.routes) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            let event = self.monitor.next(left)?;
            self.take(event);
        }
    }

    fn take(&mut self, RouteEvent { at, prefix, next_hops }: RouteEvent) {
        let IpNet::V4(prefix) = prefix else { return };
        if prefix.prefix_len() < 32 {
            return;
        }
        let address = prefix.addr();
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
