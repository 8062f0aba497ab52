//! Options of a server.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Settings of an [`ApiServer`](crate::ApiServer). The defaults suit a test: any free port on loopback, plain
/// HTTP, no token, dual-stack Services.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// Host that kubeconfigs name instead of the listening address, for instance if that is `0.0.0.0`.
    pub advertise: Option<String>,
    /// Ranges of `spec.clusterIP`, the primary family first: one or two, of different families.
    pub service_cidrs: Vec<IpNet>,
    /// Range of `nodePort`s.
    pub node_ports: RangeInclusive<u16>,
    /// Bearer token that a request must carry. None permits every request.
    pub token: Option<String>,
    /// Serves HTTPS with a certificate of its own authority, created at the start.
    pub tls: bool,
    /// Number of events per kind that are kept for watches. A watch further behind gets 410 Gone.
    pub history: usize,
    /// Interval of bookmarks for watches that request them.
    pub bookmarks: Duration,
    /// Seed of all random values: uids, generated names, allocations, and [`Faults`](crate::Faults).
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: None,
            service_cidrs: vec![
                IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16)),
                IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112)),
            ],
            node_ports: 30000..=32767,
            token: None,
            tls: false,
            history: 20_000,
            bookmarks: Duration::from_secs(60),
            seed: 0,
        }
    }
}
