//! Decides from the answers of the node's data path whether the Service proxy has applied a change.
//!
//! kube-proxy does not say which Services it has programmed, and its `/healthz` returns 200 for up to a
//! minute while changes are pending. Its metrics say when it last queued a change and when it last completed
//! a sync. A sync applies the changes that were queued before it started. A change that arrives during a sync
//! is applied by the next one, although the end of the first is later than the change.

use std::time::{Duration, Instant};

use fairlead_crds::model::family::Family;

/// Assumed maximum of the time from the arrival of a change at this speaker to its arrival at the Service
/// proxy, while the proxy receives other changes.
const WATCH_SKEW: Duration = Duration::from_secs(1);

/// The same time, if the proxy has not received any change since.
const QUIET: Duration = Duration::from_secs(3);

/// Time after a sync without another sync or a queued change after which kube-proxy has applied every change
/// that it has received. If changes are pending, it begins the next sync within its `minSyncPeriod`, by
/// default one second.
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
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct ProxyProgress {
    pub clock: WallClock,
    pub v4: FamilyProgress,
    pub v6: FamilyProgress,
}

/// The time of the wall clock when an answer was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WallClock {
    /// The time at which it was read.
    pub at: Instant,
    /// The time since the epoch that it showed.
    pub unix: Duration,
}

impl WallClock {
    /// Returns the time since the epoch at an earlier time.
    fn unix_at(self, earlier: Instant) -> Duration {
        self.unix.saturating_sub(self.at.saturating_duration_since(earlier))
    }
}

/// The progress of kube-proxy in one address family. The times are since the epoch, as kube-proxy gives them:
/// the same sync has the same time in each answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FamilyProgress {
    /// The time at which the last change was queued; `None` if none was.
    pub queued: Option<Duration>,
    /// The time at which the last successful sync ended; `None` if none did.
    pub synced: Option<Duration>,
}

/// Names of the metrics of kube-proxy.
const QUEUED: &str = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds";
const SYNCED: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

