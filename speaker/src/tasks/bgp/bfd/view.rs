//! What a report means for the BGP session and for the operator. Contains no I/O.

use std::time::{Duration, Instant};

use fairlead_bfd::{Diagnostic, HopMode, SessionKey, State};
use fairlead_bgp::SessionInput;
use fairlead_crds::model::config::Peer;
use fairlead_crds::v1beta1::{BFDRemote, BFDSession};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::tasks::bfd::{BfdReport, RemoteReport, SessionReport};

/// Returns the inputs for the BGP session, in order (RFC 5882 §10.2). Changes between the two reports that
/// the peer task did not see are not lost: a session that went Down and is Up again ended the BGP session.
pub(super) fn inputs(
    before: Option<&SessionReport>,
    after: Option<&SessionReport>,
) -> Vec<SessionInput<'static>> {
    let mut inputs = Vec::new();
    let same = before
        .filter(|before| after.is_some_and(|after| after.local_discriminator == before.local_discriminator));
    if before.is_some() && same.is_none() {
        inputs.push(SessionInput::BfdReleased);
    }
    let Some(after) = after else { return inputs };
    let now = &after.transitions;
    // What the session did before this peer joined it does not matter.
    let (failed, up, released) =
        same.map(|session| session.transitions).map_or((now.failed, true, false), |earlier| {
            let released = now.releases > earlier.releases && !now.failed;
            (now.failures > earlier.failures, now.ups > earlier.ups, released)
        });
    if failed {
        inputs.push(SessionInput::BfdDown { reason: now.failure.to_string() });
    }
    // A peer that disabled BFD may do so before its session with this node was ever Up.
    let (was_disabled, is_disabled) = (same.is_some_and(is_disabled_by_peer), is_disabled_by_peer(after));
    if up && after.state == State::Up {
        inputs.push(SessionInput::BfdUp);
    } else if is_disabled && (released || !was_disabled) {
        inputs.push(SessionInput::BfdDisabled);
    } else if !is_disabled && after.state != State::Up && (released || was_disabled && !failed) {
        inputs.push(SessionInput::BfdReleased);
    }
    inputs
}

/// Returns whether the operator of the peer disabled BFD.
fn is_disabled_by_peer(session: &SessionReport) -> bool {
    session.state == State::Down && session.remote.is_some_and(|remote| remote.state == State::AdminDown)
}

/// The wall clock time of the last change of state. It is computed once per change, so that it does not vary.
#[derive(Debug, Default)]
pub(super) struct Since(Option<(Instant, Timestamp)>);

impl Since {
    fn update(&mut self, at: Option<Instant>, now: (Instant, Timestamp)) -> Option<Timestamp> {
        if self.0.map(|(known, _)| known) != at {
            let timestamp =
                |at: Instant| now.1.checked_sub(now.0.saturating_duration_since(at)).unwrap_or(now.1);
            self.0 = at.map(|at| (at, timestamp(at)));
        }
        self.0.map(|(_, timestamp)| timestamp)
    }
}

/// Returns the session for the Speaker object. `problem` tells why none was requested.
pub(super) fn view(
    peer: &Peer,
    key: Option<&SessionKey>,
    problem: Option<&str>,
    report: &BfdReport,
    since: &mut Since,
) -> BFDSession {
    let session = report.session.as_ref();
    let since = since.update(session.and_then(|s| s.state_since), (Instant::now(), Timestamp::now()));
    BFDSession {
        state: session.map_or(State::Down, |session| session.state).to_string(),
        since: since.map(Time),
        local_address: key.map(|key| key.local.to_string()),
        hop_mode: key.map(|key| match key.hop_mode {
            HopMode::Single => "SingleHop".to_owned(),
            HopMode::Multi => "MultiHop".to_owned(),
        }),
        transmit_interval: session.and_then(|session| session.transmit_interval).map(milliseconds),
        receive_interval: session.map(|session| milliseconds(session.receive_interval)),
        detect_multiplier: session.map(|session| session.detect_multiplier.into()),
        detection_time: session.and_then(|session| session.detection_time).map(milliseconds),
        remote: session.and_then(|session| session.remote).map(remote),
        diagnostic: session.and_then(|session| words(session.diagnostic)),
        flaps: session.map_or(0, |session| count(session.flaps)),
        lateness: session.map_or(0, |session| count(session.lateness)),
        scheduling: report.scheduling.map(|scheduling| scheduling.to_string()),
        message: message(peer, key, problem, report),
    }
}

