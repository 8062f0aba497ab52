//! Two connections of one router (RFC 4271 §6.8, RFC 4724 §4.2): the octets on both decide.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use fairlead_e2e::SECOND;
use fairlead_lab::peers::Host;
use serde_json::json;

use crate::setup::{LAB, expect_established, peer, session};

const OPEN: u8 = 1;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
/// AS number of the router.
const ASN: u16 = 64999;
/// Identifiers below and above that of the speaker, 192.0.2.11.
const LOWER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const HIGHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// Connection Collision Resolution.
const COLLISION: [u8; 2] = [6, 7];

/// A connection of the router.
struct Connection(TcpStream);

impl Connection {
    fn open(host: &Host) -> Self {
        let to = SocketAddr::from(([192, 0, 2, 11], 179));
        let deadline = std::time::Instant::now() + 20 * SECOND;
        loop {
            // The port may not be open yet.
            match host.netns().run(|| TcpStream::connect_timeout(&to, SECOND)).unwrap() {
                Ok(stream) => {
                    stream.set_read_timeout(Some(10 * SECOND)).unwrap();
                    return Self(stream);
                }
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(SECOND / 10);
        }
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut message = vec![0xff; 16];
        message.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
        message.push(kind);
        message.extend(body);
        self.0.write_all(&message).unwrap();
    }

    /// Sends an OPEN with four-octet AS numbers, and with graceful restart if `restart`.
    fn send_open(&mut self, identifier: Ipv4Addr, restart: bool) {
        let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4, 0, 0];
        capabilities.extend(ASN.to_be_bytes());
        if restart {
            capabilities.extend([64, 6, 0, 90, 0, 1, 1, 0x80]);
        }
        let length = u8::try_from(capabilities.len()).unwrap();
        let mut body = vec![4];
        body.extend(ASN.to_be_bytes());
        body.extend([0, 90]);
        body.extend(identifier.octets());
        body.extend([length + 2, 2, length]);
        body.extend(capabilities);
        self.send(OPEN, &body);
    }

    /// Returns the next message; `None` if the speaker closed the connection.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 19];
        match self.0.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no message"),
            Err(_) => return None,
        }
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length - 19];
        self.0.read_exact(&mut body).unwrap();
        Some((header[18], body))
    }

    fn expect(&mut self, kind: u8) {
        let message = self.next();
        assert_eq!(message.as_ref().map(|(kind, _)| *kind), Some(kind), "{message:?}");
    }

    /// Expects the NOTIFICATION, and then the end of the connection.
    fn expect_collision(&mut self) {
        assert_eq!(self.next(), Some((NOTIFICATION, COLLISION.to_vec())));
        assert_eq!(self.next(), None);
    }

    /// Opens a connection on which the speaker waits for a KEEPALIVE.
    fn confirmed(host: &Host, identifier: Ipv4Addr, restart: bool) -> Self {
        let mut connection = Self::open(host);
        connection.expect(OPEN);
        connection.send_open(identifier, restart);
        connection.expect(KEEPALIVE);
        connection
    }
}

#[test]
fn identifiers_and_graceful_restart_decide_between_two_connections() {
    let lab = LAB.turn();
    let host = Host::plug(&lab, "scripted", 9).unwrap();
    let mut object = peer("scripted");
    object["spec"] = json!({ "myASN": 64513, "peerASN": ASN, "peerAddress": "192.0.2.9", "passive": true,
                             "connectTime": "1s",
                             "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }] });
    lab.api().unwrap().apply_object(object).unwrap();

    // The speaker has the higher identifier: its older connection remains.
    let mut first = Connection::confirmed(&host, LOWER, false);
    let mut second = Connection::open(&host);
    second.expect(OPEN);
    second.send_open(LOWER, false);
    second.expect_collision();
    first.send(KEEPALIVE, &[]);
    expect_established(&lab, "n1", "scripted");
    // An established session without graceful restart remains, whatever the identifiers are.
    let mut third = Connection::open(&host);
    third.expect(OPEN);
    third.send_open(HIGHER, false);
    third.expect_collision();
    first.send(KEEPALIVE, &[]);
    assert_eq!(session(&lab, "n1", "scripted").unwrap()["state"], "Established");
    first.send(NOTIFICATION, &[6, 4]);
    drop(first);

    // The router has the higher identifier: its newer connection remains.
    let mut first = Connection::confirmed(&host, HIGHER, true);
    let mut second = Connection::open(&host);
    second.expect(OPEN);
    second.send_open(HIGHER, true);
    first.expect_collision();
    second.expect(KEEPALIVE);
    second.send(KEEPALIVE, &[]);
    expect_established(&lab, "n1", "scripted");

    // A router that has restarted replaces its session, without a NOTIFICATION.
    let mut third = Connection::confirmed(&host, HIGHER, true);
    third.send(KEEPALIVE, &[]);
    while let Some((kind, body)) = second.next() {
        assert_ne!(kind, NOTIFICATION, "{body:?}");
    }
    expect_established(&lab, "n1", "scripted");
    let session = session(&lab, "n1", "scripted").unwrap();
    assert_eq!(session["lastNotificationSent"]["message"].as_str(), None, "{session}");
    lab.api().unwrap().delete(&peer("scripted").to_string()).unwrap();
}
