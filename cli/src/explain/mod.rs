//! `fairlead explain`: the chain from a request to what is on the wire, and where it ends.

mod address;
mod announcements;
mod decision;
mod in_force;
mod node;
mod peer;
mod pool;
mod service;
mod wire;

use std::net::IpAddr;

use anyhow::Result;
use clap::Subcommand;
use fairlead_crds::text::message;
use serde::Serialize;

use crate::cluster::{Snapshot, Unread};
use crate::output::{Format, Report, render as render_report};

pub(crate) use decision::resolved;

/// The subcommands of `explain`, by kind of object.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Subject {
    /// Explains a Service: its addresses or the reason why it has none, pool by pool, and for each address
    /// which nodes announce it, to whom, and why others do not
    #[command(visible_alias = "svc")]
    Service {
        /// Name of the Service, with or without its namespace
        #[arg(value_name = "[NAMESPACE/]NAME")]
        name: String,
    },
    /// Explains which Service has an address, or whether a Service could get it, and who announces it
    #[command(visible_alias = "ip")]
    Address {
        /// The IPv4 or IPv6 address
        address: IpAddr,
    },
    /// Explains if an IPAddressPool is in force, who has its addresses, and what announces them
    Pool {
        /// Name of the IPAddressPool
        name: String,
    },
    /// Explains for each Node if its session with a BGPPeer is established, and the reason if not
    Peer {
        /// Name of the BGPPeer
        name: String,
    },
    /// Explains if a Node may announce, what it announces, and the reason for the rest
    Node {
        /// Name of the Node
        name: String,
    },
}

/// An explanation: a verdict, and the steps that lead to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chain {
    /// Kind and name of the object.
    pub subject: String,
    /// The state as one CamelCase word.
    pub state: String,
    /// The state in plain text.
    pub message: String,
    /// True if the object is as it should be.
    pub is_well: bool,
    /// True if the exit status is 0: of a Service or address, if a Service has the address; of another
    /// object, if it is as it should be.
    #[serde(skip)]
    pub succeeds: bool,
    pub steps: Vec<Step>,
    pub unread: Vec<Unread>,
}

/// One step of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub title: String,
    pub lines: Vec<String>,
}

impl Chain {
    /// Adds a step, unless it has no lines.
    pub(crate) fn push(&mut self, title: impl Into<String>, lines: Vec<String>) {
        if !lines.is_empty() {
            self.steps.push(Step { title: title.into(), lines });
        }
    }
}

impl Report for Chain {
    const KIND: &'static str = "Explanation";

    fn text(&self, _: bool) -> String {
        let why = if self.message.is_empty() { String::new() } else { format!(": {}", self.message) };
        let mut text = format!("{}\n", message(format!("{}: {}{why}", self.subject, self.state)));
        for Step { title, lines } in &self.steps {
            text += &format!("{}\n", message(&**title));
            text.extend(lines.iter().map(|line| format!("  {}\n", message(&**line))));
        }
        text + &crate::status::unread_text(&self.unread)
    }

    fn succeeds(&self) -> bool {
        self.succeeds
    }
}

/// Returns the explanation of an object.
///
/// # Errors
/// Returns an error if there is no such object.
pub(crate) fn render(subject: &Subject, snapshot: &Snapshot, format: Format) -> Result<(String, bool)> {
    let mut chain = match subject {
        Subject::Service { name } => {
            service::explain(snapshot, &crate::service_key(name, &snapshot.namespace))?
        }
        Subject::Address { address } => address::explain(snapshot, *address)?,
        Subject::Pool { name } => pool::explain(snapshot, name)?,
        Subject::Peer { name } => peer::explain(snapshot, name)?,
        Subject::Node { name } => node::explain(snapshot, name)?,
    };
    chain.unread.clone_from(&snapshot.unread);
    Ok((render_report(&chain, format)?, chain.succeeds))
}
