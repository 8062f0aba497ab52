//! The addresses that a Service holds.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::admission::NotAdmitted;

/// The addresses of a Service: at most one of each family, in the order of the Service's families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    #[allow(missing_docs)]
    pub held: Vec<Held>,
}

/// An address that a Service holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    #[allow(missing_docs)]
    pub ip: IpAddr,
    /// The owning pool.
    pub pool: Arc<str>,
    /// The reason why the pool would not allocate the address to the Service now; None if it would.
    pub retained: Option<Retained>,
}

/// The reason why the pool of an address would not allocate it to its holder now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retained {
    /// The pool is refused.
    PoolRefused,
    /// The address is now that of a Node.
    #[allow(missing_docs)]
    NodeAddress { address: IpAddr, node: Arc<str> },
    /// All pools disappeared, and this one does not exist again.
    PoolGone,
    /// The pool no longer contains the address.
    NoLongerInPool,
    /// The pool no longer admits the Service.
    NotAdmitted(NotAdmitted),
}

impl Holding {
    /// Returns the addresses in order.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.held.iter().map(|held| held.ip)
    }

    /// Returns the pools of the addresses in order, or a single pool if it owns all of them.
    pub fn pools(&self) -> Vec<Arc<str>> {
        let mut pools: Vec<Arc<str>> = self.held.iter().map(|held| held.pool.clone()).collect();
        if pools.windows(2).all(|pair| pair[0] == pair[1]) {
            pools.truncate(1);
        }
        pools
    }
}

impl Retained {
    /// Returns the predicate of a sentence whose subject is the pool.
    pub fn explain(&self) -> Cow<'static, str> {
        let text = match self {
            Self::PoolRefused => "is refused: see its condition Accepted",
            Self::NodeAddress { address, node } => {
                return Cow::Owned(format!(
                    "no longer allocates {address}, because it is an address of Node {node}: use another \
                     address, and exclude this one from the pool"
                ));
            }
            Self::PoolGone => "does not exist any more",
            Self::NoLongerInPool => "no longer has this address",
            Self::NotAdmitted(NotAdmitted::Namespace) => "is no longer open to this namespace",
            Self::NotAdmitted(NotAdmitted::Labels) => "is no longer open to Services with these labels",
        };
        Cow::Borrowed(text)
    }
}
