//! `fairlead`, the command-line tool, which also runs as `kubectl fairlead`.

mod cluster;
mod connection;
mod explain;
mod generate;
mod network;
mod output;
mod read;
mod routes;
mod status;
mod uninstall;
mod validate;
mod version;
mod yaml;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::text::message;
use fairlead_runtime::{build_info, flags};
use jiff::Timestamp;

use cluster::Snapshot;
use connection::Cluster;
use output::Format;

/// The exit status for invalid arguments and unreadable input.
const EXIT_USAGE: u8 = 2;

/// Shows the state of Fairlead, a bare-metal LoadBalancer provider, explains its decisions, and checks its
/// configuration.
///
/// The exit status is 0 if all is well, 1 if something is wrong or an object is refused, and 2 if the
/// arguments are invalid or the cluster or files cannot be read.
#[derive(Parser)]
#[command(name = "fairlead", version = build_info::long_version(), arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    cluster: Cluster,
}

/// How the result is shown.
#[derive(Args, Clone, Copy, Debug)]
struct Display {
    /// Format of the output; docs/cli.md documents the shape of JSON and YAML
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    output: Format,

    /// Show the state again after each change, at most once per second, until interrupted
    #[arg(short, long, global = true)]
    watch: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Shows what is wrong, each with the command that shows more, and the state of the installation.
    ///
    /// The exit status is 0 if nothing is wrong, 1 if something is wrong, and 2 if the cluster cannot be
    /// read.
    Status {
        #[command(subcommand)]
        subject: Option<status::Subject>,

        #[command(flatten)]
        display: Display,
    },
    /// Explains the state of an object in the cluster.
    ///
    /// The exit status is 0 if the Service has an address, if a Service has the address, or if the other
    /// object is as it should be; else 1. It is 2 if there is no such object or the cluster cannot be read.
    Explain {
        #[command(subcommand)]
        subject: explain::Subject,

        #[command(flatten)]
        display: Display,
    },
    /// Shows the routes that a Node sends to its BGP peers, computed from the objects as the speaker computes
    /// them, beside what the Speaker object reports.
    ///
    /// The exit status is 0 if the Speaker object reports as many prefixes as were computed, 1 if not, and 2
    /// if there is no such Node or the cluster cannot be read.
    Routes {
        /// Name of the Node
        node: String,

        /// Name of a BGPPeer; if unset, all peers
        peer: Option<String>,

        #[command(flatten)]
        display: Display,
    },
    /// Reports for each configuration object in files if Fairlead would accept it, and the reason if not.
    ///
    /// The files together are the whole configuration of a cluster: an object that is in none of them does
    /// not exist. Objects of other API groups are ignored. Every object is checked as the API server checks
    /// it (names, unknown and duplicate fields, schema and CEL rules), and then as Fairlead does. Each error
    /// has a line of its own: file, line, column, object, reason and explanation.
    ///
    /// The exit status is 0 if all objects are accepted, 1 if an object is refused, and 2 if the files cannot
    /// be read.
    Validate {
        /// YAML or JSON file, directory of such files, or - for standard input; may be repeated
        #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, num_args = 1..)]
        files: Vec<PathBuf>,

        /// Read the subdirectories of directories too
        #[arg(short = 'R', long)]
        recursive: bool,
    },
    /// Shows the versions of this program, the controllers and the speakers.
    Version {
        /// Only the version of this program; reads no cluster
        #[arg(long)]
        client: bool,

        #[command(flatten)]
        display: Display,
    },
    /// Removes what Fairlead has written into objects that outlive it: the finalizers of IPAddressPools, and
    /// the conditions and the annotation on Services. The addresses in the status of Services stay, so that
    /// another implementation can adopt them.
    ///
    /// Stop the controller before, and delete the custom resource definitions afterwards: see
    /// docs/uninstall.md. The exit status is 0 if nothing is left to remove, 1 if it was not confirmed, and 2
    /// if the API server is unreachable, a controller still runs, or a request failed.
    Uninstall(uninstall::Arguments),
    /// Prints a script that completes commands in a shell.
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Writes manual pages, one for each command, into a directory.
    Man {
        /// The directory, which is created if it does not exist
        directory: PathBuf,
    },
}

/// Returns how this program is called in examples: as a plugin of kubectl, or by its name.
fn program() -> &'static str {
    let name = std::env::args_os().next().unwrap_or_default();
    let is_plugin = Path::new(&name).file_stem().is_some_and(|stem| stem == "kubectl-fairlead");
    if is_plugin { "kubectl fairlead" } else { "fairlead" }
}

/// Returns the definition of the command line.
fn definition() -> clap::Command {
    flags::without_empty_variables(Arguments::command().bin_name(program()), &|name| std::env::var_os(name))
}

