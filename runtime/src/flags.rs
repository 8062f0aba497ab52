//! Command-line flags that controller and speaker have in common. Every flag has an environment variable.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

/// Exit status for a wrong flag, as the shell and clap have it.
pub const EXIT_USAGE: i32 = 2;

/// Flags of every Fairlead daemon. `--metrics-addr` is not among them: its default differs.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Path of a kubeconfig file; without it the in-cluster configuration is used
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Namespace of Fairlead's own Secrets and Leases
    #[arg(long, env = "FAIRLEAD_NAMESPACE", default_value = "fairlead-system")]
    pub namespace: String,

    /// Serve only Services of this spec.loadBalancerClass; without it, only Services that have none
    #[arg(long, env = "FAIRLEAD_LB_CLASS", value_name = "CLASS")]
    pub lb_class: Option<String>,

    /// Least severe level that is logged; also takes directives such as `info,fairlead_bgp=debug`
    #[arg(long, env = "FAIRLEAD_LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = log_level)]
    pub log_level: String,

    /// How log lines are written
    #[arg(long, env = "FAIRLEAD_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// As without any flag.
impl Default for Common {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            namespace: "fairlead-system".to_owned(),
            lb_class: None,
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

impl Common {
    /// `--lb-class`, where empty means none (as an unset variable in a manifest arrives).
    pub fn lb_class(&self) -> Option<&str> {
        self.lb_class.as_deref().filter(|class| !class.is_empty())
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Parses the process's arguments. On a wrong flag prints one line and exits with [`EXIT_USAGE`]; `--help` and
/// `--version` print and exit with 0.
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

/// Why arguments were not taken.
#[derive(Debug)]
pub enum Usage {
    /// `--help` or `--version` was asked for.
    Shown(clap::Error),
    /// A wrong flag, as one line that names it.
    Wrong(String),
}

/// Like [`parse`], for given arguments, the program's name first.
pub fn parse_from<P: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<P, Usage> {
    P::try_parse_from(arguments).map_err(|error| {
        if !error.use_stderr() {
            return Usage::Shown(error);
        }
        let command = P::command();
        let text = error.to_string();
        // clap explains over several paragraphs: the first says what is wrong, the rest repeats the usage.
        let what = text.split("\n\n").next().unwrap_or_default();
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        let what = what.strip_prefix("error: ").unwrap_or(&what);
        Usage::Wrong(format!("{}: {what} (see --help)", command.get_name()))
    })
}

/// Address that `/metrics`, `/healthz` and `/readyz` are served on; parsed here so that the error is clear.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    full.parse().map_err(|_| "not an address and port such as 0.0.0.0:7472, [::1]:7472 or :7472".to_owned())
}

/// A duration such as `10s`, `500ms` or `2m`. A number alone is seconds.
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
        _ => Err("not a duration such as 10s, 500ms or 2m".to_owned()),
    }
}

fn log_level(text: &str) -> Result<String, String> {
    match text.parse::<tracing_subscriber::filter::EnvFilter>() {
        Ok(_) if !text.is_empty() && plausible_level(text) => Ok(text.to_owned()),
        _ => Err("not a level: off, error, warn, info, debug or trace".to_owned()),
    }
}

/// The filter's own parser takes any word as the name of a module and would then log nothing.
fn plausible_level(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    text.split(',').any(|directive| {
        let level = directive.rsplit('=').next().unwrap_or_default();
        LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level.trim()))
    })
}

#[cfg(test)]
mod tests {
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
    fn a_wrong_flag_is_one_line_that_names_it() {
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
    fn help_is_shown_and_is_no_error() {
        assert!(matches!(parsed(&["--help"]), Err(Usage::Shown(_))));
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let flags = parsed(&[]).unwrap();
        assert_eq!(flags.common.namespace, "fairlead-system");
        assert_eq!(flags.common.lb_class(), None);
        assert_eq!(flags.metrics_addr, "[::]:7472".parse().unwrap());
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
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
    fn an_empty_class_means_services_without_one() {
        assert_eq!(parsed(&["--lb-class", ""]).unwrap().common.lb_class(), None);
        assert_eq!(parsed(&["--lb-class", "a/b"]).unwrap().common.lb_class(), Some("a/b"));
    }
}
