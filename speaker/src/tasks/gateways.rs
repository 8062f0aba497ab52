//! Follows the gateways of the default routes of the node through netlink.

use std::time::Duration;

use fairlead_net::default_routes::{DefaultGateways, Monitor};
use tokio::sync::watch;
use tokio::time::sleep;

/// Time between two attempts to open the netlink socket.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The current gateways; none before they were listed.
pub(crate) type GatewaysReceiver = watch::Receiver<DefaultGateways>;

/// Publishes the gateways until all receivers are dropped.
pub(crate) async fn follow(sender: watch::Sender<DefaultGateways>) {
    loop {
        if let Err(error) = publish(&sender).await {
            tracing::error!(%error, "cannot follow default routes; retrying");
        }
        if sender.is_closed() {
            return;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

async fn publish(sender: &watch::Sender<DefaultGateways>) -> std::io::Result<()> {
    let mut monitor = Monitor::open().await?;
    loop {
        sender.send_replace(monitor.gateways().clone());
        tokio::select! {
            changed = monitor.changed() => changed?,
            () = sender.closed() => return Ok(()),
        }
        // The messages of netlink take no part in the cooperative scheduling of Tokio.
        tokio::task::yield_now().await;
    }
}
