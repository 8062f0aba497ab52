//! Connections over loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{
    AcceptOptions, Accepted, AoAlgorithm, AoKey, ConnectError, ConnectOptions, ListenError, ListenOptions,
    Listener, add_ao_key, connect, prefer_permanent_source, set_md5_key,
};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

async fn listener(ip: IpAddr) -> (TcpListener, ConnectOptions) {
    let listener = TcpListener::bind(SocketAddr::new(ip, 0)).await.unwrap();
    let mut options = ConnectOptions::new(listener.local_addr().unwrap());
    options.timeout = Duration::from_millis(700);
    (listener, options)
}

const LOCALHOSTS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[test]
fn kernel_without_address_preferences_is_no_error() {
    // A socket of IPv4 does not know the option either.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let error = crate::sys::prefer_permanent_source(std::os::fd::AsFd::as_fd(&socket)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
    prefer_permanent_source(&socket).unwrap();
}

/// Returns false if the kernel was built without CONFIG_TCP_MD5SIG.
async fn has_md5() -> bool {
    let (listener, _) = listener(LOCALHOSTS[0]).await;
    match set_md5_key(&listener, LOCALHOSTS[0], b"key") {
        Ok(()) => true,
        Err(error) => {
            eprintln!("skipped: no CONFIG_TCP_MD5SIG ({error})");
            false
        }
    }
}

#[tokio::test]
async fn connect_with_md5_needs_same_key() {
    if !has_md5().await {
        return;
    }
    for ip in LOCALHOSTS {
        let (listener, mut options) = listener(ip).await;
        set_md5_key(&listener, ip, b"secret").unwrap();
        options.md5_key = Some(b"secret".to_vec());
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        connected.unwrap();
        accepted.unwrap();

        for wrong in [None, Some(b"Secret".to_vec())] {
            options.md5_key = wrong;
            let error = connect(&options).await.unwrap_err();
            assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn md5_key_of_established_connection_is_replaced() {
    if !has_md5().await {
        return;
    }
    for ip in LOCALHOSTS {
        let (listener, mut options) = listener(ip).await;
        set_md5_key(&listener, ip, b"old").unwrap();
        options.md5_key = Some(b"old".to_vec());
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        let (mut near, (mut far, _)) = (connected.unwrap(), accepted.unwrap());
        set_md5_key(&near, ip, b"new").unwrap();
        near.write_all(b"x").await.unwrap();
        let mut octet = [0];
        let read = tokio::time::timeout(Duration::from_millis(300), far.read_exact(&mut octet)).await;
        assert!(read.is_err(), "a segment with the new key is dropped");
        // The segment is sent again.
        set_md5_key(&far, ip, b"new").unwrap();
        far.read_exact(&mut octet).await.unwrap();
        assert_eq!(octet, *b"x");
        far.write_all(b"y").await.unwrap();
        near.read_exact(&mut octet).await.unwrap();
        assert_eq!(octet, *b"y");
    }
}

/// Without CONFIG_TCP_AO, the test shows only that the error says so.
#[tokio::test]
async fn connect_with_tcp_ao_needs_same_key_or_names_the_kernel() {
    let key = |send_id, receive_id, key: &[u8], algorithm| {
        Some(AoKey { send_id, receive_id, algorithm, key: key.to_vec() })
    };
    for ip in LOCALHOSTS {
        for algorithm in [AoAlgorithm::HmacSha1, AoAlgorithm::Aes128Cmac] {
            let (listener, mut options) = listener(ip).await;
            options.ao_key = key(1, 2, b"secret", algorithm);
            if let Err(error) = add_ao_key(&listener, ip, &key(2, 1, b"secret", algorithm).unwrap()) {
                assert!(matches!(error, ConnectError::NoTcpAo), "{error}");
                let error = connect(&options).await.unwrap_err();
                assert!(error.to_string().contains("CONFIG_TCP_AO"), "{error}");
                continue;
            }
            let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
            connected.unwrap();
            accepted.unwrap();
            options.ao_key = key(1, 2, b"Secret", algorithm);
            let error = connect(&options).await.unwrap_err();
            assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn md5_key_of_wrong_length_is_rejected() {
    let (_listener, mut options) = listener(LOCALHOSTS[0]).await;
    for len in [0, 81] {
        options.md5_key = Some(vec![7; len]);
        let error = connect(&options).await.unwrap_err();
        assert!(matches!(error, ConnectError::KeyLength(length) if length == len), "{error}");
    }
}

#[tokio::test]
async fn min_ttl_drops_packets_with_lower_ttl() {
    for ip in LOCALHOSTS {
        // The listener answers with TTL 64, and there is no hop in between.
        let (_listener, mut options) = listener(ip).await;
        options.min_ttl = Some(64);
        options.ttl = Some(255);
        let stream = connect(&options).await.unwrap();
        let sent = if ip.is_ipv4() { stream.ttl().unwrap() } else { 255 };
        assert_eq!(sent, 255);
        options.min_ttl = Some(65);
        let error = connect(&options).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    }
}

#[tokio::test]
async fn connect_uses_source_address() {
    let (listener, mut options) = listener(LOCALHOSTS[0]).await;
    options.source = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)));
    options.user_timeout = Some(Duration::from_secs(9));
    let (stream, accepted) = tokio::join!(connect(&options), listener.accept());
    assert_eq!(accepted.unwrap().1.ip(), options.source.unwrap());
    assert!(stream.unwrap().nodelay().unwrap());
}

#[tokio::test]
async fn connect_errors_name_cause() {
    let (listener, mut options) = listener(LOCALHOSTS[0]).await;
    let remote = options.remote;
    drop(listener);
    let text = connect(&options).await.unwrap_err().to_string();
    assert_eq!(text, format!("cannot connect to {remote}: Connection refused (os error 111)"));
    options.source = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)));
    let text = connect(&options).await.unwrap_err().to_string();
    assert!(text.starts_with("cannot set source address: "), "{text}");
    options.source = None;
    options.device = Some("no-such-device".into());
    let text = connect(&options).await.unwrap_err().to_string();
    assert!(text.starts_with("cannot set SO_BINDTODEVICE: "), "{text}");
}

