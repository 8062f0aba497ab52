//! The metrics of the speaker, as `/metrics` returns them.

mod bfd;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use fairlead_bgp::{DownReason, Session, SessionState, Statistics};
use fairlead_l2::AddressCounters;
use fairlead_mesh::Counters;
use fairlead_probe::Counters as ProbeCounters;
use fairlead_runtime::watch::Monitor;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use bfd::BfdFamilies;
pub(crate) use bfd::BfdMetrics;

/// All metrics. Clones share the values.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the help texts describe them")]
pub(crate) struct Metrics {
    bgp_session_up: Family<PeerLabel, Gauge>,
    bgp_announced_prefixes: Family<PeerLabel, Gauge>,
    bgp_pending_prefixes: Family<PeerLabel, Gauge>,
    bgp_above_receive_rate: Family<PeerLabel, Gauge>,
    bgp_received_octets: Family<PeerLabel, Counter>,
    bgp_received_messages: Family<PeerLabel, Counter>,
    bgp_sent_messages: Family<PeerLabel, Counter>,
    bgp_opens_sent: Family<PeerLabel, Counter>,
    bgp_opens_received: Family<PeerLabel, Counter>,
    bgp_keepalives_sent: Family<PeerLabel, Counter>,
    bgp_keepalives_received: Family<PeerLabel, Counter>,
    bgp_route_refreshes_received: Family<PeerLabel, Counter>,
    bgp_updates_sent: Family<PeerLabel, Counter>,
    bgp_updates_received: Family<PeerLabel, Counter>,
    bgp_updates_malformed: Family<PeerLabel, Counter>,
    bgp_prefixes_received: Family<PeerLabel, Counter>,
    bgp_notifications_sent: Family<PeerLabel, Counter>,
    bgp_notifications_received: Family<PeerLabel, Counter>,
    bgp_session_establishments: Family<PeerLabel, Counter>,
    bgp_session_drops: Family<DropLabel, Counter>,
    bgp_endpoint_change_duration: Family<PeerLabel, WriteDuration>,
    /// Connections of hosts that are no passive peer.
    pub bgp_refused_connections: Counter,
    bfd: BfdFamilies,
    pub l2_announced: Gauge,
    pub not_announced: Gauge,
    l2_requests: Counter,
    l2_responses: Counter,
    l2_gratuitous: Counter,
    l2_conflicts: Counter,
    mesh_members: Gauge,
    mesh_received: Counter,
    mesh_sent: Counter,
    mesh_unauthentic: Counter,
    mesh_fast_deaths: Counter,
    probe_requests: Counter,
    probe_missed: Counter,
    probe_late: Counter,
    data_path_probes: Family<ResultLabel, Counter>,
    pub data_path_timeouts: Counter,
    api_writes: Family<ResultLabel, Counter>,
    object_deletions: Counter,
    /// The part that the watches update.
    pub watches: Monitor,
}

/// The metrics of one BGP peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerMetrics {
    session_up: Gauge,
    announced_prefixes: Gauge,
    pending_prefixes: Gauge,
    above_receive_rate: Gauge,
    received_octets: Counter,
    received_messages: Counter,
    sent_messages: Counter,
    opens_sent: Counter,
    opens_received: Counter,
    keepalives_sent: Counter,
    keepalives_received: Counter,
    route_refreshes_received: Counter,
    updates_sent: Counter,
    updates_received: Counter,
    updates_malformed: Counter,
    prefixes_received: Counter,
    notifications_sent: Counter,
    notifications_received: Counter,
    session_establishments: Counter,
    /// In the order of [`DownReason::KINDS`].
    session_drops: [Counter; DownReason::KINDS.len()],
    endpoint_change_duration: WriteDuration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    /// Name of the BGPPeer.
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabel {
    /// Name of the BGPPeer.
    peer: String,
    /// One of [`DownReason::KINDS`].
    reason: &'static str,
}

/// A histogram of times from 0.25 ms to 4 s.
#[derive(Clone, Debug)]
struct WriteDuration(Histogram);

impl Default for WriteDuration {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.000_25, 2.0, 15)))
    }
}

impl EncodeMetric for WriteDuration {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}

impl TypedMetric for WriteDuration {
    const TYPE: MetricType = MetricType::Histogram;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    /// `ok` or `error`.
    result: &'static str,
}

/// Counters of the L2 responder per address, as of the last [`Metrics::count_l2`].
pub(crate) type L2CountersByAddress = BTreeMap<IpAddr, AddressCounters>;

