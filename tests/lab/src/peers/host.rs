//! Additional hosts on the LAN.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::addresses::{self, Dual, LAN_LEN_V4, LEN_V6};
use crate::lab::Lab;
use crate::netns::{self, Netns};
use crate::process::{Process, Spec};
use crate::state;
use crate::topology::{self, LAN_INTERFACE};

/// A host that was connected to a running lab. It ends with the lab.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    netns: Netns,
    address: Dual,
    dir: PathBuf,
    logs: PathBuf,
}

impl Host {
    /// Connects a host to the LAN: `192.0.2.N` and `2001:db8:1::N`, `n` from 3 to 9 or from 101 to 119. Its
    /// bridge port has its name.
    ///
    /// # Errors
    /// If another host of this lab has the address: it stays connected until the lab ends.
    pub fn plug(lab: &Lab, name: &str, n: u8) -> Result<Self> {
        if !matches!(n, 3..=9 | 101..=119) {
            bail!("192.0.2.{n} is not available for additional hosts; use 3 to 9, or 101 to 119");
        }
        let taken = lab.dir().join(format!("host-{n}"));
        fs::File::create_new(&taken).with_context(|| format!("another host has 192.0.2.{n}"))?;
        let address = Dual { v4: [192, 0, 2, n].into(), v6: format!("2001:db8:1::{n}").parse()? };
        let namespace = format!("{}-{name}", lab.id());
        netns::create(std::slice::from_ref(&namespace))?;
        let netns = Netns::open(&namespace)?;
        netns.sysctl(&[
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
        ])?;
        let mac = addresses::lan_mac(address);
        topology::batch(
            &lab.network().lan,
            &format!(
                "link add {name} type veth peer name {LAN_INTERFACE} address {mac} netns {namespace}\n\
                 link set {name} master {} up\n",
                topology::BRIDGE
            ),
        )
        .with_context(|| format!("connect {name}"))?;
        topology::batch(
            &netns,
            &format!(
                "link set lo up\nlink set {LAN_INTERFACE} up\n\
                 addr add {}/{LAN_LEN_V4} dev {LAN_INTERFACE}\n\
                 addr add {}/{LEN_V6} dev {LAN_INTERFACE} nodad\n",
                address.v4, address.v6
            ),
        )?;
        let dir = lab.dir().join(name);
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self { name: name.to_owned(), netns, address, dir, logs: state::logs(lab.id()) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Returns its addresses.
    pub fn address(&self) -> Dual {
        self.address
    }

    /// Returns the path of a file in its folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file into its folder.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    pub(super) fn start(&self, spec: Spec) -> Result<Process> {
        Process::start(spec, &self.netns, &self.logs)
    }
}
