//! Processor time for pools that are created one after another. It must not grow with their number.

use anyhow::Result;

use crate::Options;
use crate::stage::{DataPlane, NODES, on_stage};
use crate::table::{self, Section};

/// Numbers of pools; each stage adds the difference.
const POOLS: [usize; 3] = [1_000, 2_000, 4_000];

/// Runs the measure.
///
/// # Errors
/// If a pool is refused, or the processor time cannot be read.
pub(crate) fn measure(_: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let columns = POOLS.map(|count| format!("{count} pools"));
        let columns = columns.each_ref().map(String::as_str);
        let mut section = Section::new("Processor time of pools, created one after another", columns);
        stage.quiet()?;
        let (before, mut created, mut costs) = (stage.spent()?, 0, Vec::new());
        for count in POOLS {
            stage.control.create_pools(created..count)?;
            created = count;
            stage.quiet()?;
            costs.push(stage.spent()?.since(before).0);
        }
        let nodes = u32::try_from(NODES)?;
        let row = |part: &dyn Fn(usize) -> std::time::Duration| [0, 1, 2].map(|i| table::time(part(i)));
        section.row("controller", row(&|i| costs[i].controller));
        section.row("a speaker", row(&|i| costs[i].speakers / nodes));
        section.row("(the API server)", row(&|i| costs[i].api_server));
        section.note("from the first pool until all statuses are written; includes the use at rest");
        Ok(section)
    })
}
