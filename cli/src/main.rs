//! `fairlead`: what an operator asks Fairlead on the command line. Also runs as `kubectl fairlead`.

mod explain;
mod read;
mod validate;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Wrong use, or files that cannot be read.
const UNUSABLE: u8 = 2;

/// Looks at the configuration of Fairlead, a bare-metal LoadBalancer provider.
#[derive(Parser)]
#[command(name = "fairlead", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says of each configuration object in files whether Fairlead would accept it, and if not, why.
    ///
    /// All files are taken together, as the whole configuration of a cluster: a reference to an object that is in none of
    /// them counts as a reference to one that does not exist. Objects of other kinds are passed over.
    ///
    /// Exits with 0 when all objects are accepted, 1 when one is refused, 2 when the files cannot be read.
    Validate {
        /// YAML or JSON file, folder of such files, or - for standard input. May be repeated.
        #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, num_args = 1..)]
        files: Vec<PathBuf>,
    },
    /// Says why something in the cluster is as it is.
    #[command(subcommand)]
    Explain(explain::What),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Validate { files } => validate(&files),
        Command::Explain(what) => match explain::run(&what) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("fairlead: {error:#}");
                ExitCode::from(UNUSABLE)
            }
        },
    }
}

fn validate(files: &[PathBuf]) -> ExitCode {
    match read::documents(files, &mut std::io::stdin().lock()) {
        Ok(documents) => report(&validate::validate(documents)),
        Err(error) => {
            eprintln!("fairlead: {error:#}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn report(findings: &[validate::Finding]) -> ExitCode {
    if findings.is_empty() {
        eprintln!("fairlead: the files have no configuration objects of Fairlead");
        return ExitCode::from(UNUSABLE);
    }
    let mut out = std::io::stdout().lock();
    for finding in findings {
        // Whoever closes the pipe has read enough; the exit code still counts.
        let _ = writeln!(out, "{finding}");
    }
    let refused = findings.iter().any(|finding| !finding.accepted);
    if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
