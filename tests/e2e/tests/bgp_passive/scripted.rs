//! A router that tests script octet by octet.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use fairlead_e2e::{SECOND, SOON};
use fairlead_lab::peers::Host;
use fairlead_lab::wait_for;
use fairlead_net::tcp::set_md5_key;
use socket2::{Domain, Socket, Type};

/// The speaker of `n1`.
const SPEAKER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11)), 179);

pub(crate) const OPEN: u8 = 1;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
/// AS number of the router.
pub(crate) const ASN: u16 = 64999;
/// Connection Collision Resolution.
const COLLISION: [u8; 2] = [6, 7];

/// A connection of the router.
pub(crate) struct Connection(TcpStream);

impl Connection {
    /// Opens a connection when the speaker accepts it.
    pub(crate) fn open(host: &Host, key: Option<&str>) -> Self {
        // The port may not be open yet.
        wait_for("a connection with the speaker", SOON, || Self::try_open(host, key)).unwrap()
    }

    /// Opens a connection with port 179 of `n1`, with this TCP-MD5 key.
    pub(crate) fn try_open(host: &Host, key: Option<&str>) -> io::Result<Self> {
        let connect = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            if let Some(key) = key {
                set_md5_key(&socket, SPEAKER.ip(), key.as_bytes()).map_err(io::Error::other)?;
            }
            socket.connect_timeout(&SPEAKER.into(), SECOND)?;
            socket.set_read_timeout(Some(10 * SECOND))?;
            Ok(Self(socket.into()))
        };
        host.netns().run(connect).map_err(io::Error::other)?
    }

    /// Replaces the TCP-MD5 key of the connection.
    pub(crate) fn set_key(&self, key: &str) {
        set_md5_key(&self.0, SPEAKER.ip(), key.as_bytes()).unwrap();
    }

    pub(crate) fn send(&mut self, kind: u8, body: &[u8]) {
        let mut message = vec![0xff; 16];
        message.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
        message.push(kind);
        message.extend(body);
        self.0.write_all(&message).unwrap();
    }

    /// Sends an OPEN with four-octet AS numbers, and with graceful restart if `restart`.
    pub(crate) fn send_open(&mut self, identifier: Ipv4Addr, restart: bool) {
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
    pub(crate) fn next(&mut self) -> Option<(u8, Vec<u8>)> {
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

    pub(crate) fn expect(&mut self, kind: u8) {
        let message = self.next();
        assert_eq!(message.as_ref().map(|(kind, _)| *kind), Some(kind), "{message:?}");
    }

    /// Expects the NOTIFICATION, and then the end of the connection.
    pub(crate) fn expect_collision(&mut self) {
        assert_eq!(self.next(), Some((NOTIFICATION, COLLISION.to_vec())));
        assert_eq!(self.next(), None);
    }

    /// Opens a connection on which the speaker waits for a KEEPALIVE.
    pub(crate) fn confirmed(host: &Host, key: Option<&str>, identifier: Ipv4Addr, restart: bool) -> Self {
        let mut connection = Self::open(host, key);
        connection.expect(OPEN);
        connection.send_open(identifier, restart);
        connection.expect(KEEPALIVE);
        connection
    }
}
