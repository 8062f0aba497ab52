//! Command-line flags of the speaker. The doc comments of the fields are the help texts.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use fairlead_plan::Protocol;
use fairlead_probe::Detection;
use fairlead_runtime::build_info;
use fairlead_runtime::flags::{Common, EnabledProtocol, duration, listen_address};

use crate::excluded_interfaces::ExcludedInterfaces;
use crate::tasks::data_path::ProbeUrl;

/// Longest value of `--drain-wait`. The pod needs a termination grace period that is some seconds longer.
const MAX_DRAIN_WAIT: Duration = Duration::from_secs(60);

/// Longest value of `--data-path-wait`.
const MAX_DATA_PATH_WAIT: Duration = Duration::from_secs(600);

/// Announces the addresses of LoadBalancer Services from this node, by ARP, NDP and BGP.
#[derive(Clone, Debug, Parser)]
#[command(name = "fairlead-speaker", version = build_info::long_version())]
pub struct Flags {
    #[allow(missing_docs)]
    #[command(flatten)]
    pub common: Common,

    /// Name of the Node object of the node that this speaker runs on
    #[arg(long, env = "FAIRLEAD_NODE_NAME", value_name = "NAME")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub node_name: String,

    /// UDP port on which the speakers detect failures of each other; the same on every node
    #[arg(long, env = "FAIRLEAD_MESH_PORT", default_value_t = 7947, value_name = "PORT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub mesh_port: u16,

    /// How the failure of another node is detected: `fast` with echo requests every 50 ms, `normal` with one
    /// every 100 ms, `swim` with the mesh alone; the same on every node
    #[arg(long, env = "FAIRLEAD_L2_DETECTION", default_value_t, value_name = "fast|normal|swim")]
    pub l2_detection: Detection,

    /// Whether a node asks, before it announces a new address by L2, that no other host uses it, which takes
    /// 0.6 s
    #[arg(long, env = "FAIRLEAD_L2_PROBE", default_value_t = true, value_name = "true|false")]
    #[arg(action = clap::ArgAction::Set)]
    pub l2_probe: bool,

    /// TCP port to which the routers of passive BGPPeers connect; open only while the node has such a peer
    #[arg(long, env = "FAIRLEAD_BGP_LISTEN_PORT", default_value_t = 179, value_name = "PORT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub bgp_listen_port: u16,

    /// Interfaces that L2 announcements never use, comma-separated: names, where `*` matches any text and `?`
    /// one character, and kinds as `ip -details link` shows them (`kind:vxlan`). `kind:veth` excludes those
    /// without an address of a subnet
    #[arg(long, env = "FAIRLEAD_EXCLUDE_INTERFACES", value_name = "PATTERNS")]
    #[arg(default_value = ExcludedInterfaces::DEFAULT)]
    pub exclude_interfaces: ExcludedInterfaces,

    /// How long a speaker asks BGP routers to prefer other paths before it withdraws its routes, when its
    /// node is drained, the speaker stops, or a BGPPeer is shut down; at most 60s
    #[arg(long, env = "FAIRLEAD_DRAIN_WAIT", default_value = "2s", value_name = "DURATION")]
    #[arg(value_parser = drain_wait)]
    pub drain_wait: Duration,

    /// Drain a node while it is cordoned, as with the label fairlead.dev/drain; the same on every node
    #[arg(long, env = "FAIRLEAD_DRAIN_CORDONED")]
    pub drain_cordoned: bool,

    /// URL by which the speaker asks whether the data path of its node is ready, for BGPAdvertisements with
    /// announceWhen DataPathReady: with the path /metrics, the answer must be the metrics of kube-proxy; with
    /// any other path, status 200 means ready
    #[arg(long, env = "FAIRLEAD_DATA_PATH_PROBE", value_name = "URL")]
    #[arg(default_value = "http://127.0.0.1:10249/metrics")]
    pub data_path_probe: ProbeUrl,

    /// How long an address waits for the data path of the node before it is announced anyway; at most 10m
    #[arg(long, env = "FAIRLEAD_DATA_PATH_WAIT", default_value = "30s", value_name = "DURATION")]
    #[arg(value_parser = data_path_wait)]
    pub data_path_wait: Duration,

    /// Name of the DaemonSet of the speakers, in the namespace of Fairlead: when it is deleted, speakers that
    /// stop withdraw their routes also from routers with graceful restart
    #[arg(long, env = "FAIRLEAD_DAEMONSET", value_name = "NAME")]
    pub daemonset: Option<String>,

