//! Routers besides FRR: BIRD, GoBGP, ExaBGP and a scripted one, each on a host of its own on the LAN.
//!
//! Implementations differ in what they accept, so the tests run the speakers against several. Each reports
//! its routes as [`Path`], so that one table of expected paths fits all of them.
//!
//! Their files and control sockets are in the lab's folder, and their ports are open in their own namespaces
//! only. The lab never touches a router that runs on the host.

mod bird;
mod exabgp;
mod gobgp;
mod host;
mod path;
mod sink;

pub use bird::{Bird, BirdSession};
pub use exabgp::{ExaBgp, Neighbor, Notification};
pub use gobgp::{GoBgp, GoBgpSession};
pub use host::Host;
pub use path::Path;
pub use sink::Sink;
