//! Connections of the HTTP server. Any host on the network can open them, so that their number, size and
//! duration are limited.
//!
//! A new connection beyond the limit closes the oldest one. A client that sends a request gets its response
//! within milliseconds; only a client that keeps a connection open has an old one. If new connections waited
//! instead, the probes of the kubelet would wait too.

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

/// The maximum number of connections.
const MAX_CONNECTIONS: usize = 64;
/// The maximum time from the start of a connection to the end of the request header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum duration of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum size of a request header, in octets.
const MAX_HEADER: usize = 16 * 1024;

/// Accepts connections forever.
pub(super) async fn serve(mut listener: TcpListener, router: Router) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        // `accept` waits for a second if the process has no free file descriptors.
        let (stream, _) = Listener::accept(&mut listener).await;
        open.retain(|connection| !connection.is_finished());
        if permits.available_permits() == 0
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        // The semaphore is never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let router = router.clone();
        let connection = tokio::spawn(async move {
            connection(stream, router).await;
            drop(permit);
        });
        open.push_back(connection.abort_handle());
    }
}

/// Serves one request.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "HTTP connection failed"),
        Err(_) => tracing::debug!("HTTP connection timed out"),
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

    /// Returns the client end of a connection with a buffer of this size, and a task that returns the
    /// duration of the connection.
    fn connect(room: usize) -> (DuplexStream, JoinHandle<Duration>) {
        let (client, server) = tokio::io::duplex(room);
        let began = Instant::now();
        let served = tokio::spawn(async move {
            connection(server, router()).await;
            began.elapsed()
        });
        (client, served)
    }

    /// Reads until the server closes the connection, at most for this time.
    async fn answer(client: &mut (impl AsyncRead + Unpin), within: Duration) -> String {
        let mut answer = String::new();
        let read = tokio::time::timeout(within, client.read_to_string(&mut answer)).await;
        read.expect("the connection is still open").unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn endless_header_times_out() {
        let (mut client, served) = connect(1024);
        client.write_all(UNFINISHED).await.unwrap();
        let began = Instant::now();
        // Single octets do not extend the timeout.
        while client.write_all(b"x").await.is_ok() {
            assert!(began.elapsed() <= 2 * CONNECTION_TIMEOUT, "the header is still being read");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(served.await.unwrap().as_secs(), HEADER_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connection_times_out() {
        let (mut client, served) = connect(1024);
        assert_eq!(answer(&mut client, 2 * CONNECTION_TIMEOUT).await, "");
        assert_eq!(served.await.unwrap().as_secs(), HEADER_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn large_header_is_rejected() {
        let (mut client, served) = connect(1024 * 1024);
        client.write_all(UNFINISHED).await.unwrap();
        client.write_all(&[b'x'; 60_000]).await.unwrap();
        let answer = answer(&mut client, HEADER_TIMEOUT / 2).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert!(served.await.unwrap() < HEADER_TIMEOUT / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn unread_response_times_out() {
        let (mut client, served) = connect(1024);
        client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let served = tokio::time::timeout(2 * CONNECTION_TIMEOUT, served)
            .await
            .expect(
                "the server still \
            waits",
            )
            .unwrap();
        assert_eq!(served.as_secs(), CONNECTION_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn connection_closes_after_a_large_response() {
        let (mut client, served) = connect(1024);
        client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let answer = answer(&mut client, HEADER_TIMEOUT / 2).await;
        assert!(answer.len() > 1_000_000 && answer.ends_with("0123456789"));
        assert!(served.await.unwrap() < HEADER_TIMEOUT / 2);
    }

    #[tokio::test]
    async fn probe_is_served_despite_idle_connections() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router()));
        let mut slow = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(UNFINISHED).await.unwrap();
            slow.push(client);
        }
        let began = Instant::now();
        let mut probe = TcpStream::connect(addr).await.unwrap();
        probe.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut probe, HEADER_TIMEOUT / 2).await.ends_with("ok\n"));
        // The oldest connections are closed; as many as are allowed remain open.
        for client in &mut slow[..=MAX_CONNECTIONS] {
            let end = tokio::time::timeout(HEADER_TIMEOUT / 2, client.read_u8()).await;
            assert!(end.is_ok_and(|end| end.is_err()), "the connection is still open");
        }
        assert!(began.elapsed() < HEADER_TIMEOUT / 2, "no connection waited for the timeout of another one");
        slow[MAX_CONNECTIONS + 1].write_all(b"y\r\n\r\n").await.unwrap();
        assert!(
            answer(&mut slow[MAX_CONNECTIONS + 1], HEADER_TIMEOUT / 2).await.ends_with("ok\n"),
            "a client that is fast enough gets a response"
        );
    }
}
