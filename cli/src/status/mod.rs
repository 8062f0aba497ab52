//! `fairlead status`: what is wrong, and the state of pools, Services, speakers, sessions and controller.

mod node;
mod peer;
mod pool;
mod problems;
mod service;
mod services;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;
use fairlead_crds::text::message;
use kube::ResourceExt;
use serde::Serialize;

use crate::cluster::{Leader, Snapshot, Unread, Workload};
use crate::output::{Report, indented};

pub(crate) use node::NodeReport;
pub(crate) use peer::PeerReport;
pub(crate) use pool::{PoolReport, PoolRow};
pub(crate) use problems::{Problem, Severity, is_down, session_reason};
pub(crate) use services::{ServiceState, ServiceStatus};

/// The subcommands of `status`, by kind of object. Without a name, all objects of the kind.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Subject {
    /// Shows the state, addresses and pool of Services
    #[command(visible_alias = "svc", alias = "services")]
    Service {
        /// Name of a Service, with or without its namespace
        #[arg(value_name = "[NAMESPACE/]NAME")]
        name: Option<String>,
    },
    /// Shows the speaker of each Node, what it announces, and its BGP sessions
    #[command(alias = "nodes", alias = "speaker")]
    Node {
        /// Name of a Node
        name: Option<String>,
    },
    /// Shows the BGP sessions, as `show bgp summary` of a router
    #[command(alias = "peers")]
    Peer {
        /// Name of a BGPPeer
        name: Option<String>,
    },
    /// Shows the addresses of IPAddressPools
    #[command(alias = "pools")]
    Pool {
        /// Name of an IPAddressPool
        name: Option<String>,
    },
}

/// How many of something are as they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Share {
    pub ready: usize,
    pub wanted: usize,
}

/// The state of the whole installation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overview {
    pub problems: Vec<Problem>,
    pub leader: Leader,
    pub controller: Option<Workload>,
    /// Speakers that are ready, of those that should be.
    pub speakers: Share,
    /// The number of ready speakers of each version.
    pub speaker_versions: BTreeMap<String, usize>,
    /// Sessions that are established, of those that should be.
    pub sessions: Share,
    /// The number of Services in each state.
    pub services: BTreeMap<ServiceState, usize>,
    /// The number of Services of other load balancer classes.
    pub services_of_other_classes: usize,
    pub pools: Vec<PoolRow>,
    /// The kinds that could not be read.
    pub unread: Vec<Unread>,
    #[serde(skip)]
    leader_text: String,
    #[serde(skip)]
    is_forbidden: Vec<&'static str>,
}

impl Overview {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let services = services::all(snapshot);
        let problems = problems::all(snapshot, &services);
        let mut states: BTreeMap<ServiceState, usize> = BTreeMap::new();
        for service in &services {
            *states.entry(service.state).or_default() += 1;
        }
        let speakers = snapshot.speakers();
        let ready = || speakers.values().filter(|speaker| speaker.is_ready());
        let wanted = snapshot.daemonset.as_ref().and_then(|set| usize::try_from(set.wanted).ok());
        let mut versions: BTreeMap<String, usize> = BTreeMap::new();
        for version in ready().filter_map(|speaker| speaker.status.version.clone()) {
            *versions.entry(version).or_default() += 1;
        }
        let sessions: Vec<_> = speakers
            .values()
            .flat_map(|speaker| speaker.status.sessions.iter().map(|session| (speaker.is_ready(), session)))
            .filter(|(_, session)| session.phase != "Shutdown")
            .collect();
        let shown = snapshot.services.iter();
        let shown = shown.filter(|one| snapshot.shows(&one.namespace().unwrap_or_default())).count();
        Self {
            leader: snapshot.leader.clone(),
            leader_text: snapshot.leader.describe(snapshot.now),
            controller: snapshot.deployment.clone(),
            speakers: Share {
                ready: ready().count(),
                wanted: wanted.unwrap_or_default().max(speakers.len()),
            },
            speaker_versions: versions,
            sessions: Share {
                ready: sessions.iter().filter(|(ready, session)| *ready && !is_down(session)).count(),
                wanted: sessions.len(),
            },
            services_of_other_classes: shown.saturating_sub(services.len()),
            services: states,
            pools: pool::rows(snapshot),
            unread: snapshot.unread.clone(),
            is_forbidden: ["speakers", "services", "ipaddresspools"]
                .into_iter()
                .filter(|plural| {
                    snapshot.unread.iter().any(|u| u.resource == *plural && u.reason != "OnlyNamespace")
                })
                .collect(),
            problems,
        }
    }

    fn problems_text(&self) -> String {
        if self.problems.is_empty() {
            return "No problems.\n".to_owned();
        }
        let mut text = format!("{}:\n", crate::output::count(self.problems.len(), "problem"));
        for problem in &self.problems {
            let Problem { severity, object, reason, message: why, command } = problem;
            let severity = if *severity == Severity::Error { "ERROR  " } else { "WARNING" };
            let line = message(format!("{object}: {reason}: {why}"));
            text += &format!("  {severity}  {line}\n           {}\n", message(command.as_str()));
        }
        text
    }

    fn services_text(&self) -> String {
        let total: usize = self.services.values().sum();
        let mut parts: Vec<String> = Vec::new();
        for (state, number) in self.services.iter().rev() {
            let name = match state {
                ServiceState::Announced => "announced",
                ServiceState::Allocated => "allocated",
                ServiceState::Conflict => "in conflict",
                ServiceState::NotAnnounced => "not announced",
                ServiceState::NotCovered => "not covered",
                ServiceState::Pending => "pending",
            };
            parts.push(format!("{number} {name}"));
        }
        let mut text =
            if parts.is_empty() { "0".to_owned() } else { format!("{total}: {}", parts.join(", ")) };
        if self.services_of_other_classes > 0 {
            text += &format!("; {} of other classes", self.services_of_other_classes);
        }
        text
    }
}

