//! Flags of `fairlead-controller`.

use std::net::SocketAddr;

use clap::Parser;
use fairlead_runtime::flags::{Common, listen_address};

/// Gives Services of type LoadBalancer external addresses out of IPAddressPools
#[derive(Clone, Debug, Parser)]
#[command(name = "fairlead-controller", version)]
pub struct Flags {
    /// Flags that all daemons have.
    #[command(flatten)]
    pub common: Common,

    /// Address that /metrics, /healthz and /readyz are served on
    #[arg(
        long,
        env = "FAIRLEAD_METRICS_ADDR",
        default_value = ":7472",
        value_name = "ADDR:PORT",
        value_parser = listen_address
    )]
    pub metrics_addr: SocketAddr,
}
