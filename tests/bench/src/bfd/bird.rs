//! BIRD as a second router that detects the failure of a node.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fairlead_lab::peers::{Bird, Host};
use fairlead_lab::{Carrier, RouteMonitor, addresses, wait_for};
use ipnet::IpNet;
use serde_json::json;

use super::{IN_FORCE, MULTIPLIER, PROFILE, VERSION, profile_object};
use crate::stage::{NODES, SOON, Stage};

/// Host number of the first router; each interval has a router of its own.
const FIRST_HOST: u8 = 101;
const ASN: u32 = 64800;

/// BIRD with BGP and BFD sessions with all nodes.
#[derive(Debug)]
pub(super) struct Router {
    bird: Bird,
    monitor: RouteMonitor,
    route: IpNet,
    interval: u64,
}

impl Router {
    /// Starts BIRD, and waits until it has `route` by all nodes and its BFD sessions use `interval` (in
    /// milliseconds).
    ///
    /// # Errors
    /// If a session does not come up.
    pub(super) fn start(stage: &Stage, route: IpNet, interval: u64) -> Result<Self> {
        let name = format!("bird-{interval}");
        let host = Host::plug(&stage.lab, &name, FIRST_HOST + u8::try_from(interval % 19)?)?;
        let address = host.address().v4;
        let neighbors: String = (1..=NODES).map(|n| neighbor(n, address)).collect();
        let text = format!(
            "protocol kernel {{ merge paths on; ipv4 {{ export where source = RTS_BGP; }}; }}\n\
             protocol bfd {{ interface \"*\" {{ interval {interval} ms; multiplier {MULTIPLIER}; }}; }}\n\
             {neighbors}"
        );
        let bird = Bird::start(&host, &text)?;
        let monitor = RouteMonitor::start(host.netns())?;
        let api = stage.lab.api()?;
        api.apply_object(profile_object(PROFILE, interval))?;
        api.apply_object(json!({
            "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": name },
            "spec": { "myASN": 64513, "peerASN": ASN, "peerAddress": address, "bfdProfile": PROFILE },
        }))?;
        let router = Self { bird, monitor, route, interval };
        router.wait_until_up()?;
        Ok(router)
    }

    /// Cuts the cable of n1, and returns the time until BIRD's kernel has one next hop less.
    ///
    /// # Errors
    /// If BIRD keeps the next hop, or does not use it again.
    pub(super) fn cut(&self, stage: &Stage) -> Result<Duration> {
        self.monitor.events()?;
        let start = Instant::now();
        stage.lab.cut("n1", Carrier::Kept)?;
        let withdrawn = self.expect(|next_hops| next_hops < NODES)?;
        stage.lab.mend()?;
        self.wait_until_up()?;
        Ok(withdrawn - start)
    }

    /// Waits until the route has all next hops, and BFD uses its interval.
    fn wait_until_up(&self) -> Result<()> {
        self.expect(|next_hops| next_hops == NODES)?;
        // Seconds, as `show bfd sessions` prints them.
        let seconds = |times| format!("{:.3}", Duration::from_millis(self.interval * times).as_secs_f64());
        let expected = ["Up".to_owned(), seconds(1), seconds(MULTIPLIER)];
        wait_for("BFD of BIRD with every node", IN_FORCE, || {
            let text = self.bird.birdc("show bfd sessions")?;
            let up = text.lines().filter(|line| {
                // Address, interface, state, since, interval, timeout.
                let columns: Vec<&str> = line.split_whitespace().collect();
                [2, 4, 5].map(|n| columns.get(n).copied().unwrap_or_default()) == expected
            });
            if up.count() != NODES {
                bail!("{text}");
            }
            Ok(())
        })
    }

    /// Waits for a change of the route in the kernel after which the number of its next hops is `expected`.
    fn expect(&self, expected: impl Fn(usize) -> bool) -> Result<Instant> {
        loop {
            let event = self.monitor.next(SOON).context("BIRD changes no route")?;
            if event.prefix == self.route && expected(event.next_hops) {
                return Ok(event.at);
            }
        }
    }
}

/// Returns the configuration of the sessions with node `n`.
fn neighbor(n: usize, local: Ipv4Addr) -> String {
    let node = addresses::node(n).v4;
    format!(
        "protocol bgp n{n} {{\n\
             passive yes; bfd on; error wait time 1, 2;\n\
             local {local} as {ASN}; neighbor {node} as 64513;\n\
             ipv4 {{ import all; export none; }};\n\
         }}\n"
    )
}
