//! Many Services at once: addresses after the controller's start, routes after the speakers' start.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::Options;
use super::control::IN_FLIGHT;
use super::objects::{Plan, Pool};
use super::routes::Routes;
use super::stage::{DataPlane, NODES, SOON, Stage, on_stage};
use super::statistics::{Samples, rate};
use super::table::{self, Section};
use super::usage;
use crate::router::Family;
use crate::wait::{ensure, wait_for};

/// How often the plain writer runs; the best counts.
const PLAIN_RUNS: usize = 2;

/// Measures.
///
/// # Errors
/// When a Service gets no address, or an address no route.
pub fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let count = options.services;
        let mut section = Section::new(format!("A backlog of {count} Services"), ["time", "per second"]);
        let assigned = assign(stage, count, &mut section)?;
        let plain = plain(stage, count, &mut section)?;
        section.row("  the controller's share of that", [String::new(), table::percent(assigned / plain)]);
        restart_speakers(stage, count, &mut section)?;
        section.note(format!(
            "the plain writer: the same merge patches on as many other Services, {IN_FLIGHT} at a time like the \
             controller, no reading, no deciding; the best of {PLAIN_RUNS} runs; controller and speakers still \
             receive every change"
        ));
        section
            .note("per second of the controller: from the first address to the last, as a watch shows them");
        Ok(section)
    })
}

/// Starts the controller with all Services waiting. Addresses per second.
fn assign(stage: &Stage, count: usize, section: &mut Section) -> Result<f64> {
    let controller = stage.lab.controller()?;
    controller.terminate(SOON)?;
    let plans = Plan::many("bench", 0, count, &[Pool::Bgp]);
    let created = stage.control.create(&plans)?;
    section.row("Services created (the API server's own speed)", cells(created, count));
    stage.quiet()?;

    let mut watch = stage.control.watch()?;
    let mut routes = Routes::follow(&stage.lab)?;
    let revision = stage.control.revision()?;
    let before = stage_cpu(stage)?;
    let start = Instant::now();
    controller.spawn_again()?;
    let seen = watch.addresses("bench-", count, 4 * SOON)?;
    let (first, last) = seen.values().fold((None, None), |(first, last), at| {
        (Some(first.map_or(*at, |f: Instant| f.min(*at))), Some(last.map_or(*at, |l: Instant| l.max(*at))))
    });
    let (first, last) = first.zip(last).context("no addresses")?;
    let routed = routes.count(count, SOON)?;
    let complete = routes.complete_count(count, NODES, SOON)?;
    stage.quiet()?;
    let writes = stage.control.revision()? - revision;
    let (speakers, router) = stage_cpu(stage)?;
    let per_second = rate(count.saturating_sub(1), last - first);
    section.row("controller started: first address", [table::time(first - start), String::new()]);
    section.row("  last address", [table::time(last - start), format!("{per_second:.0}")]);
    section.row("  last route in the router", [table::time(routed - start), String::new()]);
    section.row(
        format!("  last route with all {NODES} next hops"),
        [table::time(complete - start), String::new()],
    );
    let cpu = |process: Duration| table::time(process);
    section.row("  processor time of the controller", [cpu(usage::cpu(controller)?), String::new()]);
    section.row(
        "  processor time of a speaker",
        [cpu(speakers.saturating_sub(before.0) / u32::try_from(NODES)?), String::new()],
    );
    section
        .row("  processor time of the router (FRR)", [cpu(router.saturating_sub(before.1)), String::new()]);
    section.note(format!(
        "until all was quiet, {writes} objects were written for {count} Services: statuses, Events, counts"
    ));
    Ok(per_second)
}

/// What a writer that decides nothing reaches. Patches per second.
fn plain(stage: &Stage, count: usize, section: &mut Section) -> Result<f64> {
    let mut plans = Plan::many("plain", 0, count, &[Pool::Bgp]);
    plans.iter_mut().for_each(|plan| plan.nobodys = true);
    stage.control.create_services(&plans)?;
    let names: Vec<String> = plans.into_iter().map(|plan| plan.name).collect();
    let mut best = Duration::MAX;
    for run in 0..PLAIN_RUNS {
        stage.quiet()?;
        let (all, each) = stage.control.patch_statuses(names.clone(), run, IN_FLIGHT)?;
        let each: Samples<Duration> = each.into_iter().collect();
        best = best.min(all);
        section.row(
            format!(
                "plain writer, run {} (one patch: p50 {}, p99 {})",
                run + 1,
                table::some_time(each.median()),
                table::some_time(each.percentile(0.99))
            ),
            cells(all, count),
        );
    }
    Ok(rate(count, best))
}

/// Ends all speakers, and starts them with everything assigned.
fn restart_speakers(stage: &Stage, count: usize, section: &mut Section) -> Result<()> {
    let mut routes = Routes::follow(&stage.lab)?;
    for speaker in stage.speakers()? {
        speaker.terminate(SOON)?;
    }
    wait_for("the router to have no routes", SOON, || {
        let left = stage.lab.router().kernel_routes(Family::V4)?.len();
        ensure(left == 0, left).map_err(|left| anyhow!("{left} routes"))
    })?;
    routes.forget();
    let start = Instant::now();
    for speaker in stage.speakers()? {
        speaker.spawn_again()?;
    }
    let routed = routes.count(count, 4 * SOON)?;
    section.row(
        format!("{NODES} speakers started: last route in the router"),
        [table::time(routed - start), String::new()],
    );
    let complete = routes.complete_count(count, NODES, SOON)?;
    section.row(
        format!("  last route with all {NODES} next hops"),
        [table::time(complete - start), String::new()],
    );
    let most = stage.speakers()?.into_iter().map(usage::cpu).collect::<Result<Samples<_>>>()?;
    section.row("  processor time of a speaker, the busiest", [table::some_time(most.max()), String::new()]);
    Ok(())
}

fn cells(time: Duration, count: usize) -> [String; 2] {
    [table::time(time), format!("{:.0}", rate(count, time))]
}

/// Processor time of all speakers, and of the router.
fn stage_cpu(stage: &Stage) -> Result<(Duration, Duration)> {
    let speakers = stage.speakers()?.into_iter().map(usage::cpu).sum::<Result<_>>()?;
    let daemons = ["zebra", "bgpd"].into_iter().filter_map(|name| stage.lab.router().daemon(name));
    Ok((speakers, daemons.map(usage::cpu).sum::<Result<_>>()?))
}
