//! Follows the network interfaces of the node through netlink.

use std::sync::Arc;
use std::time::Duration;

use fairlead_net::links::{Links, Monitor};
use tokio::sync::watch;
use tokio::time::sleep;

/// Time between two attempts to open the netlink socket.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The current interfaces; none before they were listed.
pub(crate) type LinksReceiver = watch::Receiver<Arc<Links>>;

/// Publishes the interfaces until all receivers are dropped.
pub(crate) async fn follow(sender: watch::Sender<Arc<Links>>) {
    loop {
        if let Err(error) = publish(&sender).await {
            tracing::error!(%error, "cannot follow network interfaces; retrying");
        }
        if sender.is_closed() {
            return;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

async fn publish(sender: &watch::Sender<Arc<Links>>) -> std::io::Result<()> {
    let mut monitor = Monitor::open().await?;
    loop {
        sender.send_replace(Arc::new(monitor.links().clone()));
        tokio::select! {
            changed = monitor.changed() => changed?,
            () = sender.closed() => return Ok(()),
        }
        // The messages of netlink take no part in the cooperative scheduling of Tokio.
        tokio::task::yield_now().await;
    }
}