impl Metrics {
    /// Creates the metrics and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let r = registry.sub_registry_with_prefix("fairlead_speaker");
        let metrics = Self { watches: Monitor::register(r), ..Self::default() };
        let m = metrics.clone();
        r.register("bgp_session_up", "1 while the BGP session is established, else 0", m.bgp_session_up);
        r.register(
            "bgp_announced_prefixes",
            "Prefixes announced to the peer on the current session",
            m.bgp_announced_prefixes,
        );
        r.register(
            "bgp_pending_prefixes",
            "Prefixes that still have to be announced to or withdrawn from the peer",
            m.bgp_pending_prefixes,
        );
        r.register(
            "bgp_above_receive_rate",
            "1 if the peer sends more messages or octets per second than the speaker reads, else 0",
            m.bgp_above_receive_rate,
        );
        r.register("bgp_received_octets", "Octets received from the peer", m.bgp_received_octets);
        r.register("bgp_received_messages", "BGP messages received from the peer", m.bgp_received_messages);
        r.register("bgp_sent_messages", "BGP messages sent to the peer", m.bgp_sent_messages);
        r.register("bgp_opens_sent", "BGP OPEN messages sent to the peer", m.bgp_opens_sent);
        r.register("bgp_opens_received", "BGP OPEN messages received from the peer", m.bgp_opens_received);
        r.register("bgp_keepalives_sent", "BGP KEEPALIVE messages sent to the peer", m.bgp_keepalives_sent);
        r.register(
            "bgp_keepalives_received",
            "BGP KEEPALIVE messages received from the peer",
            m.bgp_keepalives_received,
        );
        r.register(
            "bgp_route_refreshes_received",
            "BGP ROUTE-REFRESH messages received from the peer",
            m.bgp_route_refreshes_received,
        );
        r.register("bgp_updates_sent", "BGP UPDATE messages sent to the peer", m.bgp_updates_sent);
        r.register(
            "bgp_updates_received",
            "BGP UPDATE messages received from the peer",
            m.bgp_updates_received,
        );
        r.register(
            "bgp_updates_malformed",
            "BGP UPDATE messages received with an error that does not reset the session (RFC 7606)",
            m.bgp_updates_malformed,
        );
        r.register(
            "bgp_prefixes_received",
            "Prefixes that the peer announced; the speaker discards them",
            m.bgp_prefixes_received,
        );
        r.register(
            "bgp_notifications_sent",
            "BGP NOTIFICATION messages sent to the peer",
            m.bgp_notifications_sent,
        );
        r.register(
            "bgp_notifications_received",
            "BGP NOTIFICATION messages received from the peer",
            m.bgp_notifications_received,
        );
        r.register(
            "bgp_session_establishments",
            "Transitions of the BGP session to Established",
            m.bgp_session_establishments,
        );
        r.register(
            "bgp_session_drops",
            "Transitions of the BGP session from Established to another state, by reason",
            m.bgp_session_drops,
        );
        r.register_with_unit(
            "bgp_endpoint_change_duration",
            "Time from an EndpointSlice event to the write of the last UPDATE message that it caused",
            Unit::Seconds,
            m.bgp_endpoint_change_duration,
        );
        r.register(
            "l2_announced_addresses",
            "Addresses that this node answers ARP and NDP requests for",
            m.l2_announced,
        );
        r.register(
            "not_announced_addresses",
            "Addresses that this node should announce and cannot; the Speaker object contains the reasons",
            m.not_announced,
        );
        r.register(
            "l2_requests",
            "ARP requests and neighbor solicitations received for announced addresses",
            m.l2_requests,
        );
        r.register("l2_responses", "ARP replies and solicited neighbor advertisements sent", m.l2_responses);
        r.register(
            "l2_gratuitous",
            "Gratuitous ARP frames and unsolicited neighbor advertisements sent",
            m.l2_gratuitous,
        );
        r.register(
            "l2_conflicts",
            "ARP and neighbor discovery messages in which another host has an address that this node announces",
            m.l2_conflicts,
        );
        r.register("mesh_members", "Speakers that are alive, including this one", m.mesh_members);
        r.register(
            "mesh_datagrams_received",
            "Mesh datagrams received with a valid authentication code",
            m.mesh_received,
        );
        r.register("mesh_datagrams_sent", "Mesh datagrams sent", m.mesh_sent);
        r.register(
            "mesh_datagrams_unauthentic",
            "Datagrams received on the mesh port with an invalid authentication code",
            m.mesh_unauthentic,
        );
        r.register(
            "mesh_fast_deaths",
            "Failures of other nodes or speakers that echo requests or a closed port showed",
            m.mesh_fast_deaths,
        );
        r.register("probe_requests", "Echo requests sent to other nodes", m.probe_requests);
        r.register(
            "probe_missed",
            "Echo requests without an answer, of nodes that had answered before",
            m.probe_missed,
        );
        r.register(
            "probe_late",
            "Rounds of echo requests that do not count, because the speaker looked for the answers too late",
            m.probe_late,
        );
        m.bfd.register(r);
        r.register(
            "data_path_probes",
            "Probes of the data path of the node, by result: ok if the answer can be used, else error",
            m.data_path_probes,
        );
        r.register(
            "bgp_refused_connections",
            "Connections to the BGP port that were reset because no passive BGPPeer has their address",
            m.bgp_refused_connections,
        );
        r.register(
            "data_path_timeouts",
            "Addresses announced although the data path of the node was not ready within --data-path-wait",
            m.data_path_timeouts,
        );
        r.register("api_writes", "Writes of the Speaker object, by result", m.api_writes);
        r.register(
            "object_deletions",
            "Times that the Speaker object of this node was deleted while its speaker ran",
            m.object_deletions,
        );
        metrics
    }

    /// AddressCounters a write to the Kubernetes API.
    pub(crate) fn count_api_write(&self, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        self.api_writes.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts a probe of the data path.
    pub(crate) fn count_data_path_probe(&self, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        self.data_path_probes.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts deletions of the Speaker object of this node.
    pub(crate) fn count_object_deletions(&self, number: u64) {
        self.object_deletions.inc_by(number);
    }

    /// Sets the number of members, and adds the datagrams that were counted since the last call.
    pub(crate) fn count_mesh(&self, members: usize, counters: Counters) {
        self.mesh_members.set(members as i64);
        self.mesh_received.inc_by(counters.received);
        self.mesh_sent.inc_by(counters.sent);
        self.mesh_unauthentic.inc_by(counters.unauthentic);
        self.mesh_fast_deaths.inc_by(counters.fast_deaths);
    }

    /// Adds the differences between two states of the counters of echo requests.
    pub(crate) fn count_probes(&self, before: ProbeCounters, now: ProbeCounters) {
        self.probe_requests.inc_by(now.sent - before.sent);
        self.probe_missed.inc_by(now.missed - before.missed);
        self.probe_late.inc_by(now.late - before.late);
    }

    /// Adds the differences between the counters in `before` and those in `now`, which it stores in `before`.
    /// The counters of an address start at zero whenever it is announced after a withdrawal.
    pub(crate) fn count_l2(
        &self,
        before: &mut L2CountersByAddress,
        now: impl Iterator<Item = (IpAddr, AddressCounters)>,
    ) {
        let now: L2CountersByAddress = now.collect();
        for (address, counts) in &now {
            let counted = before.get(address).copied().unwrap_or_default();
            let increase = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
            self.l2_requests.inc_by(increase(counts.requests, counted.requests));
            self.l2_responses.inc_by(increase(counts.responses, counted.responses));
            self.l2_gratuitous.inc_by(increase(counts.gratuitous, counted.gratuitous));
            self.l2_conflicts.inc_by(increase(counts.conflicts, counted.conflicts));
        }
        *before = now;
    }

    /// Returns the metrics of a BGP peer.
    pub(crate) fn peer(&self, peer: &str) -> PeerMetrics {
        let label = PeerLabel { peer: peer.to_owned() };
        PeerMetrics {
            session_up: self.bgp_session_up.get_or_create(&label).clone(),
            announced_prefixes: self.bgp_announced_prefixes.get_or_create(&label).clone(),
            pending_prefixes: self.bgp_pending_prefixes.get_or_create(&label).clone(),
            above_receive_rate: self.bgp_above_receive_rate.get_or_create(&label).clone(),
            received_octets: self.bgp_received_octets.get_or_create(&label).clone(),
            received_messages: self.bgp_received_messages.get_or_create(&label).clone(),
            sent_messages: self.bgp_sent_messages.get_or_create(&label).clone(),
            opens_sent: self.bgp_opens_sent.get_or_create(&label).clone(),
            opens_received: self.bgp_opens_received.get_or_create(&label).clone(),
            keepalives_sent: self.bgp_keepalives_sent.get_or_create(&label).clone(),
            keepalives_received: self.bgp_keepalives_received.get_or_create(&label).clone(),
            route_refreshes_received: self.bgp_route_refreshes_received.get_or_create(&label).clone(),
            updates_sent: self.bgp_updates_sent.get_or_create(&label).clone(),
            updates_received: self.bgp_updates_received.get_or_create(&label).clone(),
            updates_malformed: self.bgp_updates_malformed.get_or_create(&label).clone(),
            prefixes_received: self.bgp_prefixes_received.get_or_create(&label).clone(),
            notifications_sent: self.bgp_notifications_sent.get_or_create(&label).clone(),
            notifications_received: self.bgp_notifications_received.get_or_create(&label).clone(),
            session_establishments: self.bgp_session_establishments.get_or_create(&label).clone(),
            session_drops: DownReason::KINDS.map(|reason| {
                let label = DropLabel { peer: peer.to_owned(), reason };
                self.bgp_session_drops.get_or_create(&label).clone()
            }),
            endpoint_change_duration: self.bgp_endpoint_change_duration.get_or_create(&label).clone(),
        }
    }

    /// Returns the metrics of the BFD session of a BGP peer.
    pub(crate) fn bfd_session(&self, peer: &str) -> BfdMetrics {
        self.bfd.session(peer)
    }

    /// Removes the metrics of the BFD session of a BGP peer.
    pub(crate) fn forget_bfd_session(&self, peer: &str) {
        self.bfd.forget(peer);
    }

    /// Removes the metrics of a BGP peer whose session was closed.
    pub(crate) fn forget_peer(&self, peer: &str) {
        let label = PeerLabel { peer: peer.to_owned() };
        for gauge in [
            &self.bgp_session_up,
            &self.bgp_announced_prefixes,
            &self.bgp_pending_prefixes,
            &self.bgp_above_receive_rate,
        ] {
            gauge.remove(&label);
        }
        for counter in [
            &self.bgp_received_octets,
            &self.bgp_received_messages,
            &self.bgp_sent_messages,
            &self.bgp_opens_sent,
            &self.bgp_opens_received,
            &self.bgp_keepalives_sent,
            &self.bgp_keepalives_received,
            &self.bgp_route_refreshes_received,
            &self.bgp_updates_sent,
            &self.bgp_updates_received,
            &self.bgp_updates_malformed,
            &self.bgp_prefixes_received,
            &self.bgp_notifications_sent,
            &self.bgp_notifications_received,
            &self.bgp_session_establishments,
        ] {
            counter.remove(&label);
        }
        for reason in DownReason::KINDS {
            self.bgp_session_drops.remove(&DropLabel { peer: peer.to_owned(), reason });
        }
        self.bgp_endpoint_change_duration.remove(&label);
    }
}

impl PeerMetrics {
    /// Sets the metrics to the state of the session.
    pub(crate) fn update(&self, session: &Session) {
        self.session_up.set(i64::from(session.state() == SessionState::Established));
        self.announced_prefixes.set(session.announced() as i64);
        self.pending_prefixes.set(session.pending() as i64);
        self.above_receive_rate.set(i64::from(session.exceeds_receive_rate()));
        self.count(session.statistics());
    }

    fn count(&self, statistics: &Statistics) {
        raise(&self.received_octets, statistics.octets_received);
        raise(&self.received_messages, statistics.messages_received);
        raise(&self.sent_messages, statistics.messages_sent);
        raise(&self.opens_sent, statistics.opens_sent);
        raise(&self.opens_received, statistics.opens_received);
        raise(&self.keepalives_sent, statistics.keepalives_sent);
        raise(&self.keepalives_received, statistics.keepalives_received);
        raise(&self.route_refreshes_received, statistics.route_refreshes_received);
        raise(&self.updates_sent, statistics.updates_sent);
        raise(&self.updates_received, statistics.updates_received);
        raise(&self.updates_malformed, statistics.updates_malformed);
        raise(&self.prefixes_received, statistics.prefixes_received);
        raise(&self.notifications_sent, statistics.notifications_sent);
        raise(&self.notifications_received, statistics.notifications_received);
        raise(&self.session_establishments, statistics.established);
    }

    /// Counts the end of the established session.
    pub(crate) fn count_drop(&self, reason: &DownReason) {
        let kinds = DownReason::KINDS.iter().zip(&self.session_drops);
        for (_, counter) in kinds.filter(|(kind, _)| **kind == reason.kind()) {
            counter.inc();
        }
    }

    /// Records the time from an EndpointSlice event to the write of the last UPDATE message that it caused.
    pub(crate) fn observe_endpoint_change(&self, elapsed: Duration) {
        self.endpoint_change_duration.0.observe(elapsed.as_secs_f64());
    }
}

/// Raises a counter to the total.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use fairlead_bgp::{CeaseSubcode, Notification};

    use super::*;

    fn encoded(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn l2_counters_grow_by_differences() {
        let metrics = Metrics::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let counts =
            |requests| [(address, AddressCounters { requests, ..AddressCounters::default() })].into_iter();
        let mut before = L2CountersByAddress::new();
        for (now, total) in [(3, 3), (5, 5), (5, 5), (1, 6)] {
            metrics.count_l2(&mut before, counts(now));
            assert_eq!(metrics.l2_requests.get(), total);
        }
    }

    #[test]
    fn registered_metrics_have_name_and_help_text() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.count_api_write(true);
        metrics.count_data_path_probe(true);
        let text = encoded(&registry);
        assert!(text.contains("fairlead_speaker_api_writes_total{result=\"ok\"} 1"), "{text}");
        assert!(text.contains("# HELP fairlead_speaker_l2_requests"), "{text}");
    }

    #[test]
    fn mesh_datagrams_are_counted_over_several_meshes() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        for _ in 0..2 {
            metrics.count_mesh(3, Counters { received: 5, sent: 4, unauthentic: 1, fast_deaths: 1 });
        }
        let text = encoded(&registry);
        for line in
            ["mesh_members 3", "mesh_datagrams_received_total 10", "mesh_datagrams_unauthentic_total 2"]
        {
            assert!(text.contains(&format!("fairlead_speaker_{line}\n")), "{text}");
        }
    }

    #[test]
    fn closed_session_leaves_no_metrics() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let peer = metrics.peer("tor");
        let statistics =
            Statistics { updates_sent: 7, updates_received: 3, octets_received: 99, ..Statistics::default() };
        for _ in 0..2 {
            peer.count(&statistics);
        }
        peer.count_drop(&DownReason::HoldTimerExpired);
        peer.observe_endpoint_change(Duration::from_millis(3));
        let text = encoded(&registry);
        for line in [
            "bgp_session_drops_total{peer=\"tor\",reason=\"hold-timer-expired\"} 1",
            "bgp_session_drops_total{peer=\"tor\",reason=\"bfd-down\"} 0",
            "bgp_endpoint_change_duration_seconds_bucket{le=\"0.002\",peer=\"tor\"} 0",
            "bgp_endpoint_change_duration_seconds_bucket{le=\"0.004\",peer=\"tor\"} 1",
            "bgp_session_up{peer=\"tor\"} 0",
            "bgp_announced_prefixes{peer=\"tor\"} 0",
            "bgp_pending_prefixes{peer=\"tor\"} 0",
            "bgp_above_receive_rate{peer=\"tor\"} 0",
            "bgp_received_octets_total{peer=\"tor\"} 99",
            "bgp_updates_sent_total{peer=\"tor\"} 7",
            "bgp_updates_received_total{peer=\"tor\"} 3",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        metrics.forget_peer("tor");
        assert!(!encoded(&registry).contains("tor"));
    }

    #[test]
    fn every_reason_has_a_counter() {
        let notification = Notification::cease(CeaseSubcode::AdministrativeShutdown, "");
        let reasons = [
            DownReason::Stopped,
            DownReason::Reconfigured,
            DownReason::ConnectionClosed(String::new()),
            DownReason::HoldTimerExpired,
            DownReason::SendHoldTimerExpired,
            DownReason::Replaced,
            DownReason::BfdDown(String::new()),
            DownReason::Received(notification.clone()),
            DownReason::Sent { notification, detail: String::new() },
        ];
        let peer = Metrics::default().peer("tor");
        reasons.iter().for_each(|reason| peer.count_drop(reason));
        assert!(peer.session_drops.iter().all(|counter| counter.get() == 1));
        // No session was established.
        peer.count_drop(&DownReason::ConnectTimedOut);
        assert_eq!(peer.session_drops.iter().map(Counter::get).sum::<u64>(), 9);
    }

    #[test]
    fn exported_metrics_are_documented() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.peer("tor");
        metrics.bfd_session("tor");
        metrics.count_api_write(true);
        metrics.count_data_path_probe(true);
        fairlead_test_support::metrics::check_documented("fairlead_speaker", &encoded(&registry));
    }
}
