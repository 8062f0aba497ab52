//! Decides from the answers of the node's data path whether the Service proxy has applied a change.
//!
//! kube-proxy does not say which Services it has programmed, and its `/healthz` returns 200 for up to a
//! minute while changes are pending. Its metrics say when it last queued a change and when it last completed
//! a sync. A sync applies the changes that were queued before it started. A change that arrives during a sync
//! is applied by the next one, although the end of the first is later than the change.

use std::time::{Duration, Instant};

use fairlead_crds::model::family::Family;

/// Assumed maximum of the time from the arrival of a change at this speaker to its arrival at the Service
/// proxy.
const WATCH_SKEW: Duration = Duration::from_secs(1);

/// Time without another sync or a queued change after which kube-proxy has applied every change. By default,
/// kube-proxy begins the next sync within a second if changes are pending.
const SETTLE: Duration = Duration::from_millis(1500);

/// The answer of the data path to one probe.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeAnswer {
    /// The data path is ready. The answer has no details.
    Ready {
        /// The time at which the probe was sent.
        since: Instant,
    },
    /// The progress of kube-proxy.
    KubeProxy(ProxyProgress),
    /// The probe failed, or the data path is not ready, for this reason.
    NotReady(String),
}

/// The progress of kube-proxy by address family.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct ProxyProgress {
    pub v4: FamilyProgress,
    pub v6: FamilyProgress,
}

/// The progress of kube-proxy in one address family.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FamilyProgress {
    /// The time at which the last change was queued; `None` if none was.
    pub queued: Option<Instant>,
    /// The time at which the last successful sync ended; `None` if none did.
    pub synced: Option<Instant>,
}

/// Names of the metrics of kube-proxy.
const QUEUED: &str = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds";
const SYNCED: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

impl ProxyProgress {
    /// Reads the metrics of kube-proxy in the text format of Prometheus. `unix_now` is the time since the
    /// epoch at `now`. Returns `None` if the text has no time of a sync.
    ///
    /// Releases without the label `ip_family` have one value for both families.
    pub fn parse(text: &str, now: Instant, unix_now: Duration) -> Option<Self> {
        let mut progress = Self::default();
        let mut is_found = false;
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            if name != QUEUED && name != SYNCED {
                continue;
            }
            let time = value.parse().ok().and_then(|value| Duration::try_from_secs_f64(value).ok());
            let time = time.filter(|time| !time.is_zero());
            let time = time.and_then(|time| now.checked_sub(unix_now.saturating_sub(time)));
            let is_of = |family: &str| !labels.contains("ip_family=") || labels.contains(family);
            let families = [("\"IPv4\"", &mut progress.v4), ("\"IPv6\"", &mut progress.v6)];
            for (_, of_family) in families.into_iter().filter(|(family, _)| is_of(family)) {
                match name {
                    QUEUED => of_family.queued = time,
                    _ => of_family.synced = time,
                }
            }
            is_found |= name == SYNCED;
        }
        is_found.then_some(progress)
    }
}

/// The progress of the data path in one address family, by all answers so far.
#[derive(Clone, Copy, Debug, Default)]
struct FamilyPath {
    latest: FamilyProgress,
    /// The end of the sync that was observed before the latest one.
    synced_before: Option<Instant>,
}

impl FamilyPath {
    fn handle(&mut self, new: FamilyProgress) {
        if self.latest.synced < new.synced {
            self.synced_before = self.latest.synced;
        }
        self.latest = new;
    }
}

/// The progress of the data path, by all answers so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct DataPath {
    v4: FamilyPath,
    v6: FamilyPath,
    /// The time of the last probe with the answer [`ProbeAnswer::Ready`].
    ready_at: Option<Instant>,
}

impl DataPath {
    /// Handles the answer to a probe.
    pub(crate) fn handle(&mut self, answer: &ProbeAnswer) {
        match answer {
            ProbeAnswer::Ready { since } => self.ready_at = self.ready_at.max(Some(*since)),
            ProbeAnswer::KubeProxy(progress) => {
                self.v4.handle(progress.v4);
                self.v6.handle(progress.v6);
            }
            ProbeAnswer::NotReady(_) => {}
        }
    }

