//! The node's interfaces, followed for everybody who needs them.

use std::sync::Arc;
use std::time::Duration;

use fairlead_net::links::{Links, Monitor};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long to wait before netlink is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The interfaces as known now; empty until they were listed.
pub(crate) type Known = watch::Receiver<Arc<Links>>;

/// Follows the interfaces until nobody listens.
pub(crate) async fn follow(sink: watch::Sender<Arc<Links>>) {
    loop {
        if let Err(error) = pass_on(&sink).await {
            tracing::error!(%error, "cannot follow the interfaces; retrying");
        }
        if sink.is_closed() {
            return;
        }
        sleep(RETRY).await;
    }
}

async fn pass_on(sink: &watch::Sender<Arc<Links>>) -> std::io::Result<()> {
    let mut monitor = Monitor::open().await?;
    loop {
        sink.send_replace(Arc::new(monitor.links().clone()));
        tokio::select! {
            changed = monitor.changed() => changed?,
            () = sink.closed() => return Ok(()),
        }
    }
}
