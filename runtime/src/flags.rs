//! Command-line flags of controller and speaker. Every flag has an environment variable.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Args, Id, Parser, ValueEnum};
use fairlead_crds::model::instance::Instance;

/// The exit status for an invalid flag, as in clap and in shells.
pub const EXIT_USAGE: i32 = 2;

/// Flags of both processes, except `--metrics-addr`, whose default differs.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Kubeconfig file; if unset, the in-cluster configuration is used
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Namespace of Fairlead, which contains its Secrets and Leases
    #[arg(long, env = "FAIRLEAD_NAMESPACE", default_value = "fairlead-system")]
    pub namespace: String,

    /// Handle only Services with this spec.loadBalancerClass; if unset, only Services without a class
    #[arg(long, env = "FAIRLEAD_LB_CLASS", value_name = "CLASS")]
    pub lb_class: Option<String>,

    /// Protocols that announce addresses: l2, bgp or both, comma-separated; the same for all daemons. Without
    /// l2 there is no mesh and no key for it, and speakers open no sockets for ARP and NDP. Without bgp,
    /// speakers open no session
    #[arg(long, env = "FAIRLEAD_PROTOCOLS", value_name = "PROTOCOLS", default_value = "l2,bgp")]
    #[arg(value_delimiter = ',')]
    pub protocols: Vec<EnabledProtocol>,

    /// Minimum level of log lines, or directives such as `info,fairlead_bgp=debug`
    #[arg(long, env = "FAIRLEAD_LOG_LEVEL", default_value = "info")]
    #[arg(value_name = "LEVEL", value_parser = log_level)]
    pub log_level: String,

    /// Who may read /metrics: anyone, or users whose bearer token the API server reviews
    #[arg(long, env = "FAIRLEAD_METRICS_AUTH", default_value = "none", value_name = "METHOD")]
    pub metrics_auth: MetricsAuth,

    /// Format of log lines
    #[arg(long, env = "FAIRLEAD_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// The values without any flag.
impl Default for Common {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            namespace: "fairlead-system".to_owned(),
            lb_class: None,
            protocols: vec![EnabledProtocol::L2, EnabledProtocol::Bgp],
            log_level: "info".to_owned(),
            metrics_auth: MetricsAuth::None,
            log_format: LogFormat::Text,
        }
    }
}

impl Common {
    /// Returns the client that authorizes requests for metrics, if `--metrics-auth` asks for it.
    pub fn metrics_authorizer(&self, client: &kube::Client) -> Option<kube::Client> {
        match self.metrics_auth {
            MetricsAuth::None => None,
            MetricsAuth::Kubernetes => Some(client.clone()),
        }
    }

    /// Returns the value of `--lb-class`. An empty value, as from an empty environment variable in a
    /// manifest, means none.
    pub fn lb_class(&self) -> Option<&str> {
        self.lb_class.as_deref().filter(|class| !class.is_empty())
    }

    /// Returns true if `--protocols` names the protocol.
    pub fn enables(&self, protocol: EnabledProtocol) -> bool {
        self.protocols.contains(&protocol)
    }

    /// Returns the instance that this process belongs to.
    pub fn instance(&self) -> Instance {
        Instance { class: self.lb_class().map(str::to_owned), namespace: self.namespace.clone() }
    }
}

/// A protocol of `--protocols`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EnabledProtocol {
    /// ARP and NDP.
    L2,
    /// BGP.
    Bgp,
}

/// The authorization of requests for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetricsAuth {
    /// Anyone who can connect may read them.
    None,
    /// A TokenReview and a SubjectAccessReview of the verb `get` on `/metrics`.
    Kubernetes,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Parses the arguments of the process. For an invalid flag, prints one line and exits with [`EXIT_USAGE`];
/// for `--help` and `--version`, prints the text and exits with 0.
pub fn parse<P: Parser>() -> P {
    match parse_from(std::env::args_os()) {
        Ok(flags) => flags,
        Err(Usage::Shown(error)) => error.exit(),
        Err(Usage::Wrong(line)) => {
            eprintln!("{line}");
            exit(EXIT_USAGE)
        }
    }
}

/// The reason why arguments were not parsed.
#[derive(Debug)]
pub enum Usage {
    /// `--help` or `--version` was given.
    Shown(clap::Error),
    /// A flag is invalid. The line names it.
    Wrong(String),
}

/// Parses these arguments, of which the first is the name of the program; see [`parse`].
///
/// # Errors
/// See [`Usage`].
pub fn parse_from<P: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<P, Usage> {
    let command = without_empty_variables(P::command(), &|name| std::env::var_os(name));
    let parsed = command.try_get_matches_from(arguments);
    parsed.and_then(|mut matches| P::from_arg_matches_mut(&mut matches)).map_err(|error| {
        if !error.use_stderr() {
            return Usage::Shown(error);
        }
        let command = P::command();
        let text = error.to_string();
        // The first paragraph of the message contains the error, the others repeat the usage.
        let message = text.split("\n\n").next().unwrap_or_default();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        Usage::Wrong(format!("{}: {message} (see --help)", command.get_name()))
    })
}

