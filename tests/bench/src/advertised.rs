//! The condition `fairlead.dev/Advertised` of many Services: until all are true, and what a speaker that
//! stops causes.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::Options;
use crate::objects::{Plan, Pool};
use crate::stage::{DataPlane, SOON, Stage, on_stage};
use crate::table::{self, Section};
use crate::usage;
use crate::writes::{Counts, Writes};

/// Default number of Services.
const SERVICES: usize = 5000;

/// Runs the measure.
///
/// # Errors
/// If a Service gets no address, or its condition does not become true.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let count = options.services.unwrap_or(SERVICES);
        let title = format!("{count} Services with the condition Advertised, half by BGP and half by L2");
        let mut section = Section::new(title, ["time", "writes"]);
        let controller = stage.lab.controller()?;
        controller.terminate(SOON)?;
        stage.control.create(&Plan::many("bench", 0, count, &[Pool::Bgp, Pool::L2]))?;
        stage.quiet()?;

        let (mut addresses, mut advertised) = (stage.control.watch()?, stage.control.watch_advertised()?);
        let writes = Writes::watch(&stage.lab)?;
        let start = Instant::now();
        controller.spawn_again()?;
        let seen = addresses.addresses("bench-", count, 4 * SOON)?;
        row(&mut section, "controller started: last address", start, seen.values().max())?;
        let seen = advertised.addresses("bench-", count, 4 * SOON)?;
        row(&mut section, "  last condition true", start, seen.values().max())?;
        stage.quiet()?;
        written(&mut section, writes.count());
        let cpu = table::time(usage::cpu(controller)?);
        section.row("  processor time of the controller", [cpu, String::new()]);

        stop_and_start(stage, &writes, &mut section)?;
        section.note("writes until none follows, by field manager and kind, from watches on all kinds");
        Ok(section)
    })
}

/// Stops a speaker, so that its L2 addresses move, and starts it again.
fn stop_and_start(stage: &Stage, writes: &Writes, section: &mut Section) -> Result<()> {
    let node = stage.lab.nodes().last().context("a lab without nodes")?;
    let start = Instant::now();
    node.speaker()?.terminate(SOON)?;
    stage.quiet()?;
    section.row("a speaker stops (SIGTERM): until writes end", [table::time(start.elapsed()), String::new()]);
    written(section, writes.count());
    let start = Instant::now();
    node.speaker()?.spawn_again()?;
    stage.wait_for_sessions()?;
    stage.quiet()?;
    section.row("the speaker starts again: until writes end", [table::time(start.elapsed()), String::new()]);
    written(section, writes.count());
    Ok(())
}

fn row(section: &mut Section, what: &str, start: Instant, last: Option<&Instant>) -> Result<()> {
    let last = last.context("no Service")?;
    section.row(what, [table::time(last.saturating_duration_since(start)), String::new()]);
    Ok(())
}

fn written(section: &mut Section, written: Counts) {
    for ((who, what), count) in written {
        section.row(format!("  {what}, by {who}"), [String::new(), count.to_string()]);
    }
}
