//! A proxy between a controller and the API server that delays watches and loses responses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::{Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Forwards plain HTTP/1.1, one request at a time on each connection, as kube sends it.
#[derive(Clone, Default)]
pub(crate) struct Proxy {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    lag: Duration,
    lose: Option<String>,
    patches: Vec<String>,
}

impl Proxy {
    /// Starts a proxy for `server`. Returns it with a client that connects to it.
    pub(crate) async fn start(server: &str) -> (Self, Client) {
        let proxy = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        config.default_retry = false;
        let (state, server) = (proxy.state.clone(), server.trim_start_matches("http://").to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server.clone(), state.clone()));
            }
        });
        (proxy, Client::try_from(config).unwrap())
    }

    /// Delays the events of watches of Services by `lag`.
    pub(crate) fn delay_services(&self, lag: Duration) {
        self.lock().lag = lag;
    }

    /// Drops the response to the next PATCH whose path contains `path`. The request itself is forwarded.
    pub(crate) fn lose_response(&self, path: &str) {
        self.lock().lose = Some(path.to_owned());
    }

    /// Returns the number of PATCH requests whose path contains `path`.
    pub(crate) fn patches(&self, path: &str) -> usize {
        self.lock().patches.iter().filter(|line| line.contains(path)).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn forward(client: TcpStream, server: String, state: Arc<Mutex<State>>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let request = Mutex::new(String::new());
    let there = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let text = String::from_utf8_lossy(&buffer[..length]);
            let line = text.lines().next().unwrap_or_default();
            if line.ends_with(" HTTP/1.1") {
                if line.starts_with("PATCH ") {
                    state.lock().unwrap().patches.push(line.to_owned());
                }
                line.clone_into(&mut request.lock().unwrap());
            }
            if to_server.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            let request = request.lock().unwrap().clone();
            let lag = {
                let mut state = state.lock().unwrap();
                if request.starts_with("PATCH ")
                    && state.lose.take_if(|path| request.contains(&**path)).is_some()
                {
                    return;
                }
                state.lag
            };
            if request.contains("/services?") && request.contains("watch=true") {
                tokio::time::sleep(lag).await;
            }
            if to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = there => {}, () = back => {} }
}