/// Returns why the session is not Up, or what limits it.
fn message(
    peer: &Peer,
    key: Option<&SessionKey>,
    problem: Option<&str>,
    report: &BfdReport,
) -> Option<String> {
    if let Some(problem) = problem.or(report.problem.as_deref()) {
        return Some(problem.to_owned());
    }
    let session = report.session?;
    let strict = peer.bfd_strict;
    let without =
        if strict { "the BGP session waits for it (bfdStrict)" } else { "the BGP session runs without it" };
    match (session.state, session.remote.map(|remote| remote.state)) {
        (State::Up, _) if session.transmit_interval_raised => Some(
            "this node sends BFD packets late: the transmit interval is raised until packets are on time for 60 s"
                .to_owned(),
        ),
        (State::Up, _) => report.parameters_of.as_ref().map(|other| {
            format!("shared with BGPPeer {other}, whose BFDProfile detects faster and is in force")
        }),
        _ if session.transitions.failed => Some(
            "the path to the router failed: the BGP session starts again when BFD is up; if the router no longer \
             runs BFD, remove bfdProfile from the BGPPeer"
                .to_owned(),
        ),
        (_, Some(State::AdminDown)) => {
            Some("the router disabled BFD (AdminDown): the BGP session runs without it".to_owned())
        }
        (_, None) if session.transitions.ups > 0 => Some(format!(
            "the router sends no BFD packets any more: it disabled BFD, or ended its BFD session with the BGP \
             session; {without}"
        )),
        (_, None) if key.is_some_and(|key| key.hop_mode == HopMode::Multi) => Some(format!(
            "no answer: the router sends no BFD packets to this node, or sends them with a TTL below minimumTtl \
             of the BFDProfile; {without}"
        )),
        (_, None) => Some(format!("no answer: the router sends no BFD packets to this node; {without}")),
        _ => None,
    }
}

fn remote(remote: RemoteReport) -> BFDRemote {
    BFDRemote {
        state: remote.state.to_string(),
        transmit_interval: milliseconds(remote.transmit_interval),
        receive_interval: milliseconds(remote.receive_interval),
        detect_multiplier: remote.detect_multiplier.into(),
        diagnostic: words(remote.diagnostic),
    }
}

fn words(diagnostic: Diagnostic) -> Option<String> {
    (diagnostic != Diagnostic::NONE).then(|| diagnostic.to_string())
}