    /// Address on which /metrics, /healthz and /readyz are served
    #[arg(long, env = "FAIRLEAD_METRICS_ADDR", default_value = ":7474", value_name = "ADDRESS")]
    #[arg(value_parser = listen_address)]
    pub metrics_addr: SocketAddr,
}

impl Flags {
    /// Returns the protocols that `--protocols` does not name.
    pub fn disabled_protocols(&self) -> impl Iterator<Item = Protocol> {
        let all = [(EnabledProtocol::L2, Protocol::L2), (EnabledProtocol::Bgp, Protocol::Bgp)];
        all.into_iter().filter(|(flag, _)| !self.common.enables(*flag)).map(|(_, protocol)| protocol)
    }
}

fn drain_wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait <= MAX_DRAIN_WAIT { Ok(wait) } else { Err("must be at most 60s".to_owned()) }
}

fn data_path_wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait <= MAX_DATA_PATH_WAIT { Ok(wait) } else { Err("must be at most 10m".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use fairlead_runtime::flags::{Usage, parse_from};
    use fairlead_test_support::links::link;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Flags, Usage> {
        parse_from(std::iter::once("fairlead-speaker").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn defaults_match_the_documentation() {
        let flags = parsed(&["--node-name", "n1"]).unwrap();
        assert_eq!((flags.mesh_port, flags.bgp_listen_port), (7947, 179));
        assert_eq!(flags.metrics_addr, "[::]:7474".parse().unwrap());
        assert!(flags.exclude_interfaces.matches(&link(2, "docker0", &[])));
        assert_eq!(flags.drain_wait, Duration::from_secs(2));
        assert_eq!(flags.data_path_probe.to_string(), "http://127.0.0.1:10249/metrics");
        assert_eq!(flags.data_path_wait, Duration::from_secs(30));
        assert_eq!((flags.drain_cordoned, &flags.daemonset), (false, &None));
        assert!(!flags.exclude_interfaces.matches(&link(2, "eth0", &["192.0.2.11/24"])));
        assert_eq!(flags.disabled_protocols().count(), 0);
        assert_eq!((flags.l2_detection, flags.l2_probe), (Detection::Fast, true));
        assert!(!parsed(&["--node-name", "n1", "--l2-probe=false"]).unwrap().l2_probe);
    }

    #[test]
    fn protocols_that_are_not_named_are_disabled() {
        for (value, disabled) in [
            ("l2", vec![Protocol::Bgp]),
            ("bgp", vec![Protocol::L2]),
            ("bgp,l2", vec![]),
            ("l2,l2", vec![Protocol::Bgp]),
        ] {
            let flags = parsed(&["--node-name", "n1", "--protocols", value]).unwrap();
            assert_eq!(flags.disabled_protocols().collect::<Vec<_>>(), disabled, "{value}");
        }
    }

    #[test]
    fn invalid_flag_yields_one_line_with_its_name() {
        for (arguments, names) in [
            (vec![], "--node-name"),
            (vec!["--node-name", ""], "--node-name"),
            (vec!["--node-name", "n1", "--mesh-port", "0"], "--mesh-port"),
            (vec!["--node-name", "n1", "--mesh-port", "70000"], "--mesh-port"),
            (vec!["--node-name", "n1", "--bgp-listen-port", "0"], "--bgp-listen-port"),
            (vec!["--node-name", "n1", "--metrics-addr", "here"], "--metrics-addr"),
            (vec!["--node-name", "n1", "--protocols", "ospf"], "--protocols"),
            (vec!["--node-name", "n1", "--protocols", ""], "--protocols"),
            (vec!["--node-name", "n1", "--drain-wait", "61s"], "--drain-wait"),
            (vec!["--node-name", "n1", "--l2-detection", "slow"], "--l2-detection"),
            (vec!["--node-name", "n1", "--l2-probe", "no"], "--l2-probe"),
            (vec!["--node-name", "n1", "--data-path-wait", "11m"], "--data-path-wait"),
            (vec!["--node-name", "n1", "--data-path-probe", "http://proxy/"], "--data-path-probe"),
        ] {
            match parsed(&arguments) {
                Err(Usage::Wrong(line)) => {
                    assert_eq!(line.lines().count(), 1, "{line}");
                    assert!(line.contains(names), "{line}");
                }
                other => panic!("{arguments:?}: {other:?}"),
            }
        }
    }
}