impl ProxyProgress {
    /// Reads the metrics of kube-proxy in the text format of Prometheus. Returns `None` if the text has no
    /// time of a sync. Ignores times in the future: the clock was set back, or the values are wrong.
    ///
    /// Releases without the label `ip_family` have one value for both families.
    pub fn parse(text: &str, clock: WallClock) -> Option<Self> {
        let mut progress = Self { clock, v4: FamilyProgress::default(), v6: FamilyProgress::default() };
        let mut is_found = false;
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            if name != QUEUED && name != SYNCED {
                continue;
            }
            let time = value.parse().ok().and_then(|value| Duration::try_from_secs_f64(value).ok());
            let time = time.filter(|time| !time.is_zero() && *time <= clock.unix);
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
    synced_before: Option<Duration>,
}

impl FamilyPath {
    fn handle(&mut self, new: FamilyProgress) {
        if self.latest.synced != new.synced {
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
    /// The time of the last answer with the progress of kube-proxy.
    clock: Option<WallClock>,
    /// The time of the last probe with the answer [`ProbeAnswer::Ready`].
    ready_at: Option<Instant>,
}

impl DataPath {
    /// Handles the answer to a probe.
    pub(crate) fn handle(&mut self, answer: &ProbeAnswer) {
        match answer {
            ProbeAnswer::Ready { since } => self.ready_at = self.ready_at.max(Some(*since)),
            ProbeAnswer::KubeProxy(progress) => {
                self.clock = Some(progress.clock);
                self.v4.handle(progress.v4);
                self.v6.handle(progress.v6);
            }
            ProbeAnswer::NotReady(_) => {}
        }
    }

    /// Returns true if the data path has applied the change since which endpoints can serve an address. The
    /// change arrived `at` this time.
    pub(crate) fn has_applied(&self, family: Family, at: Instant) -> bool {
        let path = match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        };
        if self.ready_at.is_some_and(|ready| ready >= at) {
            return true;
        }
        let FamilyProgress { queued, synced } = path.latest;
        let (Some(synced), Some(clock)) = (synced, self.clock) else { return false };
        // The last answer may be older than the change.
        if clock.at < at {
            return false;
        }
        let (now, at) = (clock.unix, clock.unix_at(at));
        // The latest sync started after the end of the one before.
        let has_started_later = path.synced_before.is_some_and(|before| before >= at + WATCH_SKEW);
        let is_idle = queued.is_none_or(|queued| queued <= synced) && now >= synced + SETTLE;
        let has_arrived = queued.is_some_and(|queued| queued >= at) || now >= at + QUIET;
        has_started_later || (is_idle && has_arrived)
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
        let clock = WallClock { at: Instant::now(), unix: Duration::from_secs(1_764_000_100) };
        let ago = |seconds| clock.unix.checked_sub(Duration::from_secs(seconds));
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
            (vec![("timestamp", "", "1.8e+09")], Some(Default::default())),
        ] {
            let progress = ProxyProgress::parse(&metrics(&lines), clock);
            let expected = expected.map(|(v4, v6)| ProxyProgress { clock, v4, v6 });
            assert_eq!(progress, expected, "{lines:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parse_of_any_text_does_not_panic(text in "(kubeproxy_sync_proxy_rules_last_timestamp_seconds|[{} \n0-9.e+-]|.){0,40}") {
            let clock = WallClock { at: Instant::now(), unix: Duration::from_secs(1_764_000_000) };
            let _ = ProxyProgress::parse(&text, clock);
        }
    }

    #[test]
    fn repeated_answer_is_no_new_sync() {
        let start = Instant::now();
        let unix = Duration::from_secs(1_764_000_000);
        let mut path = DataPath::default();
        // The address becomes servable at 0 s. A sync ends at 2 s. The change arrives during it.
        let lines = [("queued_timestamp", "", "1.7640000019e+09"), ("timestamp", "", "1.764000002e+09")];
        // The clocks are read one after the other, with another distance each time.
        for (ms, jitter_us) in [(2_100, 3), (2_200, 40), (2_300, 1), (2_400, 9)] {
            let now = Duration::from_millis(ms);
            let clock = WallClock { at: start + now, unix: unix + now + Duration::from_micros(jitter_us) };
            let progress = ProxyProgress::parse(&metrics(&lines), clock).unwrap();
            path.handle(&ProbeAnswer::KubeProxy(progress));
            assert!(!path.has_applied(Family::V4, start), "{ms} ms");
        }
    }

    #[test]
    fn applied_change_is_proven_by_idleness_or_by_two_syncs() {
        let start = Instant::now();
        let unix = Duration::from_secs(1_764_000_000);
        let time = |ms: i64| {
            let ms = i64::try_from(unix.as_millis())
                .unwrap()
                .checked_add(ms)
                .and_then(|ms| u64::try_from(ms).ok());
            ms.map(Duration::from_millis)
        };
        // An address becomes servable at 0 ms. (queued and synced of each answer, in ms after that; time of
        // the last answer; applied)
        for (what, answers, now, expected) in [
            ("nothing is known", vec![], 60_000, false),
            ("the change did not arrive", vec![(-5_000, -4_900)], 100, false),
            ("the change is late", vec![(-5_000, -4_900)], 2_999, false),
            ("no change is queued", vec![(-5_000, -4_900)], 3_000, true),
            ("the change arrived late", vec![(2_000, 2_050)], 3_549, false),
            ("the change arrived late, and is applied", vec![(2_000, 2_050)], 3_550, true),
            ("the change may have arrived before", vec![(-5, 50)], 2_999, false),
            ("the change arrived before", vec![(-5, 50)], 3_000, true),
            ("the change is pending", vec![(5, -4_900)], 9_000, false),
            ("it may have arrived during the sync", vec![(5, 50)], 1_549, false),
            ("another sync would have followed", vec![(5, 50)], 1_550, true),
            ("changes do not end, one sync", vec![(1_900, 1_000), (2_900, 2_000)], 3_000, true),
            ("changes do not end, too early", vec![(900, 500), (1_900, 1_500)], 2_000, false),
            ("kube-proxy restarted", vec![(1, i64::MIN)], 9_000, false),
        ] {
            let mut path = DataPath::default();
            let now = Duration::from_millis(now);
            let clock = WallClock { at: start + now, unix: unix + now };
            for (queued, synced) in answers {
                let v4 = FamilyProgress { queued: time(queued), synced: time(synced) };
                let progress = ProxyProgress { clock, v4, v6: FamilyProgress::default() };
                path.handle(&ProbeAnswer::KubeProxy(progress));
            }
            assert_eq!(path.has_applied(Family::V4, start), expected, "{what}");
            assert!(!path.has_applied(Family::V6, start), "{what}");
        }
    }

    #[test]
    fn answer_from_before_the_change_proves_nothing() {
        let at = Instant::now();
        let unix = Duration::from_secs(1_764_000_000);
        let synced = unix.checked_sub(Duration::from_secs(9));
        let v4 = FamilyProgress { queued: synced, synced };
        let mut path = DataPath::default();
        let clock = WallClock { at, unix };
        path.handle(&ProbeAnswer::KubeProxy(ProxyProgress { clock, v4, v6: v4 }));
        assert!(!path.has_applied(Family::V4, at + Duration::from_millis(1)));
    }

    #[test]
    fn answer_without_details_counts_from_the_time_of_the_probe() {
        let at = Instant::now();
        let mut path = DataPath::default();
        path.handle(&ProbeAnswer::NotReady("503".to_owned()));
        assert!(!path.has_applied(Family::V4, at));
        let earlier = at.checked_sub(Duration::from_millis(1)).unwrap();
        path.handle(&ProbeAnswer::Ready { since: earlier });
        assert!(!path.has_applied(Family::V4, at));
        path.handle(&ProbeAnswer::Ready { since: at });
        assert!(path.has_applied(Family::V4, at));
    }
}
