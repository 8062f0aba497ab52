//! Two network namespaces with a cable between them, for one test.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Both ends call their interface `eth0`. Gone when dropped.
pub(crate) struct Cable {
    /// Namespace of the node.
    pub node: String,
    /// Namespace of its neighbour.
    pub neighbour: String,
}

/// `None`, with the reason printed, where namespaces cannot be made.
pub(crate) fn cable() -> Option<Cable> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unique = format!("fl-net-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let cable = Cable { node: format!("{unique}-a"), neighbour: format!("{unique}-b") };
    for name in [&cable.node, &cable.neighbour] {
        if !Command::new("ip").args(["netns", "add", name]).status().is_ok_and(|status| status.success()) {
            eprintln!("skipped: network namespaces need root and iproute2");
            return None;
        }
        // Else addresses are tentative for a second.
        ip(&["netns", "exec", name, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"]);
    }
    let Cable { node, neighbour } = &cable;
    ip(&["-n", node, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", neighbour]);
    for name in [node, neighbour] {
        ip(&["-n", name, "link", "set", "eth0", "up"]);
    }
    ip(&["-n", neighbour, "address", "add", "192.0.2.9/24", "dev", "eth0"]);
    ip(&["-n", neighbour, "address", "add", "2001:db8::9/64", "dev", "eth0", "nodad"]);
    Some(cable)
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in [&self.node, &self.neighbour] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Runs iproute2; what it printed.
pub(crate) fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a future on a thread of its own inside a namespace.
pub(crate) fn inside<R: Send>(namespace: &str, task: impl AsyncFnOnce() -> R + Send) -> R {
    let run = || {
        let file = File::open(format!("/run/netns/{namespace}")).unwrap();
        // SAFETY: a plain system call on an open descriptor; it changes this thread only, which ends with the
        // task.
        assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(task())
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}
