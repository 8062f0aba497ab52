//! BGP messages on the wire, as Wireshark's dissector reads them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::netns::{self, Netns};
use crate::process::{Process, Spec};
use crate::topology::LAN_INTERFACE;
use crate::wait::wait_for;

/// Display filter of packets that the dissector takes for malformed or suspicious, apart from lost and
/// repeated TCP segments.
const SUSPICIOUS: &str = "_ws.malformed || (bgp && _ws.expert.severity >= 0x600000 && !tcp.analysis.flags)";

/// A recording of BGP sessions, in a file.
#[derive(Debug)]
pub struct BgpRecording {
    tcpdump: Process,
    file: PathBuf,
}

impl Lab {
    /// Starts to record the BGP messages that the router sends and receives.
    ///
    /// # Errors
    /// If tcpdump does not start.
    pub fn record_bgp(&self) -> Result<BgpRecording> {
        self.record_bgp_in(&self.network().router)
    }

    /// Starts to record the BGP messages that a node exchanges with all its routers.
    ///
    /// # Errors
    /// If the node does not exist, or tcpdump does not start.
    pub fn record_bgp_of(&self, node: &str) -> Result<BgpRecording> {
        let node = self.network().nodes.iter().find(|network| network.name == node);
        self.record_bgp_in(&node.context("this node does not exist")?.netns)
    }

    fn record_bgp_in(&self, netns: &Netns) -> Result<BgpRecording> {
        let logs = self.dir().join("logs");
        let file = logs.join("bgp.pcap");
        // The file of an earlier recording does not mean that this one has begun.
        let _ = fs::remove_file(&file);
        let spec = Spec::new("tcpdump", "tcpdump")
            .args(["-i", LAN_INTERFACE, "-U", "--immediate-mode", "-Z", "root", "-w"])
            .arg(&file)
            .arg("tcp port 179");
        let recording = BgpRecording { tcpdump: Process::start(spec, netns, &logs)?, file };
        // tcpdump writes the header of the file when its socket is open.
        wait_for("tcpdump to record", Duration::from_secs(20), || {
            let length = fs::metadata(&recording.file).map_or(0, |file| file.len());
            if length > 0 { Ok(()) } else { Err(recording.tcpdump.tail(3)) }
        })?;
        Ok(recording)
    }
}

impl BgpRecording {
    /// Ends the recording. Returns what the dissector finds suspicious, one line for each packet.
    ///
    /// # Errors
    /// If nothing was recorded, or tshark fails.
    pub fn suspicious(self) -> Result<Vec<String>> {
        self.tcpdump.terminate(Duration::from_secs(10))?;
        let updates = self.tshark("bgp.type == 2")?;
        updates.lines().next().context("no UPDATE was recorded")?;
        Ok(self.tshark(SUSPICIOUS)?.lines().map(str::to_owned).collect())
    }

    fn tshark(&self, filter: &str) -> Result<String> {
        netns::output(Command::new("tshark").arg("-r").arg(&self.file).args(["-Y", filter]))
            .with_context(|| format!("tshark -r {}", self.file.display()))
    }
}
