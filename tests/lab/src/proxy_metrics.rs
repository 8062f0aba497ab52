//! The metrics of kube-proxy that say when it queued a change and when it completed a sync.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// Default port of the metrics of kube-proxy.
const PORT: u16 = 10249;

/// Serves the metrics on the loopback interface of every node. Clones share the values.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyMetrics {
    times: Arc<Mutex<Times>>,
}

/// Times since the epoch, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    queued: f64,
    synced: f64,
}

impl ProxyMetrics {
    /// Starts a server in each of these namespaces.
    pub(crate) fn serve<'a>(nodes: impl Iterator<Item = &'a Netns>) -> Result<Self> {
        let metrics = Self::default();
        for netns in nodes {
            let listener = netns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)))?;
            let listener = listener.with_context(|| format!("port {PORT} in {}", netns.name()))?;
            let metrics = metrics.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if let Err(error) = metrics.answer(stream) {
                        tracing::debug!(%error, "metrics");
                    }
                }
            });
        }
        Ok(metrics)
    }

    /// Records that a change is pending.
    pub(crate) fn set_queued(&self) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).queued = now();
    }

    /// Records that the rules of the nodes are current.
    pub(crate) fn set_synced(&self) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).synced = now();
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let _ = stream.read(&mut [0; 1024])?;
        let Times { queued, synced } = *self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned();
        for family in ["IPv4", "IPv6"] {
            for (name, value) in [("last_queued", queued), ("last", synced)] {
                text += &format!(
                    "kubeproxy_sync_proxy_rules_{name}_timestamp_seconds{{ip_family=\"{family}\"}} {value:e}\n"
                );
            }
        }
        stream.write_all(text.as_bytes())
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
