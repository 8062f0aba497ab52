//! Metrics of BFD sessions. The names after the prefix are those of MetalLB.

use fairlead_bfd::{Counters, Event, State};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::PeerLabel;

#[derive(Clone, Debug, Default)]
pub(super) struct BfdFamilies {
    session_up: Family<PeerLabel, Gauge>,
    control_packet_input: Family<PeerLabel, Counter>,
    control_packet_output: Family<PeerLabel, Counter>,
    control_packet_discards: Family<PeerLabel, Counter>,
    session_up_events: Family<PeerLabel, Counter>,
    session_down_events: Family<DownLabel, Counter>,
    late_detections: Family<PeerLabel, Counter>,
    late_packets: Family<PeerLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DownLabel {
    /// Name of the BGPPeer.
    peer: String,
    /// One of [`REASONS`].
    reason: &'static str,
}

/// Reasons for which a session leaves Up.
const REASONS: [&str; 5] =
    ["detection-time-expired", "neighbor-down", "neighbor-admin-down", "path-down", "other"];

/// The metrics of the BFD session of one BGP peer.
#[derive(Clone, Debug)]
pub(crate) struct BfdMetrics {
    session_up: Gauge,
    control_packet_input: Counter,
    control_packet_output: Counter,
    control_packet_discards: Counter,
    session_up_events: Counter,
    /// In the order of [`REASONS`].
    session_down_events: [Counter; REASONS.len()],
    late_detections: Counter,
    late_packets: Counter,
}

impl BfdFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("bfd");
        r.register("session_up", "1 while the BFD session is Up, else 0", self.session_up.clone());
        r.register(
            "control_packet_input",
            "BFD Control packets received and not discarded",
            self.control_packet_input.clone(),
        );
        r.register("control_packet_output", "BFD Control packets sent", self.control_packet_output.clone());
        r.register(
            "control_packet_discards",
            "BFD Control packets of the session that were discarded",
            self.control_packet_discards.clone(),
        );
        r.register(
            "session_up_events",
            "Transitions of the BFD session to Up",
            self.session_up_events.clone(),
        );
        r.register(
            "session_down_events",
            "Transitions of the BFD session from Up, by reason",
            self.session_down_events.clone(),
        );
        r.register(
            "late_detections",
            "Times that this node was too late to detect a failure and waited for another packet",
            self.late_detections.clone(),
        );
        r.register(
            "late_packets",
            "BFD Control packets sent more than 25 % of the interval late",
            self.late_packets.clone(),
        );
    }

    pub(super) fn session(&self, peer: &str) -> BfdMetrics {
        let label = PeerLabel { peer: peer.to_owned() };
        BfdMetrics {
            session_up: self.session_up.get_or_create(&label).clone(),
            control_packet_input: self.control_packet_input.get_or_create(&label).clone(),
            control_packet_output: self.control_packet_output.get_or_create(&label).clone(),
            control_packet_discards: self.control_packet_discards.get_or_create(&label).clone(),
            session_up_events: self.session_up_events.get_or_create(&label).clone(),
            session_down_events: REASONS.map(|reason| {
                let label = DownLabel { peer: peer.to_owned(), reason };
                self.session_down_events.get_or_create(&label).clone()
            }),
            late_detections: self.late_detections.get_or_create(&label).clone(),
            late_packets: self.late_packets.get_or_create(&label).clone(),
        }
    }

    pub(super) fn forget(&self, peer: &str) {
        let label = PeerLabel { peer: peer.to_owned() };
        self.session_up.remove(&label);
        for counter in [
            &self.control_packet_input,
            &self.control_packet_output,
            &self.control_packet_discards,
            &self.session_up_events,
            &self.late_detections,
            &self.late_packets,
        ] {
            counter.remove(&label);
        }
        for reason in REASONS {
            self.session_down_events.remove(&DownLabel { peer: peer.to_owned(), reason });
        }
    }
}

impl BfdMetrics {
    /// Sets the state, and adds the differences between the counters `before` and those of `now`.
    pub(crate) fn update(&self, state: State, before: &Counters, now: &Counters) {
        self.session_up.set(i64::from(state == State::Up));
        self.control_packet_input.inc_by(now.received.saturating_sub(before.received));
        self.control_packet_output.inc_by(now.transmitted.saturating_sub(before.transmitted));
        let discards = |counters: &Counters| counters.discarded.total();
        self.control_packet_discards.inc_by(discards(now).saturating_sub(discards(before)));
        self.session_up_events.inc_by(now.ups.saturating_sub(before.ups));
        self.late_detections.inc_by(now.own_lateness.saturating_sub(before.own_lateness));
        self.late_packets.inc_by(now.transmitted_late.saturating_sub(before.transmitted_late));
    }

    /// Counts a change from Up by its reason.
    pub(crate) fn count_event(&self, event: &Event) {
        let Event::StateChanged { from: State::Up, to, local_diagnostic, remote_state, .. } = event else {
            return;
        };
        let reason = match (to, local_diagnostic.code(), remote_state) {
            (State::Down, 1, _) => 0,
            (State::Down, 3, State::AdminDown) => 2,
            (State::Down, 3, _) => 1,
            (State::Down, 5, _) => 3,
            _ => 4,
        };
        self.session_down_events[reason].inc();
    }
}

#[cfg(test)]
mod tests {
    use fairlead_bfd::Diagnostic;

    use super::*;

    fn encoded(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn ended_session_leaves_no_metrics() {
        let mut registry = Registry::default();
        let families = BfdFamilies::default();
        families.register(&mut registry);
        let metrics = families.session("tor");
        let counters = Counters { received: 5, transmitted: 4, own_lateness: 1, ..Counters::default() };
        for _ in 0..2 {
            // A session that was created again counts from zero.
            metrics.update(State::Up, &Counters::default(), &counters);
            metrics.update(State::Up, &counters, &counters);
        }
        let at = std::time::Instant::now();
        let (from, to, remote_state) = (State::Up, State::Down, State::Up);
        let local_diagnostic = Diagnostic::CONTROL_DETECTION_TIME_EXPIRED;
        let remote_diagnostic = Diagnostic::NONE;
        metrics.count_event(&Event::StateChanged {
            at,
            from,
            to,
            local_diagnostic,
            remote_state,
            remote_diagnostic,
        });
        let text = encoded(&registry);
        for line in [
            "bfd_session_up{peer=\"tor\"} 1",
            "bfd_control_packet_input_total{peer=\"tor\"} 10",
            "bfd_control_packet_output_total{peer=\"tor\"} 8",
            "bfd_late_detections_total{peer=\"tor\"} 2",
            "bfd_session_down_events_total{peer=\"tor\",reason=\"detection-time-expired\"} 1",
            "bfd_session_down_events_total{peer=\"tor\",reason=\"path-down\"} 0",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        families.forget("tor");
        assert!(!encoded(&registry).contains("tor"));
    }
}
