//! Connections of the HTTP server: few, small and short, for anybody on the network may open them.
//!
//! When there are too many, the oldest makes room: who asks is answered in milliseconds, who holds a connection open has
//! an old one. Were new ones to wait instead, the kubelet's probes would.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Connections at a time.
const MOST: usize = 64;
/// From the start of a connection to the end of its request's header.
const HEADER: Duration = Duration::from_secs(5);
/// From the start of a connection to its end.
const ALL: Duration = Duration::from_secs(10);
/// Bytes of a request's header.
const BUFFER: usize = 16 * 1024;

/// Serves without end.
pub(super) async fn serve(mut listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(MOST));
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        // Waits a second where files are all used up.
        let (stream, _) = Listener::accept(&mut listener).await;
        open.retain(|connection| !connection.is_finished());
        if places.available_permits() == 0
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        // Nobody closes the semaphore.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let router = router.clone();
        let connection = tokio::spawn(async move {
            connection(stream, router).await;
            drop(place);
        });
        open.push_back(connection.abort_handle());
    }
}

/// One request and its answer.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(BUFFER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(ALL, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection failed"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    const UNFINISHED: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ";

    fn router() -> Router {
        let large = async || "0123456789".repeat(100_000);
        Router::new().route("/healthz", get(async || "ok\n")).route("/large", get(large))
    }

    /// A client's end, with so much room on the way, and when the server is done with its own.
    fn connect(room: usize) -> (DuplexStream, JoinHandle<Duration>) {
        let (client, server) = tokio::io::duplex(room);
        let began = Instant::now();
        let served = tokio::spawn(async move {
            connection(server, router()).await;
            began.elapsed()
        });
        (client, served)
    }

    /// All that comes until the server ends the connection, which it does within this time.
    async fn answer(client: &mut (impl AsyncRead + Unpin), within: Duration) -> String {
        let mut answer = String::new();
        let read = tokio::time::timeout(within, client.read_to_string(&mut answer)).await;
        read.expect("the connection is still open").unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_without_end_is_waited_for_only_so_long() {
        let (mut client, served) = connect(1024);
        client.write_all(UNFINISHED).await.unwrap();
        let began = Instant::now();
        // Drop by drop it takes no longer.
        while client.write_all(b"x").await.is_ok() {
            assert!(began.elapsed() <= 2 * ALL, "it is still read");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(served.await.unwrap().as_secs(), HEADER.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_waited_for_only_so_long() {
        let (mut client, served) = connect(1024);
        assert_eq!(answer(&mut client, 2 * ALL).await, "");
        assert_eq!(served.await.unwrap().as_secs(), HEADER.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_header_is_refused() {
        let (mut client, served) = connect(1024 * 1024);
        client.write_all(UNFINISHED).await.unwrap();
        client.write_all(&[b'x'; 60_000]).await.unwrap();
        let answer = answer(&mut client, HEADER / 2).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert!(served.await.unwrap() < HEADER / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_the_answer_is_waited_for_only_so_long() {
        let (mut client, served) = connect(1024);
        client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let served = tokio::time::timeout(2 * ALL, served).await.expect("it is still waited for").unwrap();
        assert_eq!(served.as_secs(), ALL.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_after_its_answer_which_may_be_long() {
        let (mut client, served) = connect(1024);
        client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let answer = answer(&mut client, HEADER / 2).await;
        assert!(answer.len() > 1_000_000 && answer.ends_with("0123456789"));
        assert!(served.await.unwrap() < HEADER / 2);
    }

    #[tokio::test]
    async fn a_probe_is_answered_at_once_whoever_holds_connections_open() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router()));
        let mut slow = Vec::new();
        for _ in 0..2 * MOST {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(UNFINISHED).await.unwrap();
            slow.push(client);
        }
        let began = Instant::now();
        let mut probe = TcpStream::connect(addr).await.unwrap();
        probe.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut probe, HEADER / 2).await.ends_with("ok\n"));
        // Of the others, as many are left as may be; the oldest went.
        for client in &mut slow[..=MOST] {
            let end = tokio::time::timeout(HEADER / 2, client.read_u8()).await;
            assert!(end.is_ok_and(|end| end.is_err()), "it is still open");
        }
        assert!(began.elapsed() < HEADER / 2, "nobody waited for the end of another's time");
        slow[MOST + 1].write_all(b"y\r\n\r\n").await.unwrap();
        assert!(
            answer(&mut slow[MOST + 1], HEADER / 2).await.ends_with("ok\n"),
            "who is not too slow is answered"
        );
    }
}
