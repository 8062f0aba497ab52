//! Routers of other makes beside FRR: BIRD, GoBGP and ExaBGP, each on a host of its own on the LAN.
//!
//! What one implementation takes for granted another refuses, so the speakers are judged by several. All of them say
//! what they have learnt in the same words, [`Path`], so that one table of a test can be held against each.
//!
//! Their files and control sockets lie in the lab's folder and their ports are open in their own namespace only: those
//! of the host, if it runs such a router, are never read, asked or touched.

mod bird;
mod exabgp;
mod gobgp;
mod host;
mod path;

pub use bird::{Bird, BirdSession};
pub use exabgp::{ExaBgp, Neighbor, Notification};
pub use gobgp::{GoBgp, GoBgpSession};
pub use host::Host;
pub use path::Path;
