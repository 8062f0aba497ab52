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

/// Sets how long the calling thread may run before the kernel considers another one, in nanoseconds. Since
/// Linux 6.12 a thread with a shorter slice than others starts earlier after it becomes ready, at the same
/// share of the processor, and needs no permission for it. Earlier versions ignore the value.
pub(crate) fn set_slice(nanoseconds: u64) -> io::Result<()> {
    let mut attributes = attributes()?;
    attributes.sched_runtime = nanoseconds;
    // SAFETY: the kernel reads the structure, which outlives the call. 0 is the calling thread.
    syscall_result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attributes, 0) })
}

fn attributes() -> io::Result<libc::sched_attr> {
    // SAFETY: all zeroes is a valid `sched_attr`.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = std::mem::size_of::<libc::sched_attr>() as u32;
    // SAFETY: the kernel writes at most `size` octets into the structure. 0 is the calling thread.
    syscall_result(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &mut attributes, size, 0) })?;
    Ok(attributes)
}

fn syscall_result(code: libc::c_long) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn result(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_is_inherited_by_new_threads() {
        // Kernels that support slices report the default one.
        if attributes().unwrap().sched_runtime == 0 {
            eprintln!("skipped: this kernel (before Linux 6.12) has no slices");
            return;
        }
        let (set, inherited) = std::thread::spawn(|| {
            set_slice(200_000).unwrap();
            let inherited = std::thread::spawn(|| attributes().unwrap().sched_runtime);
            (attributes().unwrap().sched_runtime, inherited.join().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!((set, inherited), (200_000, 200_000));
    }
}
