//! False alarms: sessions at 3 × 50 ms while all processors are busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use fairlead_lab::wait_for;
use serde_json::Value;

use super::cpu_group::CpuGroup;
use super::{MULTIPLIER, VERSION, builder, prioritize, router_downs, router_sessions, set_interval};
use crate::Options;
use crate::stage::{DataPlane, NODES, SOON, Stage, on_stage_of};
use crate::table::Section;

/// Interval of both ends in milliseconds.
const INTERVAL: u64 = 50;
/// Starts the speakers without the capability that SCHED_FIFO needs.
const WITHOUT_CAPABILITY: [&str; 2] = ["setpriv", "--bounding-set=-sys_nice"];

/// Counters of both ends, summed over all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    router_downs: u64,
    speaker_downs: u64,
    late_detections: u64,
    late_packets: u64,
    packets: u64,
}

/// Threads that use all processors until they are dropped.
struct Load {
    stop: Arc<AtomicBool>,
}

/// How the speakers of one lab run.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// The command that starts a speaker, without the speaker.
    launcher: &'static [&'static str],
    /// Whether each speaker has the share of the processors that its manifest requests.
    grouped: bool,
}

const CASES: [Case; 4] = [
    Case { name: "SYS_NICE", launcher: &[], grouped: false },
    Case { name: "no SYS_NICE", launcher: &WITHOUT_CAPABILITY, grouped: false },
    Case { name: "SYS_NICE", launcher: &[], grouped: true },
    Case { name: "no SYS_NICE", launcher: &WITHOUT_CAPABILITY, grouped: true },
];

/// A lab whose sessions are counted.
struct Run<'a> {
    name: String,
    stage: &'a Stage,
    before: Counts,
}

/// Measures with and without SCHED_FIFO, each with and without the share of the manifest. Each case has a lab
/// of its own; all run at the same time.
///
/// # Errors
/// If a session does not come up before the processors are busy.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    let mut section = Section::new(
        format!(
            "BFD: false alarms at {MULTIPLIER} × {INTERVAL} ms, all processors busy ({NODES} nodes, {} min)",
            options.minutes
        ),
        [
            "scheduling",
            "downs at FRR",
            "downs at speakers",
            "late detections",
            "late packets",
            "sent",
            "Up at the end",
            "interval at the end",
        ],
    );
    measure_cases(&CASES, Vec::new(), options, &mut section)?;
    section.note("target: no downs; both columns count transitions from Up, summed over all nodes");
    section.note(
        "late: as the speakers count it: detections that waited for one more interval, packets sent late",
    );
    section
        .note("interval: the longest of the nodes; a speaker that sends late raises its own (docs/bfd.md)");
    section.note("one thread for each processor spins; FRR's bfdd has priority, as on a machine of its own");
    section.note("the control group of a speaker has the share that its manifest requests");
    section.note("all rows are measured at the same time, each with a lab of its own");
    Ok(section)
}

/// Starts the lab of each case, beside those that run, then makes the processors busy and counts.
fn measure_cases(
    cases: &[Case],
    mut running: Vec<Run<'_>>,
    options: &Options,
    section: &mut Section,
) -> Result<()> {
    let Some((case, rest)) = cases.split_first() else { return count(&mut running, options, section) };
    on_stage_of(builder().speaker_launcher(case.launcher), DataPlane::Stopped, |stage| {
        prioritize_router(stage, section)?;
        let mut name = case.name.to_owned();
        let groups = if case.grouped {
            stage.speakers()?.into_iter().map(CpuGroup::create).collect::<Result<Vec<_>>>()
        } else {
            Ok(Vec::new())
        };
        match &groups {
            Ok(groups) => {
                name += &groups.first().map_or_else(String::new, |group| format!(", {}", group.share()))
            }
            Err(error) => {
                section.note(format!("{name}: no control groups: {error:#}"));
                return measure_cases(rest, running, options, section);
            }
        }
        set_interval(stage, INTERVAL)?;
        let mut running: Vec<Run<'_>> = running;
        running.push(Run { name, stage, before: counts(stage)? });
        measure_cases(rest, running, options, section)
    })
}

/// Counts while all processors are busy.
fn count(runs: &mut [Run<'_>], options: &Options, section: &mut Section) -> Result<()> {
    for run in &mut *runs {
        run.before = counts(run.stage)?;
    }
    let load = Load::start();
    std::thread::sleep(Duration::from_secs(60) * options.minutes);
    drop(load);
    for run in runs {
        let Run { name, stage, before } = run;
        // Their tasks may have waited for a processor for long.
        let after = wait_for("the counters of the speakers", SOON, || counts(stage))?;
        let of = |count: fn(&Counts) -> u64| (count(&after) - count(before)).to_string();
        let up: u64 = sum(stage, "fairlead_speaker_bfd_session_up")?;
        section.row(
            name.clone(),
            [
                scheduling(stage)?,
                of(|counts| counts.router_downs),
                of(|counts| counts.speaker_downs),
                of(|counts| counts.late_detections),
                of(|counts| counts.late_packets),
                of(|counts| counts.packets),
                format!("{up}/{NODES}"),
                longest_interval(stage)?,
            ],
        );
    }
    Ok(())
}

fn counts(stage: &Stage) -> Result<Counts> {
    Ok(Counts {
        router_downs: router_downs(stage)?,
        speaker_downs: sum(stage, "fairlead_speaker_bfd_session_down_events_total")?,
        late_detections: sum(stage, "fairlead_speaker_bfd_late_detections_total")?,
        late_packets: sum(stage, "fairlead_speaker_bfd_late_packets_total")?,
        packets: sum(stage, "fairlead_speaker_bfd_control_packet_output_total")?,
    })
}

fn sum(stage: &Stage, name: &str) -> Result<u64> {
    stage.speakers()?.into_iter().map(|speaker| speaker.metric_sum(name)).sum()
}

/// Returns the longest transmit interval that a speaker announces to the router.
fn longest_interval(stage: &Stage) -> Result<String> {
    let sessions = router_sessions(stage, "show bfd peers json")?;
    let longest = sessions.values().filter_map(|session| session["remote-transmit-interval"].as_u64()).max();
    Ok(longest.map_or_else(|| "-".to_owned(), |interval| format!("{interval} ms")))
}

/// Returns how the BFD thread of the first speaker is scheduled.
fn scheduling(stage: &Stage) -> Result<String> {
    let speaker = stage.lab.api()?.get(VERSION, "Speaker", None, "n1")?;
    let sessions = speaker.pointer("/status/sessions").and_then(Value::as_array).into_iter().flatten();
    let mut found = sessions.filter_map(|session| session.pointer("/bfd/scheduling")?.as_str());
    found.next().map(str::to_owned).context("the Speaker object of n1 shows no scheduling")
}

fn prioritize_router(stage: &Stage, section: &mut Section) -> Result<()> {
    let bfdd = stage.lab.router().daemon("bfdd").and_then(|bfdd| bfdd.pid()).context("bfdd does not run")?;
    if let Err(error) = prioritize(bfdd) {
        section.note(format!("FRR's bfdd has no priority: {error:#}"));
    }
    Ok(())
}

impl Load {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self { stop }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
