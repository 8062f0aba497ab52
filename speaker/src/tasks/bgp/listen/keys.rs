//! The TCP-MD5 keys of a listening socket. Contains no I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::tasks::bgp::passwords::Key;

/// The routers that may connect to a socket, with their keys.
pub(super) type RouterKeys = BTreeMap<IpAddr, Option<Key>>;

/// The keys that a socket has.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<IpAddr, Key>);

impl Keys {
    /// Sets the keys that are new or changed with `set`. Returns why a key cannot be set; the socket then has
    /// its earlier key.
    pub(super) fn set(
        &mut self,
        wanted: &RouterKeys,
        mut set: impl FnMut(IpAddr, &Key) -> Result<(), String>,
    ) -> BTreeMap<IpAddr, String> {
        let mut problems = BTreeMap::new();
        for (router, key) in wanted {
            let Some(key) = key.as_ref().filter(|key| self.0.get(router) != Some(*key)) else { continue };
            match set(*router, key) {
                Ok(()) => drop(self.0.insert(*router, key.clone())),
                Err(problem) => drop(problems.insert(*router, problem)),
            }
        }
        problems
    }

    /// Removes the keys that are not wanted with `remove`. A key that cannot be removed is tried again in the
    /// next call.
    pub(super) fn remove_unwanted<E>(
        &mut self,
        wanted: &RouterKeys,
        mut remove: impl FnMut(IpAddr) -> Result<(), E>,
    ) {
        self.0
            .retain(|router, _| wanted.get(router).is_some_and(Option::is_some) || remove(*router).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn wanted(key: Option<&str>) -> RouterKeys {
        BTreeMap::from([(ROUTER, key.map(Key::for_test))])
    }

    /// Sets the wanted key and returns how often it was set.
    fn set(keys: &mut Keys, wanted: &RouterKeys, works: bool) -> usize {
        let mut calls = 0;
        let problems = keys.set(wanted, |_, _| {
            calls += 1;
            if works { Ok(()) } else { Err("no memory".to_owned()) }
        });
        assert_eq!(problems.len(), if works { 0 } else { calls });
        calls
    }

    fn removed(keys: &mut Keys, wanted: &RouterKeys) -> usize {
        let mut calls = 0;
        keys.remove_unwanted(wanted, |_| {
            calls += 1;
            Ok::<_, ()>(())
        });
        calls
    }

    #[test]
    fn only_changes_reach_the_socket() {
        let mut keys = Keys::default();
        assert_eq!(set(&mut keys, &wanted(Some("one")), true), 1);
        assert_eq!(set(&mut keys, &wanted(Some("one")), true), 0);
        assert_eq!(set(&mut keys, &wanted(Some("two")), true), 1);
        assert_eq!(removed(&mut keys, &wanted(Some("two"))), 0);
        assert_eq!(removed(&mut keys, &wanted(None)), 1);
        assert_eq!(removed(&mut keys, &RouterKeys::new()), 0);
    }

    #[test]
    fn earlier_key_remains_known_when_its_successor_fails() {
        let mut keys = Keys::default();
        set(&mut keys, &wanted(Some("one")), true);
        // The failed key is tried again.
        assert_eq!(set(&mut keys, &wanted(Some("two")), false), 1);
        assert_eq!(set(&mut keys, &wanted(Some("two")), false), 1);
        // The socket has the earlier key, which needs no change and can be removed.
        assert_eq!(set(&mut keys, &wanted(Some("one")), true), 0);
        set(&mut keys, &wanted(Some("two")), false);
        assert_eq!(removed(&mut keys, &RouterKeys::new()), 1);
    }

    #[test]
    fn removal_that_fails_is_tried_again() {
        let mut keys = Keys::default();
        set(&mut keys, &wanted(Some("one")), true);
        keys.remove_unwanted(&RouterKeys::new(), |_| Err(()));
        assert_eq!(removed(&mut keys, &RouterKeys::new()), 1);
    }
}
