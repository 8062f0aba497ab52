//! What `/metrics` shows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_l2::AddressCounters;
use fairlead_mesh::Counters;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Label of what concerns one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PeerLabel {
    /// Name of the BGPPeer.
    pub peer: String,
}

/// Label of a write to the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    /// `ok` or `error`.
    pub result: &'static str,
}

/// The speaker's metrics. Cloning shares them.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each has its help text below")]
pub(crate) struct Metrics {
    pub session_up: Family<PeerLabel, Gauge>,
    pub routes: Family<PeerLabel, Gauge>,
    pub updates_sent: Family<PeerLabel, Counter>,
    pub session_drops: Family<PeerLabel, Counter>,
    pub l2_announced: Gauge,
    pub not_announced: Gauge,
    pub l2_requests: Counter,
    pub l2_responses: Counter,
    pub l2_gratuitous: Counter,
    pub mesh_members: Gauge,
    mesh_received: Gauge,
    mesh_sent: Gauge,
    mesh_unauthentic: Gauge,
    pub api_writes: Family<ResultLabel, Counter>,
}

/// Counts per address as they were added to the counters last.
pub(crate) type L2Counts = BTreeMap<IpAddr, AddressCounters>;

impl Metrics {
    /// Metrics that `registry` shows.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = metrics.clone();
        let registry = registry.sub_registry_with_prefix("fairlead_speaker");
        registry.register("bgp_session_up", "1 while the BGP session is established", m.session_up);
        registry.register("bgp_announced_prefixes", "Prefixes the peer has been told", m.routes);
        registry.register("bgp_updates_sent", "UPDATE messages sent to the peer", m.updates_sent);
        registry.register("bgp_session_drops", "Times the session left Established", m.session_drops);
        registry.register("l2_announced_addresses", "Addresses that this node answers for", m.l2_announced);
        registry.register(
            "not_announced_addresses",
            "Addresses that this node should announce and cannot; see the Speaker object",
            m.not_announced,
        );
        registry.register("l2_requests", "ARP requests and neighbour solicitations for them", m.l2_requests);
        registry.register("l2_responses", "ARP replies and neighbour advertisements sent", m.l2_responses);
        registry.register("l2_gratuitous", "Gratuitous ARP and NDP announcements sent", m.l2_gratuitous);
        registry.register("mesh_members", "Live speakers, this one included", m.mesh_members);
        registry.register("mesh_datagrams_received", "Authentic datagrams of the mesh", m.mesh_received);
        registry.register("mesh_datagrams_sent", "Datagrams sent to the mesh", m.mesh_sent);
        registry.register(
            "mesh_datagrams_unauthentic",
            "Datagrams with a wrong code: another key, or not ours",
            m.mesh_unauthentic,
        );
        registry.register("api_writes", "Writes to the Kubernetes API", m.api_writes);
        metrics
    }

    /// A write to the API succeeded or failed.
    pub(crate) fn wrote(&self, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        self.api_writes.get_or_create(&ResultLabel { result }).inc();
    }

    /// The mesh's counters are these.
    pub(crate) fn set_mesh(&self, counters: Counters) {
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.mesh_received.set(gauge(counters.received));
        self.mesh_sent.set(gauge(counters.sent));
        self.mesh_unauthentic.set(gauge(counters.unauthentic));
    }

    /// Adds what happened since `before`. The counts of an address begin anew when it is announced anew.
    pub(crate) fn count_l2(
        &self,
        before: &mut L2Counts,
        now: impl Iterator<Item = (IpAddr, AddressCounters)>,
    ) {
        let now: L2Counts = now.collect();
        for (address, counts) in &now {
            let known = before.get(address).copied().unwrap_or_default();
            let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
            self.l2_requests.inc_by(since(counts.requests, known.requests));
            self.l2_responses.inc_by(since(counts.responses, known.responses));
            self.l2_gratuitous.inc_by(since(counts.gratuitous, known.gratuitous));
        }
        *before = now;
    }

    /// Nothing more is to be said of a peer.
    pub(crate) fn forget_peer(&self, peer: &str) {
        let label = PeerLabel { peer: peer.to_owned() };
        self.session_up.remove(&label);
        self.routes.remove(&label);
        self.updates_sent.remove(&label);
        self.session_drops.remove(&label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_grow_by_the_differences() {
        let metrics = Metrics::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let counts =
            |requests| [(address, AddressCounters { requests, ..AddressCounters::default() })].into_iter();
        let mut before = L2Counts::new();
        for (now, total) in [(3, 3), (5, 5), (5, 5), (1, 6)] {
            metrics.count_l2(&mut before, counts(now));
            assert_eq!(metrics.l2_requests.get(), total);
        }
    }

    #[test]
    fn everything_has_a_name_and_a_help_text() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.wrote(true);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("fairlead_speaker_api_writes_total{result=\"ok\"} 1"), "{text}");
        assert!(text.contains("# HELP fairlead_speaker_l2_requests"), "{text}");
    }
}
