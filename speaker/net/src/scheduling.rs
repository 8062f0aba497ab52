//! [`Scheduling`]: priority of a thread that must be on time.

use std::fmt;
use std::io;

use crate::sys::scheduling;

/// Priority of SCHED_FIFO: below that of interrupt threads (50), above all threads of normal scheduling.
const FIFO_PRIORITY: i32 = 20;
/// Nice value where SCHED_FIFO is not permitted.
const NICE: i32 = -15;
/// Slice under normal scheduling: the shortest that the kernel accepts.
const SLICE_NANOSECONDS: u64 = 100_000;

/// How the kernel schedules a thread. [`fmt::Display`] writes the text for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduling {
    /// SCHED_FIFO: the thread runs as soon as it is ready.
    Fifo,
    /// Normal scheduling with a larger share of the processor.
    Nice,
    /// Normal scheduling: the process has no permission (CAP_SYS_NICE) to change it.
    Normal,
}

impl Scheduling {
    /// Raises the priority of the calling thread as far as the process may: SCHED_FIFO, else a nice value.
    /// A control group with CONFIG_RT_GROUP_SCHED refuses SCHED_FIFO even with CAP_SYS_NICE.
    pub fn raise() -> Self {
        if scheduling::set_fifo(FIFO_PRIORITY).is_ok() {
            Self::Fifo
        } else if scheduling::set_nice(NICE).is_ok() {
            Self::Nice
        } else {
            Self::Normal
        }
    }
}

/// Gives the calling thread, and the threads that it starts later, the shortest slice of the processor that
/// the kernel accepts: they start earlier on a busy node, at the same share of the processor. It needs no
/// permission.
///
/// # Errors
/// If the kernel refuses. Kernels before Linux 6.12 accept and ignore it.
pub fn shorten_slice() -> io::Result<()> {
    scheduling::set_slice(SLICE_NANOSECONDS)
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fifo => write!(f, "SCHED_FIFO {FIFO_PRIORITY}"),
            Self::Nice => write!(f, "nice {NICE}"),
            Self::Normal => f.write_str("normal"),
        }
    }
}
