//! Time from the creation of a Service to its route in the router, and to the first ARP reply.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Options;
use crate::arp::{self, Asker};
use crate::objects::{self, Plan, Pool};
use crate::routes::Routes;
use crate::stage::{DataPlane, NODES, SOON, Stage, on_stage};
use crate::statistics::Samples;
use crate::table::{self, Section};
use fairlead_lab::Capture;
use fairlead_lab::frame::Message;

/// Addresses of the LAN pool, used in turn.
const LAN_ADDRESSES: usize = 32;
/// Pause between two samples, in which the effects of the last one end.
const PAUSE: Duration = Duration::from_millis(23);

/// Times of one Service on its way into the router, counted from the request to create it.
struct Routed {
    created: Duration,
    addressed: Duration,
    update: Option<Duration>,
    route: Duration,
    complete: Duration,
}

/// Times of one Service on its way to the LAN, counted from the request to create it.
struct Answered {
    addressed: Duration,
    announced: Option<Duration>,
    answered: Duration,
}

/// Measures with few other Services and with many.
///
/// # Errors
/// If an expected effect does not occur.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let samples = options.samples();
        let mut section = Section::new(
            format!("One more Service: its creation to the network ({samples} times each)"),
            ["p50", "p99", "max"],
        );
        floor(stage, samples, &mut section)?;
        for others in [10, options.many()] {
            stage.populate(others)?;
            routed(stage, samples, others, &mut section)?;
            answered(stage, samples, others, &mut section)?;
        }
        section
            .note("time starts before the request to create the Service; its EndpointSlice exists already");
        section.note("routes: reported by the router's kernel (netlink), not polled");
        section
            .note(format!("ARP: one request every {}, which is the resolution", table::time(arp::INTERVAL)));
        Ok(section)
    })
}

fn row(section: &mut Section, what: impl Into<String>, samples: &Samples<Duration>) {
    let cell = |share| table::some_time(samples.percentile(share));
    section.row(what, [cell(0.5), cell(0.99), table::some_time(samples.max())]);
}

/// Measures the API server alone.
fn floor(stage: &Stage, samples: usize, section: &mut Section) -> Result<()> {
    let mut plans = Plan::many("plain", 0, samples, &[Pool::Bgp]);
    plans.iter_mut().for_each(|plan| plan.nobodys = true);
    stage.control.create_services(&plans)?;
    stage.quiet()?;
    let names: Vec<String> = plans.iter().map(|plan| plan.name.clone()).collect();
    let (_, each) =
        stage.control.patch_statuses(&names, 1, |i, version| objects::status_patch(version, i, 0))?;
    row(section, "floor: one status patch, answered", &each.into_iter().collect());
    for plan in plans {
        stage.control.delete_service(&plan.name)?;
    }
    stage.quiet()
}

fn routed(stage: &Stage, samples: usize, others: usize, section: &mut Section) -> Result<()> {
    let plan = Plan::new(format!("routed-{others}"), Pool::Bgp);
    stage.control.create_slice(&plan)?;
    let capture = stage.lab.capture_router()?;
    let mut routes = Routes::follow(&stage.lab)?;
    let mut watch = stage.control.watch()?;
    let mut found = Vec::new();
    for _ in 0..samples {
        let (sent, created) = stage.control.create_service(&plan)?;
        let (address, addressed) = watch.address(&plan.name, SOON)?;
        let route = routes.appears(address, SOON)?;
        let complete = routes.complete(address, NODES, SOON)?;
        found.push(Routed {
            created,
            addressed: addressed.saturating_duration_since(sent),
            update: first_update(&capture, sent).map(|at| at - sent),
            route: route.saturating_duration_since(sent),
            complete: complete.saturating_duration_since(sent),
        });
        stage.control.delete_service(&plan.name)?;
        watch.gone(&plan.name, SOON)?;
        routes.vanishes(address, SOON)?;
        std::thread::sleep(PAUSE);
    }
    let all = |part: fn(&Routed) -> Option<Duration>| found.iter().filter_map(part).collect();
    row(section, format!("route in the router, {others} others"), &all(|r| Some(r.route)));
    row(section, "  until the creation is answered", &all(|r| Some(r.created)));
    row(section, "  until a watch shows the address", &all(|r| Some(r.addressed)));
    row(section, "  until the first UPDATE is at the router", &all(|r| r.update));
    row(section, "  FRR, from there to its kernel", &all(|r| Some(r.route.saturating_sub(r.update?))));
    row(section, format!("  until the route has {NODES} next hops"), &all(|r| Some(r.complete)));
    Ok(())
}

fn answered(stage: &Stage, samples: usize, others: usize, section: &mut Section) -> Result<()> {
    let mut plan = Plan::new(format!("answered-{others}"), Pool::Lan);
    stage.control.create_slice(&plan)?;
    let mut watch = stage.control.watch()?;
    let mut found = Vec::new();
    for i in 0..samples {
        let last = u8::try_from(200 + i % LAN_ADDRESSES)?;
        let wanted = Ipv4Addr::new(192, 0, 2, last);
        plan.address = Some(wanted);
        let asker = Asker::open(&stage.lab)?;
        let (sent, _) = stage.control.create_service(&plan)?;
        let heard = asker.ask(wanted, SOON)?;
        let (_, addressed) = watch.address(&plan.name, SOON)?;
        found.push(Answered {
            addressed: addressed.saturating_duration_since(sent),
            announced: heard.announced.map(|at| at - sent),
            answered: heard.answered - sent,
        });
        stage.control.delete_service(&plan.name)?;
        watch.gone(&plan.name, SOON)?;
        std::thread::sleep(PAUSE);
    }
    let all = |part: fn(&Answered) -> Option<Duration>| found.iter().filter_map(part).collect();
    row(section, format!("first ARP answer, {others} others"), &all(|a| Some(a.answered)));
    row(section, "  until a watch shows the address", &all(|a| Some(a.addressed)));
    row(section, "  until a gratuitous ARP, where it came first", &all(|a| a.announced));
    Ok(())
}

/// Returns when the first BGP UPDATE after `sent` was captured.
fn first_update(capture: &Capture, sent: Instant) -> Option<Instant> {
    let frames = capture.frames();
    let mut later = frames.iter().filter(|captured| captured.at >= sent);
    let is_update = |message: &Message| match message {
        Message::Bgp { messages, .. } => messages.iter().any(|message| message.kind == 2),
        _ => false,
    };
    later.find(|captured| is_update(&captured.frame.message)).map(|captured| captured.at)
}
