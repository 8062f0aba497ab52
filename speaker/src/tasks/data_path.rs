//! Probes the data path of the node while an address waits for it. `fairlead_plan` decides by the answers
//! whether it is ready.
//!
//! Any program on the node can listen on the port. Therefore the size and the time of an answer are bounded,
//! and redirects are not followed.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fairlead_plan::{ProbeAnswer, ProxyProgress, WallClock};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::metrics::Metrics;

/// Longest time for an answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Longest answer, in octets. The metrics of kube-proxy have about 100 kB.
const MAX_BODY: usize = 1 << 20;

/// Size of the buffer for the header of the answer, in octets.
const MAX_HEADER: usize = 16 << 10;

/// Shortest and longest time between two probes. Within these bounds, it is a tenth of the time since the
/// first probe.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Path of metrics in the text format of Prometheus.
const METRICS_PATH: &str = "/metrics";

/// The URL that answers whether the data path of the node is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeUrl {
    address: SocketAddr,
    uri: Uri,
}

impl FromStr for ProbeUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "must be a URL such as http://127.0.0.1:10249/metrics, with an IP address";
        let uri: Uri = text.parse().map_err(|_| EXPECTED.to_owned())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or(EXPECTED)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let ip = host.parse().map_err(|_| EXPECTED.to_owned())?;
        let address = SocketAddr::new(ip, authority.port_u16().unwrap_or(80));
        if address.port() == 0 || authority.as_str().contains('@') {
            return Err(EXPECTED.to_owned());
        }
        Ok(Self { address, uri })
    }
}

impl fmt::Display for ProbeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

/// The task that probes the data path of the node.
pub(crate) struct DataPathTask {
    pub url: ProbeUrl,
    /// True while probes are needed.
    pub wanted: watch::Receiver<bool>,
    pub answers: mpsc::Sender<ProbeAnswer>,
    pub metrics: Metrics,
}

