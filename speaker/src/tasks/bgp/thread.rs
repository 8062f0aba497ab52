//! The thread of the BGP sessions.
//!
//! Sessions share a thread and a Tokio runtime with each other only. Whatever a router sends delays other
//! sessions by at most one turn (`peer`), and the answers to ARP, the mesh and the probes of the kubelet not
//! at all.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Runs tasks on a thread of its own. Dropping it ends the thread and all tasks, which closes their
/// connections.
#[derive(Debug)]
pub(super) struct BgpThread {
    runtime: Handle,
    /// Dropped to end the thread.
    _stop: oneshot::Sender<()>,
}

impl BgpThread {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("bgp".to_owned()).spawn(move || {
            // The error is the end of the sender.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { runtime: handle, _stop: stop })
    }

    /// Starts a task on the thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_run_on_one_other_thread_until_drop() {
        let thread = BgpThread::start().unwrap();
        let id = async |thread: &BgpThread| {
            let (sender, receiver) = oneshot::channel();
            thread.spawn(async move { sender.send(std::thread::current().id()).unwrap() });
            receiver.await.unwrap()
        };
        let (first, second) = (id(&thread).await, id(&thread).await);
        assert_eq!(first, second);
        assert_ne!(first, std::thread::current().id());
        let endless = thread.spawn(std::future::pending());
        drop(thread);
        assert!(endless.await.unwrap_err().is_cancelled());
    }
}
