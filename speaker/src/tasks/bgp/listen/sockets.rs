//! The listening sockets of one address family in one VRF, with their keys and filters.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use fairlead_net::tcp::{Accepted, ListenOptions, Listener};

use super::ExpectedRouter;
use super::keys::{Keys, RouterKeys};
use super::problem::open_problem;

/// Time between two attempts to open a port or to set a key.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two attempts to open the port on all addresses while it is open on single addresses, which
/// each attempt closes for a moment.
const SLOW_RETRY_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Sockets {
    /// The VRF device.
    device: Option<String>,
    /// By local address. A socket for all addresses is the only one.
    open: BTreeMap<SocketAddr, Socket>,
    /// Why the port could not be opened on all addresses, and when to try again.
    blocked: Option<(String, Instant)>,
    /// What the log says of ports that cannot be opened.
    logged: BTreeMap<SocketAddr, String>,
    /// Number of calls of [`Sockets::poll_accept`]. Each begins with another socket.
    turn: usize,
}

struct Socket {
    listener: Listener,
    keys: Keys,
    /// The addresses that may connect.
    peers: Vec<IpAddr>,
}

impl Sockets {
    pub(super) const fn new(device: Option<String>) -> Self {
        Self { device, open: BTreeMap::new(), blocked: None, logged: BTreeMap::new(), turn: 0 }
    }

    /// Opens the sockets that the routers need, closes the others, and sets keys and filters. Returns for
    /// each router why it cannot connect, and when to call this again if one cannot.
    pub(super) fn update(
        &mut self,
        routers: &[&ExpectedRouter],
        now: Instant,
    ) -> (Vec<Option<String>>, Option<Instant>) {
        let unopened = self.open(&routers.iter().map(|router| router.local).collect(), now);
        let all = self.open.keys().copied().find(|address| address.ip().is_unspecified());
        let socket_of = |router: &ExpectedRouter| all.unwrap_or(router.local);
        let mut wanted: BTreeMap<SocketAddr, RouterKeys> = BTreeMap::new();
        for router in routers {
            let of_socket = wanted.entry(socket_of(router)).or_default();
            // Routers with the same link-local address on several interfaces share the key.
            let key = of_socket.entry(router.remote).or_default();
            *key = router.key.clone().or(key.take());
        }
        let mut refused = BTreeMap::new();
        for (address, socket) in &mut self.open {
            let problems = socket.set_routers(&wanted.remove(address).unwrap_or_default());
            refused.extend(problems.into_iter().map(|(router, problem)| ((*address, router), problem)));
        }
        let problem = |router: &&ExpectedRouter| {
            let refused = refused.get(&(socket_of(router), router.remote));
            unopened.get(&socket_of(router)).or(refused).cloned()
        };
        let problems: Vec<_> = routers.iter().map(problem).collect();
        let blocked_until = self.blocked.as_ref().map(|(_, until)| *until);
        let others = !refused.is_empty() || unopened.keys().any(|address| !address.ip().is_unspecified());
        let retry_at = blocked_until.into_iter().chain(others.then(|| now + RETRY_INTERVAL)).min();
        (problems, retry_at)
    }