impl DataPathTask {
    /// Probes while `wanted` is true, until the channels are closed.
    pub(crate) async fn run(mut self) {
        while self.wanted.wait_for(|wanted| *wanted).await.is_ok() {
            let first = Instant::now();
            while *self.wanted.borrow_and_update() {
                let answer = probe(&self.url).await;
                self.metrics.count_data_path_probe(!matches!(answer, ProbeAnswer::NotReady(_)));
                if self.answers.send(answer).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = sleep((first.elapsed() / 10).clamp(INTERVAL.0, INTERVAL.1)) => {}
                    changed = self.wanted.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}

/// Sends one probe and returns the answer.
async fn probe(url: &ProbeUrl) -> ProbeAnswer {
    let since = Instant::now();
    let body = match timeout(TIMEOUT, get(url)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return ProbeAnswer::NotReady(format!("{url}: {error}")),
        Err(_) => return ProbeAnswer::NotReady(format!("{url}: no complete answer within {TIMEOUT:?}")),
    };
    if url.uri.path() != METRICS_PATH {
        return ProbeAnswer::Ready { since };
    }
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock = WallClock { at: Instant::now(), unix };
    // On another thread: the largest answer would delay the other tasks of this one by milliseconds.
    let parse = move || ProxyProgress::parse(&String::from_utf8_lossy(&body), clock);
    match spawn_blocking(parse).await {
        Ok(Some(progress)) => ProbeAnswer::KubeProxy(progress),
        Ok(None) | Err(_) => {
            ProbeAnswer::NotReady(format!("{url}: the metrics have no time of a sync of kube-proxy"))
        }
    }
}

/// Returns the body of an answer with status 200.
async fn get(url: &ProbeUrl) -> Result<Bytes, String> {
    let stream = TcpStream::connect(url.address).await.map_err(|error| error.to_string())?;
    let connection = http1::Builder::new().max_buf_size(MAX_HEADER).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connection.map_err(|error| error.to_string())?;
    let target = url.uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(HOST, url.uri.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "text/plain, */*;q=0.1")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
    };
    // The connection ends with the exchange, which owns its sender.
    let (body, _) = tokio::join!(exchange, connection);
    body
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns the answer to a probe of a server that writes `head` and then `body` this many times.
    async fn answer_to(path: &str, head: String, body: &'static [u8], times: usize) -> ProbeAnswer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap()).parse().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            // The client may close the connection at any time.
            let _ = stream.write_all(head.as_bytes()).await;
            for _ in 0..times {
                if stream.write_all(body).await.is_err() {
                    break;
                }
            }
            if times == 0 {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            answer = probe(&url) => answer,
            () = async { server.await; std::future::pending().await } => unreachable!(),
        }
    }

    fn reason(answer: ProbeAnswer) -> String {
        match answer {
            ProbeAnswer::NotReady(reason) => reason,
            ready => format!("{ready:?}"),
        }
    }

    #[tokio::test]
    async fn answers_are_read_by_path_and_status() {
        let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned();
        let metrics = b"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.7e+09\n";
        let answer = answer_to("/metrics", ok.clone(), metrics, 1).await;
        assert!(matches!(answer, ProbeAnswer::KubeProxy(progress) if progress.v4.synced.is_some()));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        let answer = answer_to("/healthz", chunked, b"2\r\nok\r\n0\r\n\r\n", 1).await;
        assert!(matches!(answer, ProbeAnswer::Ready { .. }), "{answer:?}");
        for (path, head, expected) in [
            ("/metrics", ok.as_str(), "no time of a sync"),
            ("/healthz", "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "status 503"),
            ("/healthz", "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n", "status 302"),
        ] {
            let reason = reason(answer_to(path, head.to_owned(), b"x", 1).await);
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[tokio::test]
    async fn hostile_answers_are_bounded() {
        let ok = "HTTP/1.1 200 OK\r\n\r\n";
        static CHUNK: [u8; 64 << 10] = [b'x'; 64 << 10];
        for (what, head, body, times, expected) in [
            ("endless body", ok.to_owned(), &CHUNK[..], usize::MAX, "length limit exceeded"),
            ("endless header", "HTTP/1.1 200 OK\r\nx: ".to_owned(), &CHUNK[..], usize::MAX, "too large"),
            ("no HTTP", "220 mail\r\n".to_owned(), &b"x\r\n"[..], 1, "invalid HTTP"),
            ("silence", String::new(), &b""[..], 0, "no complete answer within 1s"),
            ("half a header", "HTTP/1.1 200".to_owned(), &b""[..], 0, "no complete answer within 1s"),
            (
                "half a body",
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".to_owned(),
                &b""[..],
                0,
                "no complete",
            ),
        ] {
            let reason = reason(answer_to("/healthz", head, body, times).await);
            assert!(reason.contains(expected), "{what}: {reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn task_probes_only_while_wanted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: ProbeUrl = format!("http://{}/healthz", listener.local_addr().unwrap()).parse().unwrap();
        let (wanted_sender, wanted) = watch::channel(false);
        let (answers, mut received) = mpsc::channel(1);
        let task = tokio::spawn(DataPathTask { url, wanted, answers, metrics: Metrics::default() }.run());
        // Time passes only while no task can run.
        let no_probe = || async { timeout(INTERVAL.1 * 10, listener.accept()).await.is_err() };
        assert!(no_probe().await, "nothing waits yet");
        wanted_sender.send_replace(true);
        for _ in 0..3 {
            let (stream, _) = timeout(INTERVAL.1 * 2, listener.accept()).await.unwrap().unwrap();
            drop(stream);
            assert!(matches!(received.recv().await.unwrap(), ProbeAnswer::NotReady(_)));
        }
        wanted_sender.send_replace(false);
        assert!(no_probe().await, "nothing waits any more");
        drop(wanted_sender);
        task.await.unwrap();
    }

    #[test]
    fn url_needs_an_address() {
        for (text, address) in [
            ("http://127.0.0.1:10249/metrics", "127.0.0.1:10249"),
            ("http://[::1]:9879/healthz?a=b", "[::1]:9879"),
            ("http://192.0.2.1", "192.0.2.1:80"),
        ] {
            assert_eq!(text.parse::<ProbeUrl>().unwrap().address, address.parse().unwrap(), "{text}");
        }
        for text in [
            "",
            "/metrics",
            "127.0.0.1:1",
            "https://127.0.0.1:1/",
            "http://localhost/",
            "http://127.0.0.1:0/",
            "http://a@127.0.0.1/",
        ] {
            assert!(text.parse::<ProbeUrl>().is_err(), "{text}");
        }
    }
}
