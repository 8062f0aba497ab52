//! A backlog of Services: addresses after the controller starts, routes after the speakers start.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::Options;
use crate::control::Watch;
use crate::objects::{self, Plan, Pool};
use crate::routes::Routes;
use crate::stage::{DataPlane, NODES, SOON, Stage, on_stage};
use crate::statistics::{Samples, rate};
use crate::table::{self, Section};
use crate::usage;
use fairlead_lab::Family;
use fairlead_lab::{ensure, wait_for};

/// Default number of Services.
pub(crate) const SERVICES: usize = 5000;
/// Numbers of concurrent requests of the plain writer. The best one counts.
const PLAIN_IN_FLIGHT: [usize; 4] = [8, 16, 32, 64];

/// Runs the measure.
///
/// # Errors
/// If a Service gets no address, or an address gets no route.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let count = options.services.unwrap_or(SERVICES);
        let mut section = Section::new(format!("A backlog of {count} Services"), ["time", "per second"]);
        let mut watch = stage.control.watch()?;
        let assigned = assign(stage, count, &mut watch, &mut section)?;
        let (again, written) = in_turn(stage, count, &mut watch, &mut section)?;
        let assigned = assigned.max(again);
        section.row(
            "  the controller's share, best of each",
            [String::new(), table::percent(assigned / written)],
        );
        drop(watch);
        let raw = raw(stage, count, &mut section)?;
        section
            .row("  the controller's share, best of each", [String::new(), table::percent(assigned / raw)]);
        restart_speakers(stage, count, &mut section)?;
        section.note(
            "a plain writer sends the same merge patches, built in advance, without watches, decisions and Events; \
             one run per number of concurrent requests, without other writes",
        );
        section.note(
            "in its place: to the same Services, with the controller stopped; speakers and router react as they \
             do to the controller",
        );
        section.note(
            "raw: to as many other Services of an unserved class; controller and speakers receive every change and \
             do not react",
        );
        section.note(
            "rates of the controller and of the writer in its place: from the first address to the last that a \
             watch reports",
        );
        Ok(section)
    })
}

/// Starts the controller while all Services are pending. Returns addresses per second.
fn assign(stage: &Stage, count: usize, watch: &mut Watch, section: &mut Section) -> Result<f64> {
    let controller = stage.lab.controller()?;
    controller.terminate(SOON)?;
    let plans = Plan::many("bench", 0, count, &[Pool::Bgp]);
    let created = stage.control.create(&plans)?;
    section.row("Services created (the API server's own speed)", cells(created, count));
    stage.quiet()?;

    let mut routes = Routes::follow(&stage.lab)?;
    let revision = stage.control.revision()?;
    let before = stage_cpu(stage)?;
    let start = Instant::now();
    controller.spawn_again()?;
    let seen = watch.addresses("bench-", count, 4 * SOON)?;
    let (first, last) = first_and_last(&seen)?;
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
        "{writes} objects were written for {count} Services before writes ended: statuses, Events, counts"
    ));
    Ok(per_second)
}

/// Runs the controller and a plain writer alternately, so that drift of the machine affects both. Returns the
/// best rate of each, in addresses per second.
fn in_turn(stage: &Stage, count: usize, watch: &mut Watch, section: &mut Section) -> Result<(f64, f64)> {
    let controller = stage.lab.controller()?;
    controller.terminate(SOON)?;
    let names = names("bench", count);
    let (mut assigned, mut written) = (0.0_f64, 0.0_f64);
    for (round, in_flight) in PLAIN_IN_FLIGHT.into_iter().enumerate() {
        clear(stage, &names, watch)?;
        controller.spawn_again()?;
        let (time, per_second) = seen(watch, count)?;
        section.row("controller, repeated", [table::time(time), format!("{per_second:.0}")]);
        assigned = assigned.max(per_second);
        stage.quiet()?;
        controller.terminate(SOON)?;

        clear(stage, &names, watch)?;
        let patch = |i: usize, version: &str| objects::status_patch(version, i, round);
        let (_, each) = stage.control.patch_statuses(&names, in_flight, patch)?;
        let (time, per_second) = seen(watch, count)?;
        section.row(
            format!("plain writer in its place, {in_flight} at a time ({})", percentiles(each)),
            [table::time(time), format!("{per_second:.0}")],
        );
        written = written.max(per_second);
    }
    controller.spawn_again()?;
    stage.quiet()?;
    Ok((assigned, written))
}

/// Removes all addresses while the controller is stopped.
fn clear(stage: &Stage, names: &[String], watch: &mut Watch) -> Result<()> {
    stage.control.patch_statuses(names, 32, |_, version| objects::no_status_patch(version))?;
    stage.quiet()?;
    watch.addresses("bench-", 0, SOON).map(drop)
}

/// Returns the time from the first address to the last, and the rate per second.
fn seen(watch: &mut Watch, count: usize) -> Result<(Duration, f64)> {
    let (first, last) = first_and_last(&watch.addresses("bench-", count, 4 * SOON)?)?;
    Ok((last - first, rate(count.saturating_sub(1), last - first)))
}

/// Measures a writer whose patches no daemon acts on. Returns patches per second.
fn raw(stage: &Stage, count: usize, section: &mut Section) -> Result<f64> {
    let mut plans = Plan::many("plain", 0, count, &[Pool::Bgp]);
    plans.iter_mut().for_each(|plan| plan.nobodys = true);
    stage.control.create_services(&plans)?;
    let names = names("plain", count);
    let mut best = Duration::MAX;
    for (round, in_flight) in PLAIN_IN_FLIGHT.into_iter().enumerate() {
        stage.quiet()?;
        let patch = |i: usize, version: &str| objects::status_patch(version, i, round);
        let (all, each) = stage.control.patch_statuses(&names, in_flight, patch)?;
        best = best.min(all);
        section.row(
            format!("raw status patches, {in_flight} at a time ({})", percentiles(each)),
            cells(all, count),
        );
    }
    Ok(rate(count, best))
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    Plan::many(prefix, 0, count, &[]).into_iter().map(|plan| plan.name).collect()
}

fn percentiles(each: Vec<Duration>) -> String {
    let each: Samples<Duration> = each.into_iter().collect();
    format!("p50 {}, p99 {}", table::some_time(each.median()), table::some_time(each.percentile(0.99)))
}

fn first_and_last(seen: &BTreeMap<Ipv4Addr, Instant>) -> Result<(Instant, Instant)> {
    seen.values().min().zip(seen.values().max()).map(|(first, last)| (*first, *last)).context("no addresses")
}

/// Stops all speakers and starts them again when every Service has its address.
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

/// Returns the processor time of all speakers, and that of the router.
fn stage_cpu(stage: &Stage) -> Result<(Duration, Duration)> {
    let speakers = stage.speakers()?.into_iter().map(usage::cpu).sum::<Result<_>>()?;
    let daemons = ["zebra", "bgpd"].into_iter().filter_map(|name| stage.lab.router().daemon(name));
    Ok((speakers, daemons.map(usage::cpu).sum::<Result<_>>()?))
}