/// Parses the arguments of the process. Exits for `--help`, and for invalid arguments.
fn arguments() -> Arguments {
    Arguments::from_arg_matches(&definition().get_matches()).unwrap_or_else(|error| error.exit())
}

fn main() -> ExitCode {
    let Arguments { command, cluster } = arguments();
    match command {
        Command::Status { subject, display } => {
            show(&cluster, display, |snapshot| status::render(subject.as_ref(), snapshot, display.output))
        }
        Command::Explain { subject, display } => {
            show(&cluster, display, |snapshot| explain::render(&subject, snapshot, display.output))
        }
        Command::Routes { node, peer, display } => show(&cluster, display, |snapshot| {
            routes::render(snapshot, &node, peer.as_deref(), display.output)
        }),
        Command::Version { client: true, display } => exit(version::client(display.output)),
        Command::Version { client: false, display } => {
            show(&cluster, display, |snapshot| version::render(snapshot, display.output))
        }
        Command::Validate { files, recursive } => validate(&files, recursive),
        Command::Uninstall(arguments) => exit(uninstall::run(&arguments, &cluster)),
        Command::Completion { shell } => {
            generate::completion(definition(), shell);
            ExitCode::SUCCESS
        }
        Command::Man { directory } => exit(generate::manuals(definition(), &directory).map(|()| true)),
    }
}

/// Reads the cluster and prints what `render` makes of it: text, and whether all is well.
fn show(
    cluster: &Cluster,
    display: Display,
    render: impl Fn(&Snapshot) -> Result<(String, bool)>,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure(&error.into()),
    };
    if !display.watch {
        let result = runtime.block_on(cluster::read(cluster)).and_then(|snapshot| render(&snapshot));
        return exit(result.map(|(text, is_well)| {
            output::print(&text, display.output);
            is_well
        }));
    }
    let mut screen = Screen { format: display.output, shown: None };
    loop {
        let ended = cluster::watch(
            cluster,
            |snapshot| screen.show(snapshot, &render),
            |error| {
                failure(error);
            },
        );
        let Err(error) = runtime.block_on(ended);
        failure(&error);
        std::thread::sleep(cluster::WATCH_INTERVAL);
    }
}

/// What `--watch` has printed.
struct Screen {
    format: Format,
    /// When it was printed, and the text or the error.
    shown: Option<(Timestamp, std::result::Result<String, String>)>,
}

impl Screen {
    /// Prints a snapshot if it differs from the one that was printed by more than the ages.
    fn show(&mut self, mut snapshot: Snapshot, render: impl Fn(&Snapshot) -> Result<(String, bool)>) {
        let text = |snapshot: &Snapshot| match render(snapshot) {
            Ok((text, _)) => Ok(text),
            Err(error) => Err(format!("{error:#}")),
        };
        let now = snapshot.now;
        if let Some((then, shown)) = &self.shown {
            snapshot.now = *then;
            if text(&snapshot) == *shown {
                return;
            }
            snapshot.now = now;
        }
        let text = text(&snapshot);
        match &text {
            Ok(text) => {
                clear_screen();
                output::print(text, self.format);
            }
            Err(error) => {
                failure(&anyhow::Error::msg(error.clone()));
            }
        }
        self.shown = Some((now, text));
    }
}

/// Clears a terminal.
fn clear_screen() {
    if std::io::stdout().is_terminal() {
        print!("\u{1b}[H\u{1b}[2J");
    }
}

/// Returns namespace and name of a Service that the user names.
fn service_key(name: &str, namespace: &str) -> ObjectKey {
    let (namespace, name) = name.split_once('/').unwrap_or((namespace, name));
    ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn exit(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failure(&error),
    }
}

/// Prints an error on one line, whatever the texts of files and of the API server in it contain.
fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("fairlead: {}", message(format!("{error:#}")));
    ExitCode::from(EXIT_USAGE)
}

fn validate(files: &[PathBuf], recursive: bool) -> ExitCode {
    match read::documents(files, recursive, &mut std::io::stdin().lock()) {
        Ok(documents) => report(&validate::validate(documents)),
        Err(error) => failure(&error),
    }
}

fn report(findings: &[validate::Finding]) -> ExitCode {
    if findings.is_empty() {
        eprintln!("fairlead: the files contain no configuration objects of Fairlead");
        return ExitCode::from(EXIT_USAGE);
    }
    let mut out = std::io::stdout().lock();
    for finding in findings {
        // If the reader closes the pipe, the exit status still reports the result.
        let _ = writeln!(out, "{finding}");
    }
    let refused = findings.iter().any(|finding| !finding.accepted);
    if findings.iter().any(|finding| !finding.accepted && finding.keeps_form) {
        eprintln!(
            "fairlead: in a cluster, if an edit of an object other than an IPAddressPool is refused, the form \
             that was accepted last stays in force"
        );
    }
    if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
