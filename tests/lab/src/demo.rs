//! The demo.
use crate::Lab;
use anyhow::Result;
/// Shows the main job.
pub fn demo(nodes: usize, keep: bool) -> Result<()> {
    let lab = Lab::builder().nodes(nodes).start()?;
    if keep {
        lab.keep()?;
    }
    Ok(())
}
/// Brings a lab up.
pub fn up(nodes: usize) -> Result<()> {
    demo(nodes, true)
}
