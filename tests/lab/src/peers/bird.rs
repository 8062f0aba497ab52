//! BIRD 2.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Host, Path};
use crate::netns;
use crate::process::{Process, Spec};
use crate::wait::wait_for;

/// BIRD on a host.
#[derive(Debug)]
pub struct Bird {
    process: Process,
    socket: PathBuf,
}

/// A BGP session as BIRD reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BirdSession {
    /// `Established`, `Passive`, …
    pub state: String,
    /// `external AS4`, `internal multihop AS4`, …; empty unless established.
    pub kind: String,
    /// BGP identifier of the peer; empty unless established.
    pub router_id: String,
    /// Negotiated hold time.
    pub hold_time: Option<Duration>,
    /// Why the session ended last: `Received: Administrative shutdown`.
    pub last_error: String,
    /// Shutdown communication (RFC 9003).
    pub message: String,
    /// UPDATEs with routes received, and withdrawals received.
    pub received: (u64, u64),
}

impl Bird {
    /// Starts BIRD with `config`, to which the router ID is added.
    pub fn start(host: &Host, config: &str) -> Result<Self> {
        Self::start_file(host, &format!("router id {};\nprotocol device {{}}\n{config}", host.address().v4))
    }

    /// Starts BIRD with the contents of a complete configuration file.
    pub fn start_file(host: &Host, config: &str) -> Result<Self> {
        let socket = host.file("bird.ctl");
        let text = format!("log stderr all;\n{config}");
        let spec = Spec::new(host.name(), program("bird"))
            // In the foreground, with its files in the lab's folder.
            .arg("-f")
            .arg("-c")
            .arg(host.write("bird.conf", &text)?)
            .arg("-s")
            .arg(&socket)
            .arg("-P")
            .arg(host.file("bird.pid"));
        let bird = Self { process: host.start(spec)?, socket };
        wait_for("BIRD to respond", Duration::from_secs(60), || {
            if !bird.process.is_running() {
                bail!("it ended: {}", bird.process.tail(5));
            }
            bird.birdc("show status")
        })?;
        Ok(bird)
    }

    /// Returns its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Runs a birdc command and returns its output without the greeting.
    pub fn birdc(&self, command: &str) -> Result<String> {
        let text = netns::output(Command::new(program("birdc")).arg("-s").arg(&self.socket).arg(command))?;
        Ok(text.split_once('\n').map(|(_greeting, rest)| rest.to_owned()).unwrap_or(text))
    }

    /// Returns the session of the BGP protocol `name`.
    pub fn session(&self, name: &str) -> Result<BirdSession> {
        Ok(parse_session(&self.birdc(&format!("show protocols all {name}"))?))
    }

    /// Returns all paths learned by BGP, best or not.
    pub fn paths(&self) -> Result<BTreeSet<Path>> {
        parse_paths(&self.birdc("show route all where source = RTS_BGP")?)
    }
}

/// Debian installs it outside the `PATH` of ordinary users.
fn program(name: &str) -> PathBuf {
    let installed = std::path::Path::new("/usr/sbin").join(name);
    if installed.exists() { installed } else { name.into() }
}

fn parse_session(text: &str) -> BirdSession {
    let mut session = BirdSession::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        let number =
            |n: usize| value.split_whitespace().nth(n).and_then(|word| word.parse().ok()).unwrap_or(0);
        match key.trim() {
            "BGP state" => session.state = value.to_owned(),
            "Session" => session.kind = value.to_owned(),
            "Neighbor ID" => session.router_id = value.to_owned(),
            // Remaining and total time.
            "Hold timer" => {
                let whole = value.split_once('/').and_then(|(_left, whole)| whole.parse().ok());
                session.hold_time = whole.map(Duration::from_secs);
            }
            "Last error" => session.last_error = value.to_owned(),
            "Message" => session.message = value.to_owned(),
            // One of each per address family.
            "Import updates" => session.received.0 += number(0),
            "Import withdraws" => session.received.1 += number(0),
            _ => {}
        }
    }
    session
}

/// ```text
/// Table master4:
/// 198.51.100.0/32      unicast [n1 10:56:49.747] * (100) [AS64513i]
///         via 192.0.2.11 on eth0
///         Type: BGP univ
///         BGP.origin: IGP
///         BGP.as_path: 64513
///         BGP.next_hop: 192.0.2.11
///                      unicast [n2 10:56:49.721] (100) [AS64513i]
///         …
/// ```
fn parse_paths(text: &str) -> Result<BTreeSet<Path>> {
    let mut paths = BTreeSet::new();
    let mut current: Option<Path> = None;
    let mut prefix = None;
    for line in text.lines() {
        if line.trim().is_empty() || line.starts_with("Table ") {
            continue;
        }
        let Some(attribute) = line.strip_prefix('\t') else {
            paths.extend(current.take());
            let first = line.split_whitespace().next().unwrap_or_default();
            if !line.starts_with(' ') {
                prefix = Some(first.parse().with_context(|| format!("prefix in {line:?}"))?);
            }
            let prefix = prefix.context("a path without a prefix")?;
            // The next hop is on the following line.
            let mut path = Path::new(prefix, std::net::Ipv4Addr::UNSPECIFIED.into());
            if !line.contains("unicast") {
                path.other.insert("unreachable".to_owned());
            }
            current = Some(path);
            continue;
        };
        let path = current.as_mut().with_context(|| format!("{line:?} precedes any path"))?;
        let Some((name, value)) = attribute.split_once(": ").or_else(|| attribute.split_once(':')) else {
            continue;
        };
        attribute_of(path, name, value.trim())?;
    }
    paths.extend(current);
    Ok(paths)
}