fn milliseconds(interval: Duration) -> i64 {
    i64::try_from(interval.as_millis()).unwrap_or(i64::MAX)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::tasks::bfd::Transitions;

    fn session(discriminator: u32, state: State, ups: u64, failures: u64, releases: u64) -> SessionReport {
        SessionReport {
            local_discriminator: NonZeroU32::new(discriminator).unwrap(),
            state,
            state_since: None,
            diagnostic: Diagnostic::NONE,
            remote: None,
            transmit_interval: None,
            receive_interval: Duration::from_millis(50),
            detect_multiplier: 3,
            detection_time: None,
            transmit_interval_raised: false,
            transitions: Transitions {
                ups,
                failures,
                failure: Diagnostic::PATH_DOWN,
                releases,
                failed: failures > 0 && state != State::Up && releases == 0,
            },
            flaps: failures + releases,
            lateness: 0,
        }
    }

    fn remote_in(state: State) -> RemoteReport {
        RemoteReport {
            state,
            diagnostic: Diagnostic::NONE,
            transmit_interval: Duration::from_millis(100),
            receive_interval: Duration::from_millis(100),
            detect_multiplier: 3,
        }
    }

    fn heard(session: SessionReport, state: State) -> SessionReport {
        SessionReport { remote: Some(remote_in(state)), ..session }
    }

    #[test]
    fn inputs_follow_from_the_changes_between_two_reports() {
        use State::{AdminDown, Down, Up};
        let up = || SessionInput::BfdUp;
        let down = || SessionInput::BfdDown { reason: "Path Down".to_owned() };
        let released = || SessionInput::BfdReleased;
        let disabled = || SessionInput::BfdDisabled;
        let new = session(1, Down, 0, 0, 0);
        for (name, before, after, expected) in [
            ("session created", None, Some(new), vec![]),
            ("joined a session that is Up", None, Some(session(1, Up, 0, 0, 0)), vec![up()]),
            ("joined a session that failed", None, Some(session(1, Down, 1, 1, 0)), vec![down()]),
            ("joined a session that failed earlier", None, Some(session(1, Up, 2, 1, 0)), vec![up()]),
            ("came up", Some(new), Some(session(1, Up, 1, 0, 0)), vec![up()]),
            ("unchanged", Some(session(1, Up, 1, 0, 0)), Some(session(1, Up, 1, 0, 0)), vec![]),
            ("failed", Some(session(1, Up, 1, 0, 0)), Some(session(1, Down, 1, 1, 0)), vec![down()]),
            ("still failed", Some(session(1, Down, 1, 1, 0)), Some(session(1, State::Init, 1, 1, 0)), vec![]),
            (
                "failed and came up between the reports",
                Some(session(1, Up, 1, 0, 0)),
                Some(session(1, Up, 2, 1, 0)),
                vec![down(), up()],
            ),
            (
                "came up and failed between the reports",
                Some(new),
                Some(session(1, Down, 1, 1, 0)),
                vec![down()],
            ),
            ("disabled", Some(session(1, Up, 1, 0, 0)), Some(session(1, Down, 1, 0, 1)), vec![released()]),
            (
                "disabled after a failure",
                Some(session(1, Down, 1, 1, 0)),
                Some(session(1, Down, 1, 1, 1)),
                vec![released()],
            ),
            (
                "disabled here",
                Some(session(1, Up, 1, 0, 0)),
                Some(session(1, AdminDown, 1, 0, 1)),
                vec![released()],
            ),
            (
                "disabled by the peer",
                Some(heard(session(1, Up, 1, 0, 0), Up)),
                Some(heard(session(1, Down, 1, 0, 1), AdminDown)),
                vec![disabled()],
            ),
            ("disabled by the peer from the start", Some(new), Some(heard(new, AdminDown)), vec![disabled()]),
            ("joined a session that the peer disabled", None, Some(heard(new, AdminDown)), vec![disabled()]),
            ("still disabled", Some(heard(new, AdminDown)), Some(heard(new, AdminDown)), vec![]),
            (
                "enabled by the peer",
                Some(heard(new, AdminDown)),
                Some(heard(session(1, State::Init, 0, 0, 0), Down)),
                vec![released()],
            ),
            ("peer silent after it disabled BFD", Some(heard(new, AdminDown)), Some(new), vec![released()]),
            (
                "enabled by the peer, came up and failed between the reports",
                Some(heard(new, AdminDown)),
                Some(heard(session(1, Down, 1, 1, 0), Down)),
                vec![down()],
            ),
            ("ended", Some(session(1, Up, 1, 0, 0)), None, vec![released()]),
            (
                "other session",
                Some(session(1, Up, 1, 0, 0)),
                Some(session(2, Down, 0, 0, 0)),
                vec![released()],
            ),
            (
                "other session that is Up",
                Some(session(1, Down, 1, 1, 0)),
                Some(session(2, Up, 1, 0, 0)),
                vec![released(), up()],
            ),
        ] {
            assert_eq!(inputs(before.as_ref(), after.as_ref()), expected, "{name}");
        }
    }

    #[test]
    fn message_tells_why_the_session_is_not_up() {
        let (down, up) = (session(1, State::Down, 0, 0, 0), session(1, State::Up, 1, 0, 0));
        let late = SessionReport { transmit_interval_raised: true, ..up };
        for (expected, strict, session) in [
            (None, false, heard(up, State::Up)),
            (
                Some("no answer: the router sends no BFD packets to this node; the BGP session runs"),
                false,
                down,
            ),
            (Some("waits for it (bfdStrict)"), true, down),
            (Some("sends no BFD packets any more"), false, session(1, State::Down, 1, 0, 1)),
            (None, false, heard(down, State::Down)),
            (Some("(AdminDown): the BGP session runs without it"), true, heard(down, State::AdminDown)),
            (Some("starts again when BFD is up"), false, session(1, State::Down, 1, 1, 0)),
            (Some("sends BFD packets late"), false, late),
        ] {
            let peer = Peer { bfd_strict: strict, ..fairlead_test_support::peer("tor", "192.0.2.254") };
            let report = BfdReport { session: Some(session), ..BfdReport::default() };
            let message = message(&peer, None, None, &report);
            match expected {
                None => assert_eq!(message, None),
                Some(text) => assert!(message.as_deref().is_some_and(|m| m.contains(text)), "{message:?}"),
            }
        }
        let peer = fairlead_test_support::peer("tor", "192.0.2.254");
        let [local, remote] = ["192.0.2.11", "192.0.2.254"].map(|address| address.parse().unwrap());
        let key = SessionKey { local, remote, hop_mode: HopMode::Multi, interface: None };
        let report = BfdReport { session: Some(down), ..BfdReport::default() };
        assert!(
            message(&peer, Some(&key), None, &report).is_some_and(|m| m.contains("TTL below minimumTtl"))
        );
        let report = BfdReport {
            session: Some(up),
            problem: Some("UDP port 3784 is in use".into()),
            parameters_of: Some("other".into()),
            ..BfdReport::default()
        };
        assert_eq!(message(&peer, None, None, &report).as_deref(), Some("UDP port 3784 is in use"));
        let report = BfdReport { problem: None, ..report };
        assert!(message(&peer, None, None, &report).is_some_and(|message| message.contains("BGPPeer other")));
    }

    #[test]
    fn time_of_a_state_does_not_vary() {
        let mut since = Since::default();
        let (start, wall) = (Instant::now(), Timestamp::from_second(1_000).unwrap());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let later = |seconds: i64| Timestamp::from_second(1_000 + seconds).unwrap();
        assert_eq!(since.update(None, (start, wall)), None);
        assert_eq!(since.update(Some(at(1)), (at(3), later(3))), Some(later(1)));
        // The wall clock was set forward meanwhile.
        assert_eq!(since.update(Some(at(1)), (at(9), later(999))), Some(later(1)));
        assert_eq!(since.update(Some(at(8)), (at(9), later(999))), Some(later(998)));
    }
}
