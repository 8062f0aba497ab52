//! Priority of the calling thread.

use std::io;

/// Makes the calling thread run before all threads of normal scheduling (SCHED_FIFO). Threads and processes
/// that it starts do not inherit this.
pub(crate) fn set_fifo(priority: i32) -> io::Result<()> {
    // SAFETY: all zeroes is a valid `sched_param`.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads the parameters, which outlive the call. 0 is the calling thread.
    result(unsafe { libc::sched_setscheduler(0, policy, &parameters) })
}

/// Sets the nice value of the calling thread: on Linux it belongs to the thread, not to the process.
pub(crate) fn set_nice(value: i32) -> io::Result<()> {
    // SAFETY: no pointers. 0 is the calling thread.
    result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) })
}

fn result(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