/// Returns the command without the environment variables that are empty: as for Kubernetes itself, an empty
/// variable means the same as none. `value` returns the value of a variable.
pub fn without_empty_variables(
    command: clap::Command,
    value: &impl Fn(&OsStr) -> Option<OsString>,
) -> clap::Command {
    let is_empty = |name: &OsStr| value(name).is_some_and(|value| value.is_empty());
    let empty = command.get_arguments().filter(|argument| argument.get_env().is_some_and(is_empty));
    let empty: Vec<Id> = empty.map(|argument| argument.get_id().clone()).collect();
    let command = empty
        .into_iter()
        .fold(command, |command, id| command.mut_arg(id, |argument| argument.env(Resettable::Reset)));
    command.mut_subcommands(|subcommand| without_empty_variables(subcommand, value))
}

/// Parses the address of the HTTP endpoints. A port alone means all addresses. An IPv6 address needs no
/// brackets: a manifest writes `$(HOST_IP):7474` for either family.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let full = match text.rsplit_once(':') {
        Some(("", port)) => format!("[::]:{port}"),
        Some((ip, port)) if ip.parse::<Ipv6Addr>().is_ok() => format!("[{ip}]:{port}"),
        _ => text.to_owned(),
    };
    let error = "must be an address and port such as 0.0.0.0:7472, [::1]:7472 or :7472";
    full.parse().map_err(|_| error.to_owned())
}

/// Parses a duration such as `10s`, `500ms` or `2m`. A number without a unit is in seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => Some(Duration::from_millis(1)),
        "" | "s" => Some(Duration::from_secs(1)),
        "m" => Some(Duration::from_secs(60)),
        "h" => Some(Duration::from_secs(3600)),
        _ => None,
    };
    match (digits.parse::<u32>(), unit) {
        (Ok(number), Some(unit)) => Ok(unit * number),
        _ => Err("must be a duration such as 10s, 500ms or 2m".to_owned()),
    }
}

fn log_level(text: &str) -> Result<String, String> {
    match text.parse::<tracing_subscriber::filter::EnvFilter>() {
        Ok(_) if !text.is_empty() && plausible_level(text) => Ok(text.to_owned()),
        _ => Err("must be one of off, error, warn, info, debug and trace".to_owned()),
    }
}

/// Returns true if a directive contains a log level. The filter accepts any word as the name of a module, and
/// would then log nothing.
fn plausible_level(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    text.split(',').any(|directive| {
        let level = directive.rsplit('=').next().unwrap_or_default();
        LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level.trim()))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "fairlead-test")]
    struct Flags {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value = ":7472", value_parser = listen_address)]
        metrics_addr: SocketAddr,
    }

    fn parsed(arguments: &[&str]) -> Result<Flags, Usage> {
        parse_from(std::iter::once("fairlead-test").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn invalid_flag_is_reported_on_one_line() {
        for (arguments, names) in [
            (vec!["--nonsense"], "--nonsense"),
            (vec!["--log-format", "xml"], "xml"),
            (vec!["--log-level", "loud"], "loud"),
            (vec!["--metrics-addr", "7472"], "7472"),
            (vec!["stray"], "stray"),
        ] {
            match parsed(&arguments) {
                Err(Usage::Wrong(line)) => {
                    assert_eq!(line.lines().count(), 1, "{line}");
                    assert!(line.starts_with("fairlead-test: ") && line.contains(names), "{line}");
                }
                other => panic!("{arguments:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_is_not_an_error() {
        assert!(matches!(parsed(&["--help"]), Err(Usage::Shown(_))));
    }

    #[test]
    fn defaults_match_the_documentation() {
        let flags = parsed(&[]).unwrap();
        assert_eq!(flags.common.namespace, "fairlead-system");
        assert_eq!(flags.common.lb_class(), None);
        assert_eq!(flags.metrics_addr, "[::]:7472".parse().unwrap());
    }

    #[test]
    fn listen_address_accepts_both_families() {
        for (text, expected) in [
            (":7474", "[::]:7474"),
            ("192.0.2.1:7474", "192.0.2.1:7474"),
            ("[fd00::1]:7474", "[fd00::1]:7474"),
            ("fd00::1:7474", "[fd00::1]:7474"),
        ] {
            assert_eq!(listen_address(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "7474", "192.0.2.1", "node1:7474", ":70000", "[fd00::1]"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn duration_without_unit_is_in_seconds() {
        for (text, milliseconds) in
            [("10s", 10_000), ("10", 10_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "10 s", "1d", "99999999999s", "ten"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn empty_variable_means_the_same_as_none() {
        let variables = |empty: &'static [&str]| {
            let value = |name: &OsStr| {
                let is_empty = name.to_str().is_some_and(|name| empty.contains(&name));
                Some(OsString::from(if is_empty { "" } else { "value" }))
            };
            let command = without_empty_variables(Flags::command(), &value);
            let read = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
            read.map(str::to_owned).collect::<Vec<_>>()
        };
        let all = variables(&[]);
        assert!(all.contains(&"KUBECONFIG".to_owned()) && all.len() == 7, "{all:?}");
        assert_eq!(
            variables(&["KUBECONFIG", "FAIRLEAD_LOG_LEVEL", "FAIRLEAD_LOG_FORMAT", "FAIRLEAD_LB_CLASS"]),
            ["FAIRLEAD_NAMESPACE", "FAIRLEAD_PROTOCOLS", "FAIRLEAD_METRICS_AUTH"]
        );
    }

    #[test]
    fn empty_class_means_no_class() {
        assert_eq!(parsed(&["--lb-class", ""]).unwrap().common.lb_class(), None);
        assert_eq!(parsed(&["--lb-class", "a/b"]).unwrap().common.lb_class(), Some("a/b"));
    }
}