fn unspecified(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn listen_on(ip: IpAddr, port: u16) -> ListenOptions {
    ListenOptions { address: SocketAddr::new(ip, port), device: None }
}

/// A listener for all addresses of a family, which accepts connections from `ip`, and options to connect to
/// it over loopback.
fn wildcard(ip: IpAddr) -> (Listener, ConnectOptions) {
    // The kernel gives no port to both families at a time: each test has its own.
    let port = std::net::TcpListener::bind(SocketAddr::new(ip, 0)).unwrap().local_addr().unwrap().port();
    let listener = Listener::open(&listen_on(unspecified(ip), port)).unwrap();
    listener.set_peers(&[ip]).unwrap();
    let mut options = ConnectOptions::new(SocketAddr::new(ip, port));
    options.timeout = Duration::from_millis(700);
    (listener, options)
}

#[tokio::test]
async fn listener_reports_ttl_of_syn_and_sets_ttl_of_connection() {
    for ip in LOCALHOSTS {
        let (listener, mut options) = wildcard(ip);
        options.ttl = Some(7);
        // The SYN-ACK has TTL 255.
        options.min_ttl = Some(255);
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        let (mut near, accepted) = (connected.unwrap(), accepted.unwrap());
        assert_eq!((accepted.ttl, accepted.local.ip(), accepted.remote.ip()), (Some(7), ip, ip));
        accepted
            .configure(&AcceptOptions { min_ttl: Some(8), ttl: Some(255), ..Default::default() })
            .unwrap();
        near.write_all(b"x").await.unwrap();
        let mut far = accepted.stream;
        let mut octet = [0];
        let read = tokio::time::timeout(Duration::from_millis(300), far.read_exact(&mut octet)).await;
        assert!(read.is_err(), "a segment with a lower TTL is dropped");
        far.write_all(b"y").await.unwrap();
        near.read_exact(&mut octet).await.unwrap();
    }
}

#[tokio::test]
async fn listener_accepts_only_segments_with_the_key_of_the_peer() {
    if !has_md5().await {
        return;
    }
    for ip in LOCALHOSTS {
        let (listener, mut options) = wildcard(ip);
        listener.set_md5_key(ip, b"old").unwrap();
        options.md5_key = Some(b"new".to_vec());
        let error = connect(&options).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
        listener.set_md5_key(ip, b"new").unwrap();
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        connected.unwrap();
        accepted.unwrap().reset();
        listener.remove_md5_key(ip).unwrap();
        options.md5_key = None;
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        connected.unwrap();
        accepted.unwrap();
    }
}

#[tokio::test]
async fn port_in_use_is_an_error() {
    for ip in LOCALHOSTS {
        let other = TcpListener::bind(SocketAddr::new(ip, 0)).await.unwrap();
        let options = listen_on(unspecified(ip), other.local_addr().unwrap().port());
        match Listener::open(&options) {
            Err(ListenError::Bind { source, .. }) => {
                assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
            }
            other => panic!("{other:?}"),
        }
        drop(other);
        Listener::open(&options).unwrap();
    }
}

#[tokio::test]
async fn listener_on_one_address_leaves_the_port_of_others_free() {
    let other = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    let listener = Listener::open(&listen_on(LOCALHOSTS[0], port)).unwrap();
    listener.set_peers(&LOCALHOSTS[..1]).unwrap();
    let options = ConnectOptions::new(SocketAddr::new(LOCALHOSTS[0], port));
    let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
    assert_eq!((connected.is_ok(), accepted.unwrap().local), (true, options.remote));
}

#[tokio::test]
async fn connections_of_strangers_take_no_place_in_the_queue() {
    for ip in LOCALHOSTS {
        let (listener, mut options) = wildcard(ip);
        let stranger: IpAddr = if ip.is_ipv4() { [127, 0, 0, 9].into() } else { ip };
        if stranger == ip {
            listener.set_peers(&["2001:db8::1".parse().unwrap()]).unwrap();
        }
        options.source = Some(stranger);
        // More than the queue takes.
        let strangers: Vec<_> = (0..200).map(|_| connect(&options)).collect();
        for result in futures::future::join_all(strangers).await {
            let error = result.unwrap_err();
            assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
        }
        options.source = None;
        listener.set_peers(&[ip]).unwrap();
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        connected.unwrap();
        assert_eq!(accepted.unwrap().remote.ip(), ip);
    }
}

#[tokio::test]
async fn accepted_connection_outlives_the_filter_of_its_listener() {
    for ip in LOCALHOSTS {
        let (listener, options) = wildcard(ip);
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        listener.set_peers(&[]).unwrap();
        connected.unwrap().write_all(b"x").await.unwrap();
        accepted.unwrap().stream.read_exact(&mut [0]).await.unwrap();
        // Without a filter, all hosts may connect.
        let many: Vec<IpAddr> = (0..65).map(|last| [192, 0, 2, last].into()).collect();
        listener.set_peers(&many).unwrap();
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        connected.unwrap();
        accepted.unwrap();
    }
}

#[tokio::test]
async fn end_of_accepted_connection_shows_behind_its_octets() {
    for ip in LOCALHOSTS {
        let (listener, options) = wildcard(ip);
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        let (mut near, accepted) = (connected.unwrap(), accepted.unwrap());
        near.write_all(b"OPEN").await.unwrap();
        assert!(!accepted.is_closed());
        near.shutdown().await.unwrap();
        wait_until_closed(&accepted).await;
        let (connected, accepted) = tokio::join!(connect(&options), listener.accept());
        let (near, accepted) = (connected.unwrap(), accepted.unwrap());
        near.set_zero_linger().unwrap();
        drop(near);
        wait_until_closed(&accepted).await;
    }
}

async fn wait_until_closed(accepted: &Accepted) {
    let closed = async {
        while !accepted.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
}