    /// Waits for a connection.
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let count = self.open.len();
        self.turn = self.turn.wrapping_add(1);
        let begin = self.turn.checked_rem(count).unwrap_or(0);
        for socket in self.open.values().cycle().skip(begin).take(count) {
            if let Poll::Ready(accepted) = socket.listener.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    /// Opens the port on these addresses, or only on all addresses if one of them is unspecified, and closes
    /// it on others. Returns why it cannot be opened.
    fn open(&mut self, wanted: &BTreeSet<SocketAddr>, now: Instant) -> BTreeMap<SocketAddr, String> {
        let mut problems = BTreeMap::new();
        let (all, single): (Vec<SocketAddr>, Vec<_>) =
            wanted.iter().copied().partition(|address| address.ip().is_unspecified());
        self.blocked.take_if(|(_, until)| all.is_empty() || *until <= now);
        for address in all {
            if !self.open.contains_key(&address) && self.blocked.is_none() {
                // The kernel refuses a socket for all addresses beside those for single ones.
                self.open.clear();
                let interval = if single.is_empty() { RETRY_INTERVAL } else { SLOW_RETRY_INTERVAL };
                self.blocked = self.open_one(address).err().map(|problem| (problem, now + interval));
            }
            problems.extend(self.blocked.iter().map(|(problem, _)| (address, problem.clone())));
        }
        let has_all =
            self.open.keys().any(|address| address.ip().is_unspecified() && wanted.contains(address));
        if !has_all {
            self.open.retain(|address, _| wanted.contains(address));
            for address in single {
                if !self.open.contains_key(&address) {
                    problems.extend(self.open_one(address).err().map(|problem| (address, problem)));
                }
            }
        }
        for (address, problem) in &problems {
            if self.logged.get(address) != Some(problem) {
                tracing::warn!(%problem, "cannot listen for passive BGP peers; retrying");
            }
        }
        self.logged.clone_from(&problems);
        problems
    }

    fn open_one(&mut self, address: SocketAddr) -> Result<(), String> {
        let options = ListenOptions { address, device: self.device.clone() };
        let listener = Listener::open(&options)
            .map_err(|error| open_problem(&error, address, self.device.as_deref()))?;
        tracing::info!(%address, vrf = ?self.device, "listening for passive BGP peers");
        self.open.insert(address, Socket { listener, keys: Keys::default(), peers: Vec::new() });
        Ok(())
    }
}

impl Socket {
    /// Lets these routers connect, and no others. Returns why one cannot.
    fn set_routers(&mut self, wanted: &RouterKeys) -> BTreeMap<IpAddr, String> {
        let Self { listener, keys, peers } = self;
        let problem = |error| format!("cannot listen for the router: {error}");
        let mut problems =
            keys.set(wanted, |router, key| listener.set_md5_key(router, key.octets()).map_err(problem));
        // After its key is set, so that no router connects without it.
        let allowed: Vec<IpAddr> =
            wanted.keys().copied().filter(|router| !problems.contains_key(router)).collect();
        if *peers != allowed {
            match listener.set_peers(&allowed).map_err(problem) {
                Ok(()) => *peers = allowed,
                Err(problem) => problems.extend(allowed.iter().map(|router| (*router, problem.clone()))),
            }
        }
        keys.remove_unwanted(wanted, |router| {
            listener.remove_md5_key(router).inspect_err(|error| {
                tracing::debug!(%router, %error, "cannot remove a TCP-MD5 key");
            })
        });
        problems
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn router(local: &str, port: u16, remote: &str) -> ExpectedRouter {
        ExpectedRouter {
            local: SocketAddr::new(local.parse().unwrap(), port),
            device: None,
            remote: remote.parse().unwrap(),
            interface: None,
            key: None,
        }
    }

    fn addresses(sockets: &Sockets) -> Vec<String> {
        sockets.open.keys().map(|address| address.ip().to_string()).collect()
    }

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn port_is_open_on_the_addresses_that_routers_need() {
        let (now, port) = (Instant::now(), free_port());
        let one = router("127.0.0.1", port, "192.0.2.1");
        let two = router("127.0.0.2", port, "192.0.2.2");
        let all = router("0.0.0.0", port, "192.0.2.3");
        let mut sockets = Sockets::new(None);
        for (routers, expected) in [
            (&[&one, &two][..], &["127.0.0.1", "127.0.0.2"][..]),
            (&[&two, &one], &["127.0.0.1", "127.0.0.2"]),
            (&[&two], &["127.0.0.2"]),
            (&[&two, &all], &["0.0.0.0"]),
            (&[&all], &["0.0.0.0"]),
            (&[&one], &["127.0.0.1"]),
            (&[], &[]),
        ] {
            let (problems, retry_at) = sockets.update(routers, now);
            assert_eq!((problems, retry_at), (vec![None; routers.len()], None));
            assert_eq!(addresses(&sockets), expected);
        }
    }

    #[tokio::test]
    async fn port_in_use_on_one_address_leaves_the_others_open() {
        let other = TcpListener::bind("127.0.0.9:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let one = router("127.0.0.1", port, "192.0.2.1");
        let taken = router("127.0.0.9", port, "192.0.2.2");
        let all = router("0.0.0.0", port, "192.0.2.3");
        let missing = router("198.51.100.1", port, "192.0.2.4");
        let mut sockets = Sockets::new(None);
        let mut now = Instant::now();
        let (problems, retry_at) = sockets.update(&[&one, &taken, &all, &missing], now);
        assert_eq!(problems[0], None);
        assert!(problems[1].as_ref().unwrap().contains("on 127.0.0.9 port"), "{problems:?}");
        assert!(problems[2].as_ref().unwrap().contains("on IPv4 port"), "{problems:?}");
        assert!(problems[3].as_ref().unwrap().contains("does not have the address"), "{problems:?}");
        assert_eq!(retry_at, Some(now + RETRY_INTERVAL));
        let (_, retry_at) = sockets.update(&[&one, &all], now);
        assert_eq!(
            (addresses(&sockets), retry_at),
            (vec!["127.0.0.1".to_owned()], Some(now + SLOW_RETRY_INTERVAL))
        );
        drop(other);
        now += RETRY_INTERVAL;
        sockets.update(&[&one, &all], now);
        assert_eq!(addresses(&sockets), ["127.0.0.1"], "the port is not closed each second");
        now += SLOW_RETRY_INTERVAL;
        let (problems, retry_at) = sockets.update(&[&one, &all], now);
        assert_eq!(
            (problems, retry_at, addresses(&sockets)),
            (vec![None, None], None, vec!["0.0.0.0".to_owned()])
        );
    }
}
