//! The figures of `docs/performance.md`, measured from outside, with the machine's own limits
//! beside them.

mod advertised;
mod arp;
mod backlog;
mod bfd;
mod control;
mod cost;
mod edits;
mod failover;
mod latency;
mod machine;
mod memory;
mod objects;
mod pools;
mod rest;
mod routes;
mod scale;
mod size;
mod stage;
mod statistics;
mod table;
mod takeover;
mod usage;
mod wire;
mod writes;

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

use machine::Machine;
use table::Section;

/// No measure begins later than this.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Selects the measures and their size.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Run only this measure; may be repeated
    #[arg(long, value_enum, value_name = "NAME")]
    pub only: Vec<Measure>,
    /// Number of Services where there are many [default: depends on the measure]
    #[arg(long, value_parser = range(100..=30_000))]
    pub services: Option<usize>,
    /// Rounds of a cut cable and edits; half as many takeovers; latencies and costs are sampled ten times as
    /// often
    #[arg(long, default_value_t = 10, value_parser = range(1..=100))]
    pub rounds: usize,
    /// Minutes of each phase in which BFD must report no false alarm
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub minutes: u32,
}

/// A measure. Each starts a lab of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Size of the binaries
    Size,
    /// Creation of a Service to its route in the router, and to the first ARP reply
    Latency,
    /// Many Services: all addresses, and all routes in the router
    Backlog,
    /// The condition `fairlead.dev/Advertised` of many Services
    Advertised,
    /// Resident memory
    Memory,
    /// Processor time per event, with few Services and with many
    Cost,
    /// Processor time of thousands of pools
    Pools,
    /// Writes and packets at rest
    Rest,
    /// The longest gap when the owner's cable is cut
    Failover,
    /// Time until a new Service is served when the leader stops
    Takeover,
    /// Time of a node without route after an edit that needs a new BGP session
    Edits,
    /// Time until the router stops to use a node whose cable is cut, with BFD
    Bfd,
    /// False alarms of BFD while all processors are busy
    BfdQuiet,
    /// Processor time of many BFD sessions
    BfdMany,
    /// Many prefixes to four routers, beside BIRD: time, memory, withdrawals
    Scale,
}

/// Default number of Services of measures that need many.
const MANY: usize = 2000;

/// Accepts numbers in a range.
fn range(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

impl Options {
    fn many(&self) -> usize {
        self.services.unwrap_or(MANY)
    }

    fn samples(&self) -> usize {
        self.rounds * 10
    }
}

impl Measure {
    fn run(self, options: &Options) -> Result<Section> {
        match self {
            Self::Size => size::measure(),
            Self::Latency => latency::measure(options),
            Self::Backlog => backlog::measure(options),
            Self::Advertised => advertised::measure(options),
            Self::Memory => memory::measure(options),
            Self::Cost => cost::measure(options),
            Self::Pools => pools::measure(options),
            Self::Rest => rest::measure(options),
            Self::Failover => failover::measure(options),
            Self::Takeover => takeover::measure(options),
            Self::Edits => edits::measure(options),
            Self::Bfd => bfd::measure_detection(options),
            Self::BfdQuiet => bfd::measure_quiet(options),
            Self::BfdMany => bfd::measure_many(options),
            Self::Scale => scale::measure(options),
        }
    }
}

/// Runs the measures and prints them. A measure that fails does not stop the others.
///
/// # Errors
/// If a measure failed, or was skipped for lack of time.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    println!("{}\n", Machine::now());
    let all = Measure::value_variants();
    let chosen = if options.only.is_empty() { all } else { &options.only };
    let mut missing = Vec::new();
    for measure in chosen {
        if start.elapsed() > LIMIT {
            println!("== {measure:?}\n   skipped: the limit of {} is exceeded\n", table::time(LIMIT));
            missing.push(*measure);
            continue;
        }
        tracing::info!("measuring: {measure:?}");
        let began = Instant::now();
        match measure.run(options) {
            Ok(section) => {
                println!(
                    "{section}   (measured in {}, load {})\n",
                    table::time(began.elapsed()),
                    machine::load()
                );
            }
            Err(error) => {
                println!("== {measure:?}\n   failed: {error:#}\n");
                missing.push(*measure);
            }
        }
    }
    println!("{} in all", table::time(start.elapsed()));
    if missing.is_empty() { Ok(()) } else { bail!("not measured: {missing:?}") }
}