fn attribute_of(path: &mut Path, name: &str, value: &str) -> Result<()> {
    // `(64513,100) (64513,200)`; large communities have three numbers, `(64513, 1, 2)`.
    let tuples = || {
        value
            .split(')')
            .map(|tuple| tuple.trim_start_matches([' ', '(']).replace([',', ' '], ":").replace("::", ":"))
            .filter(|tuple| !tuple.is_empty())
            .collect::<BTreeSet<String>>()
    };
    match name {
        "BGP.origin" if value == "IGP" => {}
        "BGP.as_path" => path.as_path = value.to_owned(),
        // A second address is link-local.
        "BGP.next_hop" => {
            let global = value.split_whitespace().next().unwrap_or_default();
            path.next_hop = global.parse().with_context(|| format!("next hop {value:?}"))?;
        }
        "BGP.local_pref" => path.local_pref = Some(value.parse()?),
        "BGP.community" => path.communities = tuples(),
        "BGP.large_community" => path.large_communities = tuples(),
        _ => {
            if let Some(name) = name.strip_prefix("BGP.") {
                path.other.insert(format!("{name} {value}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Table master4:
198.51.100.0/32      unicast [n1 10:56:49.747] * (100) [AS4200000001i]
\tvia 192.0.2.11 on eth0
\tType: BGP univ
\tBGP.origin: IGP
\tBGP.as_path: 4200000001
\tBGP.next_hop: 192.0.2.11
\tBGP.local_pref: 100
\tBGP.community: (64513,100) (65535,65281)
\tBGP.large_community: (64513, 1, 2) (64513, 1, 3)
                     unicast [n2 10:56:49.721] (100) [i]
\tvia 192.0.2.12 on eth0
\tType: BGP univ
\tBGP.origin: Incomplete
\tBGP.as_path: 
\tBGP.next_hop: 192.0.2.12
\tBGP.med: 7
\tBGP.local_pref: 250

Table master6:
2001:db8:100::/128   unreachable [n1 10:56:49.747 from 192.0.2.11] * (100) [AS4200000001i]
\tType: BGP univ
\tBGP.origin: IGP
\tBGP.as_path: 4200000001 {1 2}
\tBGP.next_hop: 2001:db8:1::11 fe80::1
";

    #[test]
    fn paths_are_parsed_with_attributes() {
        let paths: Vec<String> = parse_paths(ROUTES).unwrap().iter().map(Path::to_string).collect();
        assert_eq!(
            paths,
            [
                "198.51.100.0/32 via 192.0.2.11 path 4200000001 pref 100 communities 64513:100 65535:65281 \
                 large 64513:1:2 64513:1:3",
                "198.51.100.0/32 via 192.0.2.12 pref 250 also med 7 origin Incomplete",
                "2001:db8:100::/128 via 2001:db8:1::11 path 4200000001 {1 2} also unreachable",
            ]
        );
        assert_eq!(parse_paths("").unwrap(), BTreeSet::new());
    }

    #[test]
    fn shutdown_session_reports_reason() {
        let text = "Name       Proto      Table      State  Since         Info
n1         BGP        ---        start  10:57:20.646  Passive       Received: Administrative shutdown
  Message:        the speaker on this node is stopping
  BGP state:          Passive
    Neighbor address: 192.0.2.11
    Last error:       Received: Administrative shutdown
";
        let session = parse_session(text);
        assert_eq!(session.state, "Passive");
        assert_eq!(session.last_error, "Received: Administrative shutdown");
        assert_eq!(session.message, "the speaker on this node is stopping");
        assert_eq!(session.hold_time, None);
    }

    #[test]
    fn established_session_reports_negotiated_values() {
        let text = "  BGP state:          Established
    Neighbor ID:      192.0.2.11
    Session:          external AS4
    Hold timer:       5.799/9
    Keepalive timer:  0.370/3
  Channel ipv4
    Route change stats:     received   rejected   filtered    ignored   accepted
      Import updates:              3          0          0          0          3
      Import withdraws:            2          0        ---          0          2
  Channel ipv6
      Import updates:              1          0          0          0          1
      Import withdraws:            0          0        ---          0          0
";
        let session = parse_session(text);
        assert_eq!(session.hold_time, Some(Duration::from_secs(9)));
        assert_eq!((session.kind.as_str(), session.router_id.as_str()), ("external AS4", "192.0.2.11"));
        assert_eq!(session.received, (4, 2));
    }
}