impl Report for Overview {
    const KIND: &'static str = "Status";

    fn text(&self, wide: bool) -> String {
        let unknown = |plural: &str, text: String| {
            if self.is_forbidden.contains(&plural) { "unknown".to_owned() } else { text }
        };
        let mut controller = self.leader_text.clone();
        if let Some(deployment) = &self.controller {
            controller += &format!("; {} of {} pods ready", deployment.ready, deployment.wanted);
            if !deployment.version.is_empty() {
                controller += &format!(", version {}", deployment.version.trim_start_matches('v'));
            }
        }
        let versions: Vec<String> = self.speaker_versions.keys().cloned().collect();
        let versions =
            if versions.is_empty() { String::new() } else { format!(", version {}", versions.join(" and ")) };
        let share = |share: &Share, word: &str| format!("{} of {} {word}", share.ready, share.wanted);
        let mut text = self.problems_text() + "\n";
        for (name, value) in [
            ("Controller", controller),
            ("Speakers", unknown("speakers", share(&self.speakers, "ready") + &versions)),
            ("Sessions", unknown("speakers", share(&self.sessions, "established"))),
            ("Services", unknown("services", self.services_text())),
        ] {
            text += &format!("{name:12}{}\n", message(value));
        }
        if !self.pools.is_empty() {
            text += &format!("Pools\n{}", indented(&pool::table_of(&self.pools, wide)));
        }
        text + &unread_text(&self.unread)
    }

    fn succeeds(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != Severity::Error)
    }
}

/// Returns a line for each kind that could not be read.
pub(crate) fn unread_text(unread: &[Unread]) -> String {
    let line = |unread: &Unread| {
        let what = if unread.reason == "OnlyNamespace" { "read in part" } else { "not read" };
        format!("{} {what}: {}\n", unread.resource, message(unread.message.as_str()))
    };
    let lines: String = unread.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// Returns the report on a subject.
///
/// # Errors
/// Returns an error if there is no object of this name, or if the report cannot be encoded.
pub(crate) fn render(
    subject: Option<&Subject>,
    snapshot: &Snapshot,
    format: crate::output::Format,
) -> Result<(String, bool)> {
    use crate::output::render;
    fn both<T: Report>(report: &T, format: crate::output::Format) -> Result<(String, bool)> {
        Ok((render(report, format)?, report.succeeds()))
    }
    match subject {
        None => both(&Overview::of(snapshot), format),
        Some(Subject::Service { name }) => {
            both(&service::ServiceReport::of(snapshot, name.as_deref())?, format)
        }
        Some(Subject::Node { name }) => both(&NodeReport::of(snapshot, name.as_deref())?, format),
        Some(Subject::Peer { name }) => both(&PeerReport::of(snapshot, name.as_deref())?, format),
        Some(Subject::Pool { name }) => both(&PoolReport::of(snapshot, name.as_deref())?, format),
    }
}
