//! `fairlead version`: the versions of this program, the controllers and the speakers.

use std::collections::BTreeMap;

use anyhow::Result;
use fairlead_crds::text::message;
use serde::Serialize;

use crate::cluster::{Snapshot, Unread};
use crate::output::{Format, Report, render as render_report};

/// The versions of all parts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Versions {
    pub client: &'static str,
    /// Unset if the Deployment cannot be read.
    pub controller: Option<String>,
    /// The nodes of the speakers of each version; unset if no cluster was read.
    pub speakers: Option<BTreeMap<String, Vec<String>>>,
    pub unread: Vec<Unread>,
}

const CLIENT: &str = env!("CARGO_PKG_VERSION");

impl Report for Versions {
    const KIND: &'static str = "Versions";

    fn text(&self, wide: bool) -> String {
        let mut text = format!("Client      {}\n", self.client);
        let Some(speakers) = &self.speakers else { return text };
        let controller = self.controller.as_deref().unwrap_or("unknown");
        text += &format!("Controller  {}\n", message(controller));
        if speakers.is_empty() {
            text += "Speakers    none\n";
        }
        for (version, nodes) in speakers {
            let on = crate::output::list(nodes, if wide { usize::MAX } else { 5 });
            text += &format!("Speakers    {}\n", message(format!("{version} on {on}")));
        }
        text + &crate::status::unread_text(&self.unread)
    }

    fn succeeds(&self) -> bool {
        self.speakers.as_ref().is_none_or(|speakers| speakers.len() < 2)
    }
}

/// Returns the version of this program.
///
/// # Errors
/// Returns an error if it cannot be encoded.
pub(crate) fn client(format: Format) -> Result<bool> {
    let versions = Versions { client: CLIENT, controller: None, speakers: None, unread: Vec::new() };
    crate::output::print(&render_report(&versions, format)?, format);
    Ok(true)
}

/// Returns all versions.
///
/// # Errors
/// Returns an error if they cannot be encoded.
pub(crate) fn render(snapshot: &Snapshot, format: Format) -> Result<(String, bool)> {
    let mut speakers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for speaker in snapshot.speakers().values() {
        let version = speaker.status.version.clone().unwrap_or_else(|| "unknown".to_owned());
        speakers.entry(version).or_default().push(speaker.node.to_owned());
    }
    let deployment = snapshot.deployment.as_ref();
    let version = deployment.map(|one| if one.version.is_empty() { &one.image } else { &one.version });
    let versions = Versions {
        client: CLIENT,
        controller: version.cloned(),
        speakers: Some(speakers),
        unread: snapshot.unread.clone(),
    };
    Ok((render_report(&versions, format)?, versions.succeeds()))
}
