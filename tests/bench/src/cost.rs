//! Processor time per event, with few Services and with many. It must not grow.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;

use crate::Options;
use crate::arp::Asker;
use crate::control::Watch;
use crate::objects::{Plan, Pool};
use crate::routes::Routes;
use crate::stage::{DataPlane, NODES, SOON, Stage, on_stage};
use crate::statistics::{Samples, per_event};
use crate::table::{self, Section};

/// Number of Services of the first measurement.
const FEW: usize = 100;
/// Duration of the measurement at rest.
const REST: Duration = Duration::from_secs(5);
/// Number of blocks into which the events are divided.
const BLOCKS: usize = 5;
/// The controller's counter of decisions.
const DECISIONS: &str = "fairlead_controller_evaluations_total";

/// Processor time per event.
#[derive(Clone, Copy, Debug)]
struct Cost {
    controller: Duration,
    speaker: Duration,
    api_server: Duration,
    /// Decisions of the controller per event.
    decisions: f64,
}

/// Share of one processor that each process uses at rest.
#[derive(Clone, Copy, Debug)]
struct AtRest {
    controller: f64,
    speakers: f64,
    api_server: f64,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bgp,
    L2,
    Endpoint,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Bgp, Self::L2, Self::Endpoint];

    fn name(self) -> &'static str {
        match self {
            Self::Bgp => "a BGP Service is created and deleted",
            Self::L2 => "an L2 Service is created and deleted",
            Self::Endpoint => "an endpoint becomes unready and ready",
        }
    }
}

/// Runs the measure.
///
/// # Errors
/// If an event has no effect.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let (many, samples) = (options.many(), options.samples());
        let mut section = Section::new(
            format!(
                "Processor time per event ({samples} events: the median of {BLOCKS} means of {})",
                samples / BLOCKS
            ),
            [&*format!("{FEW} Services"), &*format!("{many} Services"), "ratio"],
        );
        stage.populate(FEW)?;
        let few = costs(stage, samples)?;
        stage.populate(many)?;
        let more = costs(stage, samples)?;
        for ((kind, few), (_, more)) in few.into_iter().zip(more) {
            section.row(kind.name(), [String::new(), String::new(), String::new()]);
            // The controller does not watch endpoints.
            if kind != Kind::Endpoint {
                row(&mut section, "  controller", few.controller, more.controller);
                section.row(
                    "  controller, decisions",
                    [
                        format!("{:.2}", few.decisions),
                        format!("{:.2}", more.decisions),
                        format!("{:.2}", more.decisions / few.decisions),
                    ],
                );
            }
            row(&mut section, "  a speaker", few.speaker, more.speaker);
            row(&mut section, "  (the API server)", few.api_server, more.api_server);
        }
        section.note(format!(
            "an event comprises both changes of its line; events run one after the other; the mean of the {NODES} \
             speakers; the use at rest is subtracted"
        ));
        section.note("from the scheduler's count of nanoseconds per thread; includes the daemons' statuses, once a second");
        Ok(section)
    })
}

fn row(section: &mut Section, what: &str, few: Duration, many: Duration) {
    let ratio = many.as_secs_f64() / few.as_secs_f64().max(1e-9);
    section.row(what, [table::time(few), table::time(many), format!("{ratio:.2}")]);
}

fn costs(stage: &Stage, samples: usize) -> Result<Vec<(Kind, Cost)>> {
    let before = stage.spent()?;
    std::thread::sleep(REST);
    let (used, elapsed) = stage.spent()?.since(before);
    let share = |time: Duration| time.as_secs_f64() / elapsed.as_secs_f64();
    let at_rest = AtRest {
        controller: share(used.controller),
        speakers: share(used.speakers),
        api_server: share(used.api_server),
    };
    Kind::ALL.into_iter().map(|kind| Ok((kind, cost(stage, kind, samples, at_rest)?))).collect()
}