    /// Returns true if the data path has applied the change since which endpoints can serve an address. The
    /// change arrived `at` this time.
    pub(crate) fn has_applied(&self, family: Family, at: Instant, now: Instant) -> bool {
        let path = match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        };
        if self.ready_at.is_some_and(|ready| ready >= at) {
            return true;
        }
        let FamilyProgress { queued, synced } = path.latest;
        let Some(synced) = synced else { return false };
        let is_idle = queued.is_none_or(|queued| queued <= synced);
        // The latest sync started after the end of the one before.
        let has_started_later = path.synced_before.is_some_and(|before| before >= at + WATCH_SKEW);
        has_started_later || (is_idle && now >= at.max(synced) + SETTLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a text as kube-proxy 1.34 writes it, with times in seconds since the epoch.
    fn metrics(lines: &[(&str, &str, &str)]) -> String {
        let mut text = "# HELP kubeproxy_sync_proxy_rules_last_timestamp_seconds [ALPHA] The last\n\
             go_goroutines 61\nprocess_open_fds\n"
            .to_owned();
        for (name, labels, value) in lines {
            text += &format!("kubeproxy_sync_proxy_rules_last_{name}_seconds{labels} {value}\n");
        }
        text
    }

    #[test]
    fn metrics_of_kube_proxy_give_its_progress() {
        let now = Instant::now();
        let unix = Duration::from_secs(1_764_000_100);
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds));
        let (v4, v6) = ("{ip_family=\"IPv4\"}", "{ip_family=\"IPv6\"}");
        let family = |queued, synced| FamilyProgress { queued, synced };
        // (lines, progress of IPv4, progress of IPv6)
        for (lines, expected) in [
            (vec![], None),
            (vec![("queued_timestamp", v4, "1.764000099e+09")], None),
            (
                vec![
                    ("queued_timestamp", v4, "1.764000099e+09"),
                    ("timestamp", v4, "1.76400005e+09"),
                    ("queued_timestamp", v6, "0"),
                    ("timestamp", v6, "1.76400009e+09"),
                ],
                Some((family(ago(1), ago(50)), family(None, ago(10)))),
            ),
            (
                vec![("queued_timestamp", "", "1.764000099e+09"), ("timestamp", "", "1.7640001e+09")],
                Some((family(ago(1), ago(0)), family(ago(1), ago(0)))),
            ),
            // The clock was set back, or the values are wrong.
            (vec![("timestamp", "", "1e300")], Some(Default::default())),
            (vec![("timestamp", "", "NaN")], Some(Default::default())),
            (vec![("timestamp", "", "-1")], Some(Default::default())),
            (vec![("timestamp", "", "1.8e+09")], Some((family(None, ago(0)), family(None, ago(0))))),
        ] {
            let progress = ProxyProgress::parse(&metrics(&lines), now, unix);
            let expected = expected.map(|(v4, v6)| ProxyProgress { v4, v6 });
            assert_eq!(progress, expected, "{lines:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parse_of_any_text_does_not_panic(text in "(kubeproxy_sync_proxy_rules_last_timestamp_seconds|[{} \n0-9.e+-]|.){0,40}") {
            let _ = ProxyProgress::parse(&text, Instant::now(), Duration::from_secs(1_764_000_000));
        }
    }

    #[test]
    fn applied_change_is_proven_by_idleness_or_by_two_syncs() {
        let start = Instant::now() + Duration::from_secs(10);
        let at = |ms: u64| start + Duration::from_millis(ms);
        // An address becomes servable at 0 ms. (queued and synced of each sample; ms of a change before the
        // start are negative; time of the question, applied)
        let sample = |queued: i64, synced: i64| {
            let time = |ms: i64| {
                (start - Duration::from_secs(9)).checked_add(Duration::from_millis((ms + 9_000) as u64))
            };
            FamilyProgress { queued: time(queued), synced: time(synced) }
        };
        for (what, samples, now, expected) in [
            ("nothing is known", vec![], 60_000, false),
            ("the change did not arrive", vec![sample(-5_000, -4_900)], 100, false),
            ("no change is queued", vec![sample(-5_000, -4_900)], 1_500, true),
            ("the change is pending", vec![sample(5, -4_900)], 9_000, false),
            ("it may have arrived during the sync", vec![sample(5, 50)], 1_549, false),
            ("another sync would have followed", vec![sample(5, 50)], 1_550, true),
            ("changes do not end, one sync", vec![sample(1_900, 1_000), sample(2_900, 2_000)], 3_000, true),
            ("changes do not end, too early", vec![sample(900, 500), sample(1_900, 1_500)], 2_000, false),
            (
                "kube-proxy restarted",
                vec![FamilyProgress { queued: Some(at(1)), synced: None }],
                9_000,
                false,
            ),
        ] {
            let mut path = DataPath::default();
            for v4 in samples {
                path.handle(&ProbeAnswer::KubeProxy(ProxyProgress { v4, v6: FamilyProgress::default() }));
            }
            assert_eq!(path.has_applied(Family::V4, start, at(now)), expected, "{what}");
            assert!(!path.has_applied(Family::V6, start, at(now)), "{what}");
        }
    }

    #[test]
    fn answer_without_details_counts_from_the_time_of_the_probe() {
        let at = Instant::now();
        let mut path = DataPath::default();
        path.handle(&ProbeAnswer::NotReady("503".to_owned()));
        assert!(!path.has_applied(Family::V4, at, at));
        let earlier = at.checked_sub(Duration::from_millis(1)).unwrap();
        path.handle(&ProbeAnswer::Ready { since: earlier });
        assert!(!path.has_applied(Family::V4, at, at));
        path.handle(&ProbeAnswer::Ready { since: at });
        assert!(path.has_applied(Family::V4, at, at));
    }
}
