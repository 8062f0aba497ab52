//! Two controllers: time until a new Service is served when the leader stops.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::Options;
use crate::objects::{Plan, Pool};
use crate::stage::{DataPlane, SOON, Stage, on_stage_of};
use crate::statistics::Samples;
use crate::table::{self, Section};
use fairlead_lab::Lab;
use fairlead_lab::Process;
use fairlead_lab::sys::Signal;

/// Numbers of Services. The last one is the default of `--services`.
const FEW: usize = 10;
const MANY: usize = 10_000;
/// A crash costs the lease duration, so few rounds suffice.
const CRASHES: usize = 3;

/// Runs the measure.
///
/// # Errors
/// If no controller takes over.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage_of(Lab::builder().controllers(2), DataPlane::Stopped, |stage| {
        let rounds = options.rounds.div_ceil(2);
        let mut section = Section::new(
            format!(
                "The leader stops: time until the other controller serves a new Service ({rounds} rounds)"
            ),
            ["median", "max"],
        );
        for services in [FEW, options.services.unwrap_or(MANY)] {
            stage.populate(services)?;
            let (mut ends, mut gaps) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let (end, gap) = hand_over(stage, Signal::Terminate)?;
                ends.push(end);
                gaps.push(gap);
            }
            row(&mut section, format!("SIGTERM, {services} Services"), gaps);
            row(&mut section, "  until the process has ended".to_owned(), ends);
            let crashes = (0..CRASHES).map(|_| Ok(hand_over(stage, Signal::Kill)?.1));
            row(
                &mut section,
                format!("SIGKILL, {services} Services ({CRASHES} rounds)"),
                crashes.collect::<Result<_>>()?,
            );
        }
        section
            .note("from the signal; the Service is created right after it, and a watch reports its address");
        section.note(
            "lease duration 10 s: after a crash the others wait until it expires; they poll every second",
        );
        Ok(section)
    })
}

fn row(section: &mut Section, what: String, times: Vec<Duration>) {
    let times: Samples<Duration> = times.into_iter().collect();
    section.row(what, [table::some_time(times.median()), table::some_time(times.max())]);
}

/// Ends the leader with `signal`, then restarts it. Returns the time until its process ended, and until a new
/// Service has its address.
fn hand_over(stage: &Stage, signal: Signal) -> Result<(Duration, Duration)> {
    let leader = leader(stage)?;
    let plan = Plan::new("takeover", Pool::Bgp);
    let mut watch = stage.control.watch()?;
    let start = Instant::now();
    leader.signal(signal)?;
    stage.control.create_service(&plan)?;
    leader.wait(SOON)?;
    let end = start.elapsed();
    let (_, at) = watch.address(&plan.name, SOON)?;
    stage.control.delete_service(&plan.name)?;
    watch.gone(&plan.name, SOON)?;
    leader.spawn_again()?;
    leader.wait_until_ready(SOON)?;
    stage.quiet()?;
    Ok((end, at.saturating_duration_since(start)))
}

fn leader(stage: &Stage) -> Result<&Process> {
    let holder = stage.control.lease_holder()?;
    let mut controllers = stage.lab.controllers().iter();
    controllers
        .find(|process| holder.starts_with(process.name()))
        .with_context(|| format!("{holder:?} leads"))
}