fn cost(stage: &Stage, kind: Kind, samples: usize, at_rest: AtRest) -> Result<Cost> {
    let mut events = Events::prepare(stage, kind)?;
    // The first event meets cold caches and new connections.
    events.once(0)?;
    stage.quiet()?;
    tracing::info!("{}, {samples} times", kind.name());
    let decisions = stage.controller_counter(DECISIONS)?;
    let block = samples / BLOCKS;
    let mut costs = Vec::new();
    for n in 0..BLOCKS {
        let before = stage.spent()?;
        for i in 0..block {
            events.once(n * block + i)?;
        }
        let (used, elapsed) = stage.spent()?.since(before);
        let cost = |used, at_rest| per_event(used, elapsed, at_rest, block);
        costs.push((
            cost(used.controller, at_rest.controller),
            cost(used.speakers, at_rest.speakers) / u32::try_from(NODES)?,
            cost(used.api_server, at_rest.api_server),
        ));
    }
    // Includes work that the last event causes late.
    stage.quiet()?;
    let decisions = stage.controller_counter(DECISIONS)? - decisions;
    events.end()?;
    // The median of the blocks excludes short disturbances of the machine.
    let median = |part: fn(&(Duration, Duration, Duration)) -> Duration| {
        costs.iter().map(part).collect::<Samples<Duration>>().median().unwrap_or_default()
    };
    Ok(Cost {
        controller: median(|block| block.0),
        speaker: median(|block| block.1),
        api_server: median(|block| block.2),
        decisions: decisions as f64 / (block * BLOCKS) as f64,
    })
}

/// Performs events of one kind.
struct Events<'a> {
    stage: &'a Stage,
    kind: Kind,
    plan: Plan,
    routes: Routes,
    watch: Watch,
    /// Address of the `Local` Service.
    address: Option<Ipv4Addr>,
}

impl<'a> Events<'a> {
    fn prepare(stage: &'a Stage, kind: Kind) -> Result<Self> {
        let pool = if kind == Kind::L2 { Pool::Lan } else { Pool::Bgp };
        // Each Service has a name of its own, because slices of earlier ones remain.
        let name = format!("event-{:?}-{}", kind, stage.control.revision()?).to_lowercase();
        let mut plan = Plan::new(name, pool);
        plan.local = kind == Kind::Endpoint;
        let mut routes = Routes::follow(&stage.lab)?;
        let mut watch = stage.control.watch()?;
        stage.control.create_slice(&plan)?;
        let mut address = None;
        if kind == Kind::Endpoint {
            stage.control.create_service(&plan)?;
            let (ip, _) = watch.address(&plan.name, SOON)?;
            routes.appears(ip, SOON)?;
            address = Some(ip);
        }
        Ok(Self { stage, kind, plan, routes, watch, address })
    }

    fn once(&mut self, i: usize) -> Result<()> {
        let control = &self.stage.control;
        match (self.kind, self.address) {
            (Kind::Endpoint, Some(address)) => {
                control.set_ready(&self.plan.name, false)?;
                self.routes.vanishes(address, SOON)?;
                control.set_ready(&self.plan.name, true)?;
                self.routes.appears(address, SOON)?;
            }
            (Kind::L2, _) => {
                let wanted = Ipv4Addr::new(192, 0, 2, u8::try_from(200 + i % 32)?);
                self.plan.address = Some(wanted);
                let asker = Asker::open(&self.stage.lab)?;
                control.create_service(&self.plan)?;
                asker.ask(wanted, SOON)?;
                self.watch.address(&self.plan.name, SOON)?;
                control.delete_service(&self.plan.name)?;
                self.watch.gone(&self.plan.name, SOON)?;
            }
            _ => {
                control.create_service(&self.plan)?;
                let (address, _) = self.watch.address(&self.plan.name, SOON)?;
                self.routes.complete(address, NODES, SOON)?;
                control.delete_service(&self.plan.name)?;
                self.watch.gone(&self.plan.name, SOON)?;
                self.routes.vanishes(address, SOON)?;
            }
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        if self.kind == Kind::Endpoint {
            self.stage.control.delete_service(&self.plan.name)?;
        }
        Ok(())
    }
}
