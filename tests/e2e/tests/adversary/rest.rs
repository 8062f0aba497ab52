//! What must be true when an attack has ended: no more writes, and a reason for everything that does not
//! work.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use axum::http::Request;
use fairlead_e2e::{SECOND, VERSION};
use fairlead_lab::{Lab, Process, ensure, observe_for, wait_for};
use serde_json::{Value, json};

/// Limit until the last write.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// Memory limit of both programs in their manifests, in KiB.
const MEMORY: u64 = 256 * 1024;
/// Longest message, in octets.
const MESSAGE: usize = 1024;

/// Every running program of Fairlead.
pub(crate) fn programs(lab: &Lab) -> Vec<&Process> {
    let speakers = lab.nodes().iter().filter_map(|node| node.speaker().ok());
    lab.controllers().iter().chain(speakers).collect()
}

/// Returns the process ids; a program that ended and was not restarted has none.
pub(crate) fn pids(lab: &Lab) -> Vec<Option<u32>> {
    programs(lab).iter().map(|program| program.pid()).collect()
}

/// Waits until nothing was written for three seconds.
pub(crate) fn expect_no_writes(lab: &Lab) -> Result<()> {
    let mut before = versions(lab)?;
    wait_for("three seconds without a write", QUIET_WITHIN, || {
        observe_for(3 * SECOND);
        let now = versions(lab)?;
        let changed: Vec<_> = now
            .iter()
            .filter(|(key, version)| before.get(*key) != Some(*version))
            .map(|(key, _)| key)
            .collect();
        let seen = format!("{} objects changed, such as {:?}", changed.len(), changed.first());
        let is_quiet = changed.is_empty() && now.len() == before.len();
        before = now;
        ensure(is_quiet, seen).map_err(|seen| anyhow!(seen))
    })
}

/// Checks the memory of every program.
pub(crate) fn expect_little_memory(lab: &Lab) -> Result<()> {
    for program in programs(lab) {
        let Some(pid) = program.pid() else { bail!("{} does not run", program.name()) };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak: u64 =
            peak.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(u64::MAX);
        eprintln!("{}: at most {peak} KiB", program.name());
        if peak > MEMORY {
            bail!("{} used {peak} KiB of {MEMORY} KiB", program.name());
        }
    }
    Ok(())
}

/// Checks that every Service without an address has a reason, unless the API server refuses any change of its
/// status.
pub(crate) fn expect_reasons(lab: &Lab) -> Result<()> {
    let mut wrong = Vec::new();
    for service in lab.api()?.list("v1", "Service")? {
        let spec = &service["spec"];
        let is_ours = spec["type"] == "LoadBalancer" && spec["loadBalancerClass"].is_null();
        if !is_ours || !service["metadata"]["deletionTimestamp"].is_null() {
            continue;
        }
        let conditions = service["status"]["conditions"].as_array();
        let allocated = conditions.into_iter().flatten().find(|one| one["type"] == "fairlead.dev/Allocated");
        let text = |field: &str| allocated.and_then(|one| one[field].as_str()).unwrap_or_default().to_owned();
        let is_told = !text("reason").is_empty() && !text("message").is_empty();
        let is_served = text("status") == "True" && service["status"]["loadBalancer"]["ingress"].is_array();
        if text("message").len() > MESSAGE {
            wrong.push(format!("{}: a message of {} octets", name(&service), text("message").len()));
        } else if !is_told && !is_served && takes_status(lab, &service)? {
            wrong.push(format!("{}: {:?}", name(&service), allocated));
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{} without a reason: {}", wrong.len(), wrong.join("; ")) }
}

/// Checks that no program panicked, and that nobody forges or floods its log.
pub(crate) fn expect_clean_logs(lab: &Lab) -> Result<()> {
    for program in programs(lab) {
        let log = String::from_utf8_lossy(&std::fs::read(program.log())?).into_owned();
        for line in log.lines() {
            if line.contains("panicked") || line.contains("ERROR forged") && line.starts_with("2026-01-01") {
                bail!("{}: {line}", program.name());
            }
            if line.len() > 8 * MESSAGE {
                bail!("{}: a line of {} octets: {:.200}", program.name(), line.len(), line);
            }
        }
    }
    Ok(())
}

/// Returns true if the API server accepts a condition on a Service, which it does not on an object that is
/// too large, or whose times it cannot read.
fn takes_status(lab: &Lab, service: &Value) -> Result<bool> {
    let mut conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.push(json!({
        "type": "example.com/Probe", "status": "True", "reason": "Probe", "message": "x".repeat(2 * MESSAGE),
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }));
    let object_size = service.to_string().len();
    let path = format!(
        "/api/v1/namespaces/{}/services/{}/status?dryRun=All",
        field(service, "namespace"),
        name(service)
    );
    let request = Request::patch(path)
        .header("content-type", "application/merge-patch+json")
        .body(json!({ "status": { "conditions": conditions } }).to_string().into_bytes())?;
    let api = lab.api()?;
    let client = api.client();
    let accepted = api.run(async move { client.request_text(request).await.is_ok() });
    // A dry run does not reach the storage, which refuses large objects.
    Ok(accepted && object_size < 1_400_000)
}

/// The resourceVersion of every object that Fairlead could write.
fn versions(lab: &Lab) -> Result<BTreeMap<String, String>> {
    let kinds = [
        ("v1", "Service"),
        ("v1", "Secret"),
        ("events.k8s.io/v1", "Event"),
        (VERSION, "IPAddressPool"),
        (VERSION, "IPClaim"),
        (VERSION, "L2Advertisement"),
        (VERSION, "BGPAdvertisement"),
        (VERSION, "BGPPeer"),
        (VERSION, "BFDProfile"),
        (VERSION, "Community"),
        (VERSION, "Speaker"),
    ];
    let mut versions = BTreeMap::new();
    for (version, kind) in kinds {
        for object in lab.api()?.list(version, kind)? {
            let key = format!("{kind} {}/{}", field(&object, "namespace"), name(&object));
            versions.insert(key, field(&object, "resourceVersion").to_owned());
        }
    }
    Ok(versions)
}

fn name(object: &Value) -> &str {
    field(object, "name")
}

fn field<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}
