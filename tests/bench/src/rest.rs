//! Activity at rest: writes to the API, packets, processor time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::Options;
use crate::stage::{DataPlane, NODES, on_stage};
use crate::table::{self, Section};
use crate::wire::{Counter, Counts};
use crate::writes::Writes;

/// Duration of the measurement.
const REST: Duration = Duration::from_secs(60);
/// Default number of Services.
const SERVICES: usize = 10_000;
/// The kernel may acknowledge the response to the last request of the benchmark late.
const ACKNOWLEDGED: Duration = Duration::from_millis(500);

/// Runs the measure.
///
/// # Errors
/// If the lab does not reach rest.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let services = options.services.unwrap_or(SERVICES);
        let mut section = Section::new(
            format!("At rest with {services} Services, for {}", table::time(REST)),
            ["in all", "per node and second"],
        );
        stage.populate(services)?;

        let lab = &stage.lab;
        // At the switch: everything that nodes send and receive. The controller and the API server share a
        // host and communicate over its loopback, where a packet is captured when it leaves and when it
        // arrives.
        let nodes = lab.nodes().iter().map(|node| Counter::start(&lab.network().lan, node.name()));
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        let writes = Writes::watch(lab)?;
        let revision = stage.control.revision()?;
        std::thread::sleep(ACKNOWLEDGED);
        let before = stage.spent()?;
        let controller = Counter::start(&lab.network().control_plane, "lo")?;
        std::thread::sleep(REST);
        let controller: u64 = controller.stop()?.values().sum();
        let (used, elapsed) = stage.spent()?.since(before);
        let (written, all) = (writes.count(), stage.control.revision()? - revision);
        let mut packets = Counts::new();
        for counter in nodes {
            for (purpose, count) in counter.stop()? {
                *packets.entry(purpose).or_default() += count;
            }
        }

        section.row("writes to the API", [all.to_string(), String::new()]);
        for ((who, what), count) in written {
            section.row(format!("  {what}, by {who}"), [count.to_string(), String::new()]);
        }
        section
            .row("packets between controller and API server", [(controller / 2).to_string(), String::new()]);
        let per_node = |count: u64| format!("{:.2}", count as f64 / NODES as f64 / elapsed.as_secs_f64());
        let packets: BTreeMap<_, _> = packets.into_iter().collect();
        for (purpose, count) in packets {
            section.row(format!("packets of nodes: {purpose}"), [count.to_string(), per_node(count)]);
        }
        let share = |time: Duration| table::percent(time.as_secs_f64() / elapsed.as_secs_f64());
        section
            .row("processor time of the controller", [table::time(used.controller), share(used.controller)]);
        let speaker = used.speakers / u32::try_from(NODES)?;
        section.row("processor time of a speaker", [table::time(speaker), share(speaker)]);
        section
            .note("writes: the difference of the API server's revision, which every write raises; author and object: \
             from watches on all kinds, by field manager");
        section
            .note("packets are counted at the switch, both directions; hold time 9 s, keepalives every 3 s");
        Ok(section)
    })
}
