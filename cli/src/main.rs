//! `fairlead`, the command-line tool, which also runs as `kubectl fairlead`.

mod explain;
mod read;
mod uninstall;
mod validate;
mod yaml;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use fairlead_crds::text::message;
use fairlead_runtime::{build_info, flags};

/// The exit status for invalid arguments and unreadable input.
const EXIT_USAGE: u8 = 2;

/// Checks the configuration of Fairlead, a bare-metal LoadBalancer provider, and explains its decisions.
#[derive(Parser)]
#[command(name = "fairlead", version = build_info::long_version(), arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
    /// Explains the state of an object in the cluster.
    #[command(subcommand)]
    Explain(explain::Subject),
    /// Removes what Fairlead has written into objects that outlive it: the finalizers of IPAddressPools, and
    /// the conditions and the annotation on Services. The addresses in the status of Services stay, so that
    /// another implementation can adopt them.
    ///
    /// Stop the controller before, and delete the custom resource definitions afterwards: see
    /// docs/uninstall.md. The exit status is 0 if nothing is left to remove, 1 if it was not confirmed, and 2
    /// if the API server is unreachable, a controller still runs, or a request failed.
    Uninstall(uninstall::Arguments),
}

/// Parses the arguments of the process. Exits for `--help`, and for invalid arguments.
fn arguments() -> Arguments {
    let command = flags::without_empty_variables(Arguments::command(), &|name| std::env::var_os(name));
    Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn main() -> ExitCode {
    match arguments().command {
        Command::Validate { files, recursive } => validate(&files, recursive),
        Command::Explain(subject) => exit(explain::run(&subject)),
        Command::Uninstall(arguments) => exit(uninstall::run(&arguments)),
    }
}

fn exit(result: anyhow::Result<bool>) -> ExitCode {
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
