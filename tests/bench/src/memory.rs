//! Resident memory of controller and speaker.

use anyhow::Result;

use crate::Options;
use crate::stage::{DataPlane, NODES, SOON, Stage, on_stage};
use crate::table::{Section, megabytes};
use crate::usage::{self, Memory};

/// Numbers of Services. The last one is the default of `--services`.
const FEW: usize = 10;
const SOME: usize = 1000;
const MANY: usize = 10_000;

/// Measures with few Services, with some, with many, and after a restart with many.
///
/// # Errors
/// If the lab does not reach one of these states.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let mut section = Section::new("Memory", ["resident", "peak"]);
        let many = options.services.unwrap_or(MANY);
        for count in [FEW, SOME, many] {
            // With fewer Services than usual, the middle step is skipped.
            if count <= many {
                stage.populate(count)?;
                rows(stage, &format!("{count} Services"), &mut section)?;
            }
        }
        stage.lab.controller()?.restart()?;
        for speaker in stage.speakers()? {
            speaker.terminate(SOON)?;
            speaker.spawn_again()?;
        }
        stage.wait_for_sessions()?;
        stage.quiet()?;
        rows(stage, &format!("restarted with {many} Services"), &mut section)?;
        section.note(format!(
            "VmRSS and VmHWM at rest; the largest of the {NODES} speakers; half of the Services are announced by \
             BGP, half by L2, each with one EndpointSlice of two endpoints"
        ));
        Ok(section)
    })
}

fn rows(stage: &Stage, when: &str, section: &mut Section) -> Result<()> {
    let show = |memory: Memory| [megabytes(memory.resident), megabytes(memory.peak)];
    section.row(format!("controller, {when}"), show(usage::memory(stage.lab.controller()?)?));
    let mut largest = Memory::default();
    for speaker in stage.speakers()? {
        let memory = usage::memory(speaker)?;
        largest.resident = largest.resident.max(memory.resident);
        largest.peak = largest.peak.max(memory.peak);
    }
    section.row(format!("speaker, {when}"), show(largest));
    Ok(())
}
