//! Flags of `fairlead-controller`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser};
use fairlead_crds::names;
use fairlead_runtime::build_info;
use fairlead_runtime::flags::{Common, duration, listen_address};

use crate::leader::Timing;

/// Allocates external addresses from IPAddressPools to Services of type LoadBalancer
#[derive(Clone, Debug, Parser)]
#[command(name = "fairlead-controller", version = build_info::long_version())]
pub struct Flags {
    /// Flags of all daemons.
    #[command(flatten)]
    pub common: Common,

    /// Address on which /metrics, /healthz and /readyz are served
    #[arg(
        long,
        env = "FAIRLEAD_METRICS_ADDR",
        default_value = ":7472",
        value_name = "ADDR:PORT",
        value_parser = listen_address
    )]
    pub metrics_addr: SocketAddr,

    /// Name of the pod of this process, which lets it take over sooner from an earlier process of the same
    /// pod, and which its Events show
    #[arg(long, env = "FAIRLEAD_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// Flags of leader election.
    #[command(flatten)]
    pub leader_election: LeaderElection,
}

impl Flags {
    /// Returns the name of this process in Events: that of its pod, else of the host.
    pub fn instance(&self) -> String {
        let host = std::env::var("HOSTNAME").ok();
        let name = self.pod_name.clone().into_iter().chain(host).find(|name| !name.is_empty());
        name.unwrap_or_else(|| names::CONTROLLER.to_owned())
    }
}

/// Flags of leader election, validated as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// `--leader-elect`. If false, this must be the only controller of the cluster.
    pub enabled: bool,
    /// `--lease-duration`, `--renew-deadline` and `--retry-period`.
    pub timing: Timing,
}

/// The flags as parsed, one by one.
#[derive(Args)]
struct LeaderElectionFlags {
    /// Write only while holding the Lease fairlead-controller, so that several controllers can run
    #[arg(
        long,
        env = "FAIRLEAD_LEADER_ELECT",
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value_t = true,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    leader_elect: bool,

    /// Time after the last observed renewal before another controller takes over, in whole seconds
    #[arg(
        long,
        env = "FAIRLEAD_LEASE_DURATION",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration
    )]
    lease_duration: Duration,

    /// Time for which a leader keeps leading without a renewal; shorter than the lease duration
    #[arg(
        long,
        env = "FAIRLEAD_RENEW_DEADLINE",
        default_value = "7s",
        value_name = "DURATION",
        value_parser = duration
    )]
    renew_deadline: Duration,

    /// Interval at which standbys read the Lease; a leader renews half as often
    #[arg(
        long,
        env = "FAIRLEAD_RETRY_PERIOD",
        default_value = "1s",
        value_name = "DURATION",
        value_parser = duration
    )]
    retry_period: Duration,
}

impl FromArgMatches for LeaderElection {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = LeaderElectionFlags::from_arg_matches(matches)?;
        let timing = Timing::new(flags.lease_duration, flags.renew_deadline, flags.retry_period)
            .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))?;
        Ok(Self { enabled: flags.leader_elect, timing })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for LeaderElection {
    fn augment_args(command: Command) -> Command {
        LeaderElectionFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        LeaderElectionFlags::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use fairlead_runtime::flags::{Usage, parse_from};

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Flags, Usage> {
        parse_from(
            std::iter::once("fairlead-controller").chain(arguments.iter().copied()).map(OsString::from),
        )
    }

    #[test]
    fn flag_defaults_match_the_documentation() {
        let flags = parsed(&[]).unwrap();
        assert_eq!(flags.metrics_addr, "[::]:7472".parse().unwrap());
        assert_eq!(flags.leader_election, LeaderElection { enabled: true, timing: Timing::default() });
    }

    #[test]
    fn leader_election_flags_set_switch_and_timing() {
        for (arguments, enabled) in [
            (vec!["--leader-elect"], true),
            (vec!["--leader-elect", "--retry-period", "1s"], true),
            (vec!["--leader-elect=false"], false),
            (vec!["--leader-elect", "false"], false),
        ] {
            assert_eq!(parsed(&arguments).unwrap().leader_election.enabled, enabled, "{arguments:?}");
        }
        let flags = parsed(&["--lease-duration=15", "--renew-deadline=10s", "--retry-period=500ms"]).unwrap();
        let timing = flags.leader_election.timing;
        assert_eq!(timing.lease_duration(), Duration::from_secs(15));
        assert_eq!(timing.renew_deadline(), Duration::from_secs(10));
        assert_eq!(timing.retry_period(), Duration::from_millis(500));
    }

    #[test]
    fn invalid_flag_gives_one_line_that_names_it() {
        for (arguments, names) in [
            (vec!["--metrics-addr", "here"], "--metrics-addr"),
            (vec!["--leader-elect=perhaps"], "--leader-elect"),
            (vec!["--lease-duration", "soon"], "--lease-duration"),
            (vec!["--lease-duration", "5s"], "--renew-deadline 7s is not shorter than --lease-duration 5s"),
            (vec!["--lease-duration", "10500ms"], "--lease-duration 10.5s is not a number of whole seconds"),
            (vec!["--retry-period", "7s"], "--retry-period 7s is not shorter than --renew-deadline 7s"),
            (vec!["--retry-period", "0s"], "--retry-period 0ns is shorter than 100ms"),
        ] {
            match parsed(&arguments) {
                Err(Usage::Wrong(line)) => {
                    assert_eq!(line.lines().count(), 1, "{line}");
                    assert!(line.starts_with("fairlead-controller: ") && line.contains(names), "{line}");
                }
                other => panic!("{arguments:?}: {other:?}"),
            }
        }
    }
}
