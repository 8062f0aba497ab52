//! The listening socket and the lifetime of a server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::faults::{Faults, Outage};
use crate::http::{self, Shared};
use crate::kubeconfig::Access;
use crate::options::Options;
use crate::tls::Identity;

/// A running server. It stops, and its objects are lost, when dropped.
#[derive(Debug)]
pub struct ApiServer {
    access: Access,
    address: SocketAddr,
    faults: Faults,
    stop: CancellationToken,
}

impl ApiServer {
    /// Listens and serves on the current tokio runtime.
    ///
    /// # Errors
    /// If it cannot listen on the address, the Service ranges are invalid, or no certificate can be created.
    pub async fn start(options: Options) -> anyhow::Result<ApiServer> {
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        let host = options.advertise.clone().unwrap_or_else(|| reachable(address.ip()).to_string());

        let identity = if options.tls {
            Some(Identity::new(vec![
                host.clone(),
                address.ip().to_string(),
                "localhost".into(),
                "127.0.0.1".into(),
            ])?)
        } else {
            None
        };
        let acceptor = identity.as_ref().map(Identity::acceptor).transpose()?;
        let scheme = if options.tls { "https" } else { "http" };
        let access = Access {
            url: format!("{scheme}://{}", authority(&host, address.port())),
            ca: identity.map(|identity| identity.ca_pem),
            token: options.token.clone(),
        };

        let faults = Faults::new(options.seed);
        let shared = Arc::new(Shared::new(&options, faults.clone())?);
        let weak = Arc::downgrade(&shared);
        faults.on_compact(Box::new(move || {
            if let Some(shared) = weak.upgrade() {
                shared.compact();
            }
        }));
        let stop = CancellationToken::new();
        let front = Front { address, acceptor, shared, faults: faults.clone(), stop: stop.clone() };
        tokio::spawn(front.run(listener));
        Ok(ApiServer { access, address, faults, stop })
    }

    /// `http://…` or `https://…`.
    pub fn url(&self) -> &str {
        &self.access.url
    }

    /// Returns the listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns address and credentials.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the kubeconfig as YAML.
    pub fn kubeconfig(&self) -> String {
        self.access.kubeconfig()
    }

    /// Returns a client without retries.
    ///
    /// # Errors
    /// As [`Access::config`].
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        self.access.client().await
    }

    /// Returns the fault injection.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Closes everything. Dropping does the same.
    pub fn shutdown(self) {}
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Returns an address that a client on this machine can reach, for a wildcard address.
fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Accepts connections.
struct Front {
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    faults: Faults,
    stop: CancellationToken,
}

impl Front {
    async fn run(self, listener: TcpListener) {
        let mut listener = Some(listener);
        let mut outages = self.faults.outages();
        // Ends the connections that were opened before an outage.
        let mut epoch = self.stop.child_token();
        loop {
            let outage = *outages.borrow_and_update();
            let refused = match outage {
                Some((Outage::Refuse, until)) if until > Instant::now() => Some(until),
                _ => None,
            };
            if let Some(until) = refused {
                listener = None;
                epoch.cancel();
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep_until(until.into()) => self.faults.end_outage(),
                    _ = outages.changed() => {}
                }
                continue;
            }
            let Some(socket) = &listener else {
                epoch = self.stop.child_token();
                match TcpListener::bind(self.address).await {
                    Ok(socket) => listener = Some(socket),
                    Err(error) => {
                        tracing::warn!(%error, address = %self.address, "cannot listen again yet");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                continue;
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = outages.changed() => {}
                accepted = socket.accept() => match accepted {
                    Ok((stream, _)) => self.connect(stream, epoch.child_token()),
                    Err(error) => {
                        tracing::warn!(%error, "accept");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                },
            }
        }
    }

    fn connect(&self, stream: TcpStream, end: CancellationToken) {
        // Small responses must not wait for each other.
        let _ = stream.set_nodelay(true);
        let shared = self.shared.clone();
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move {
            let served = async {
                match acceptor {
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => serve(stream, shared).await,
                        Err(error) => tracing::debug!(%error, "TLS handshake"),
                    },
                    None => serve(stream, shared).await,
                }
            };
            tokio::select! {
                () = end.cancelled() => {}
                () = served => {}
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, std::convert::Infallible>(http::handle(shared, request).await) }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection");
    }
}
