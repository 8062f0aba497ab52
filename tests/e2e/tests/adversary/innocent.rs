//! Services of tenants who do no harm, and how long they wait for their address and for their route.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use fairlead_e2e::{LbService, SOON};
use fairlead_lab::{Family, Lab, ensure, wait_for};
use ipnet::IpNet;

use crate::witness::Witness;

/// Limit for one wait, beyond which the measurement fails.
const LIMIT: Duration = SOON;

/// The waits of several Services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits {
    /// From the request until a watch shows the Service: what the API server and the machine take alone.
    pub server: Vec<Duration>,
    pub address: Vec<Duration>,
    pub route: Vec<Duration>,
}

impl Waits {
    /// Creates a Service, waits for its address and its route, and deletes it.
    pub(crate) fn measure(&mut self, lab: &Lab, witness: &Witness, name: &str) -> Result<()> {
        let service = LbService::new(name, "innocent").single("IPv4");
        let begin = Instant::now();
        service.apply(lab)?;
        let key = format!("default/{name}");
        let (appeared, served) =
            wait_for(format!("an address of {name}"), LIMIT, || witness.served(&key).context("it has none"))?;
        let ip = *lab.api()?.addresses(name)?.first().context("no address")?;
        wait_for(format!("the route to {name}"), LIMIT, || {
            let routed = has_routes(lab, ip)?;
            ensure(routed, "it has fewer next hops than nodes").map_err(|seen| anyhow!(seen))
        })?;
        self.server.push(appeared.saturating_duration_since(begin));
        self.address.push(served.saturating_duration_since(begin));
        self.route.push(begin.elapsed());
        service.delete(lab)
    }
}

/// Returns the wait that `percent` percent of the waits do not exceed; 50 is the median.
pub(crate) fn percentile(waits: &[Duration], percent: usize) -> Duration {
    let mut sorted = waits.to_vec();
    sorted.sort();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn has_routes(lab: &Lab, ip: IpAddr) -> Result<bool> {
    let routes = lab.router().kernel_routes(Family::V4)?;
    Ok(routes.get(&IpNet::from(ip)).is_some_and(|hops| hops.len() == lab.nodes().len()))
}
