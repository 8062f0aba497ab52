//! The server in every pod. It answers over TCP and UDP with its identity.
//!
//! Every answer is one line, `POD NODE CLIENT`, followed for UDP by the octets of the request. TCP supports
//! enough HTTP for curl. A pod has one address per family, so answers leave from the requested address.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Identity that a pod reports.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name of the pod.
    pub pod: String,
    /// Name of its node.
    pub node: String,
}

impl Identity {
    fn answer(&self, client: SocketAddr) -> String {
        // A dual-stack socket reports IPv4 clients as mapped addresses.
        format!("{} {} {}", self.pod, self.node, client.ip().to_canonical())
    }
}

/// Serves TCP and UDP on `port` until the process ends.
pub async fn serve(identity: Identity, port: u16) -> Result<()> {
    let udp = UdpSocket::from_std(socket(Type::DGRAM, Protocol::UDP, port)?.into())?;
    let tcp = socket(Type::STREAM, Protocol::TCP, port)?;
    tcp.listen(512)?;
    let tcp = TcpListener::from_std(tcp.into())?;
    tokio::try_join!(serve_udp(&udp, &identity), serve_tcp(&tcp, &identity))?;
    Ok(())
}

async fn serve_udp(socket: &UdpSocket, identity: &Identity) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        // A reset or an unreachable client is an error of that client, not of the socket.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let mut answer = identity.answer(client).into_bytes();
        answer.push(b' ');
        answer.extend_from_slice(&buffer[..length]);
        let _ = socket.send_to(&answer, client).await;
    }
}

async fn serve_tcp(listener: &TcpListener, identity: &Identity) -> Result<()> {
    loop {
        let (stream, client) = listener.accept().await.context("accept")?;
        let body = format!("{}\n", identity.answer(client));
        tokio::spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(10), respond(stream, &body)).await;
        });
    }
}

async fn respond(mut stream: TcpStream, body: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < 16 * 1024 {
        match stream.read(&mut chunk).await? {
            0 => break,
            length => request.extend_from_slice(&chunk[..length]),
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn socket(kind: Type, protocol: Protocol, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind, Some(protocol))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into())?;
    Ok(socket)
}
