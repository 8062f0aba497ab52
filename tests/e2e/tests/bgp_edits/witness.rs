//! What the router notices: sessions that end, and changes of the routes in its kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use fairlead_e2e::{SOON, expect_sessions};
use fairlead_lab::{Lab, RouteEvent, RouteMonitor, ensure, wait_for};

/// Observes the router from its creation on.
pub(crate) struct Witness<'a> {
    lab: &'a Lab,
    routes: RouteMonitor,
    dropped: BTreeMap<IpAddr, u64>,
}

impl<'a> Witness<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        let dropped = lab.router().dropped_sessions().unwrap();
        Self { lab, routes: lab.router().monitor_routes().unwrap(), dropped }
    }

    /// Returns the number of sessions over IPv4 that ended since the last call.
    pub(crate) fn dropped(&mut self) -> u64 {
        let now = self.lab.router().dropped_sessions().unwrap();
        let of = |count: &BTreeMap<IpAddr, u64>| -> u64 {
            count.iter().filter(|(address, _)| address.is_ipv4()).map(|(_, dropped)| dropped).sum()
        };
        let ended = of(&now) - of(&self.dropped);
        self.dropped = now;
        ended
    }

    /// Waits until each node has replaced its session over IPv4, and all are established. The turns take four
    /// seconds.
    pub(crate) fn expect_new_sessions(&mut self) {
        let (nodes, mut dropped) = (self.lab.nodes().len() as u64, 0);
        wait_for("a new session of each node", SOON, || {
            dropped += self.dropped();
            ensure(dropped == nodes, dropped)
        })
        .unwrap();
        expect_sessions(self.lab, SOON).unwrap();
    }

    /// Waits until no route changes any more. Returns the changes in the router's kernel since the last call.
    pub(crate) fn last_route_events(&self) -> Vec<RouteEvent> {
        self.quiet_route_events(QUIET)
    }

    /// Waits until no route has changed for this time. Returns the changes in the router's kernel since the
    /// last call.
    pub(crate) fn quiet_route_events(&self, quiet: Duration) -> Vec<RouteEvent> {
        std::iter::from_fn(|| self.routes.next(quiet)).collect()
    }

    /// Returns the changes of routes in the router's kernel since the last call.
    pub(crate) fn route_events(&self) -> Vec<RouteEvent> {
        self.routes.events().unwrap()
    }
}

/// Time without a change of a route after which the router counts as settled.
const QUIET: Duration = Duration::from_millis(500);
