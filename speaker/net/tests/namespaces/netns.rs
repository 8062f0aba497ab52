//! Two network namespaces with a veth pair between them, for one test.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The interface of both ends is `eth0`. Dropping it deletes the namespaces.
pub(crate) struct Cable {
    /// Name of the namespace of the node.
    pub node: String,
    /// Name of the namespace of its neighbor.
    pub neighbor: String,
}

/// Returns `None` and prints the reason if namespaces cannot be created.
pub(crate) fn cable() -> Option<Cable> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unique = format!("fl-net-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let cable = Cable { node: format!("{unique}-a"), neighbor: format!("{unique}-b") };
    for name in [&cable.node, &cable.neighbor] {
        if !Command::new("ip").args(["netns", "add", name]).status().is_ok_and(|status| status.success()) {
            eprintln!("skipped: network namespaces need root and iproute2");
            return None;
        }
        // Otherwise addresses are tentative for one second.
        ip(&["netns", "exec", name, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"]);
    }
    let Cable { node, neighbor } = &cable;
    ip(&["-n", node, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", neighbor]);
    for name in [node, neighbor] {
        ip(&["-n", name, "link", "set", "eth0", "up"]);
    }
    ip(&["-n", neighbor, "address", "add", "192.0.2.9/24", "dev", "eth0"]);
    ip(&["-n", neighbor, "address", "add", "2001:db8::9/64", "dev", "eth0", "nodad"]);
    Some(cable)
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in [&self.node, &self.neighbor] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Runs iproute2 and returns its output.
pub(crate) fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a future inside a namespace, on a thread of its own.
pub(crate) fn inside<R: Send>(namespace: &str, task: impl AsyncFnOnce() -> R + Send) -> R {
    let run = || {
        let file = File::open(format!("/run/netns/{namespace}")).unwrap();
        // SAFETY: a system call on an open descriptor. It changes only this thread, which ends with the task.
        assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(task())
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}
