//! `fairlead uninstall`: removes what Fairlead has written into objects that outlive it.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result, bail};
use clap::Args;
use fairlead_allocator::reconcile::uninstall_patch;
use fairlead_crds::kinds::Kind;
use fairlead_crds::names::{CONTROLLER, CONTROLLER_LEASE};
use fairlead_crds::read::timestamp;
use fairlead_crds::text::{MAX_NAME, message, printable};
use fairlead_runtime::client::Connection;
use fairlead_runtime::pages::for_each_listed;
use fairlead_runtime::request::{Failure, request};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::api::{GetParams, ListParams, Patch, PatchParams};
use kube::core::{Request, Resource};
use kube::{Client, Error};
use serde_json::{Value, json};

use crate::connection::Cluster;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Print what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

/// One object and the patch that it needs.
struct Removal {
    /// Kind and name, printable.
    object: String,
    what: &'static str,
    path: String,
    name: String,
    subresource: Option<&'static str>,
    body: Value,
}

/// Removes everything, or prints what would be removed. Returns false if the user does not confirm.
///
/// # Errors
/// Returns an error if the API server is unreachable, if a controller still runs, or if a request fails.
pub(crate) fn run(arguments: &Arguments, cluster: &Cluster) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(uninstall(arguments, cluster))
}

async fn uninstall(arguments: &Arguments, cluster: &Cluster) -> Result<bool> {
    let Connection { client, server } = cluster.connect().await?.connection;
    // In this subcommand, -n names the namespace of Fairlead too.
    let namespace = cluster.namespace.as_ref().unwrap_or(&cluster.fairlead_namespace);
    remove_all(arguments, &client, namespace).await.with_context(|| format!("API server {server}"))
}

async fn remove_all(arguments: &Arguments, client: &Client, namespace: &str) -> Result<bool> {
    if !arguments.dry_run {
        refuse_while_running(client, namespace).await?;
    }
    let mut removals = Vec::new();
    for kind in Kind::ALL {
        if let Some(finalizer) = kind.finalizer() {
            removals.extend(protected(client, *kind, finalizer).await?);
        }
    }
    removals.extend(marked_services(client).await?);
    if removals.is_empty() {
        eprintln!("fairlead: nothing to remove");
        return Ok(true);
    }
    if arguments.dry_run {
        removals.iter().for_each(|removal| println!("{}: would remove {}", removal.object, removal.what));
        return Ok(true);
    }
    if !arguments.yes && !confirmed(removals.len())? {
        return Ok(false);
    }
    for removal in &removals {
        remove(client, removal).await.with_context(|| format!("cannot patch {}", removal.object))?;
        println!("{}: removed {}", removal.object, removal.what);
    }
    Ok(true)
}

/// Asks the user on the terminal.
fn confirmed(objects: usize) -> Result<bool> {
    let mut input = std::io::stdin();
    if !input.is_terminal() {
        bail!("standard input is no terminal: use --yes to confirm, or --dry-run to see what would change");
    }
    let plural = if objects == 1 { "" } else { "s" };
    eprint!("fairlead: patch {objects} object{plural}? Type yes to continue: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::BufReader::new(&mut input).read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Fails while a controller holds the Lease: it would write everything again.
async fn refuse_while_running(client: &Client, namespace: &str) -> Result<()> {
    let path = Request::new(Lease::url_path(&(), Some(namespace)));
    let get = path.get(CONTROLLER_LEASE, &GetParams::default()).map_err(Error::BuildRequest)?;
    // A typed Lease cannot represent every time that the API server stores.
    let lease: Value = match request(client, get).await {
        Err(Failure { error: Error::Api(status), .. }) if status.code == 404 => return Ok(()),
        result => result.context("cannot read the Lease of the controller")?,
    };
    let spec = &lease["spec"];
    let holder = printable(spec["holderIdentity"].as_str().unwrap_or_default(), MAX_NAME);
    let duration = SignedDuration::from_secs(spec["leaseDurationSeconds"].as_i64().unwrap_or_default());
    let renewed = spec["renewTime"].as_str().and_then(timestamp);
    let expires = renewed.map(|renewed| renewed.saturating_add(duration).unwrap_or(renewed));
    if !holder.is_empty() && expires.is_some_and(|expires| expires > Timestamp::now()) {
        bail!(
            "controller {holder} still runs: stop it first with kubectl -n {namespace} delete deployment \
             fairlead-controller"
        );
    }
    Ok(())
}

/// Returns the objects of a kind with the finalizer of Fairlead.
async fn protected(client: &Client, kind: Kind, finalizer: &str) -> Result<Vec<Removal>> {
    let path = kind.url_path();
    let removal = |object: &Value| {
        let metadata = &object["metadata"];
        let finalizers: Vec<&str> =
            metadata["finalizers"].as_array()?.iter().filter_map(Value::as_str).collect();
        finalizers.contains(&finalizer).then_some(())?;
        let rest: Vec<&str> = finalizers.into_iter().filter(|name| *name != finalizer).collect();
        let version = &metadata["resourceVersion"];
        let name = metadata["name"].as_str()?;
        Some(Removal {
            object: message(format!("{kind} {name}")).into_owned(),
            what: "its finalizer",
            path: path.clone(),
            name: name.to_owned(),
            subresource: None,
            body: json!({ "metadata": { "resourceVersion": version, "finalizers": rest } }),
        })
    };
    removals(client, &path, removal).await.with_context(|| format!("cannot list {}", kind.plural()))
}

/// Returns the Services with conditions or the annotation of Fairlead.
async fn marked_services(client: &Client) -> Result<Vec<Removal>> {
    let removal = |service: &Value| {
        let (namespace, name) =
            (service["metadata"]["namespace"].as_str()?, service["metadata"]["name"].as_str()?);
        Some(Removal {
            body: uninstall_patch(service)?,
            object: message(format!("Service {namespace}/{name}")).into_owned(),
            what: "the conditions and the annotation of Fairlead",
            path: Service::url_path(&(), Some(namespace)),
            name: name.to_owned(),
            subresource: Some("status"),
        })
    };
    removals(client, &Service::url_path(&(), None), removal).await.context("cannot list Services")
}

/// Returns what must be removed of the objects at a path; nothing if the API server does not serve the kind.
async fn removals(
    client: &Client,
    path: &str,
    removal: impl Fn(&Value) -> Option<Removal>,
) -> Result<Vec<Removal>> {
    let mut all = Vec::new();
    let everything = ListParams::default();
    let listed = for_each_listed(client, path, &everything, |object| {
        let object: Option<Value> = serde_json::from_str(object).ok();
        all.extend(object.as_ref().and_then(&removal));
    });
    match listed.await {
        Err(Failure { error: Error::Api(status), .. }) if status.code == 404 => Ok(Vec::new()),
        result => Ok(result.map(|_| all)?),
    }
}

async fn remove(client: &Client, removal: &Removal) -> Result<()> {
    let parameters = PatchParams { field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() };
    let (path, merge) = (Request::new(removal.path.clone()), Patch::Merge(()));
    let patch = match removal.subresource {
        Some(subresource) => path.patch_subresource(subresource, &removal.name, &parameters, &merge),
        None => path.patch(&removal.name, &parameters, &merge),
    };
    let mut patch = patch.map_err(Error::BuildRequest)?;
    *patch.body_mut() = removal.body.to_string().into_bytes();
    match request::<Value>(client, patch).await {
        // It was deleted meanwhile.
        Err(Failure { error: Error::Api(status), .. }) if status.code == 404 => Ok(()),
        Err(Failure { error: Error::Api(status), .. }) if status.code == 409 => {
            bail!("it changed meanwhile: run fairlead uninstall again")
        }
        result => Ok(result.map(drop)?),
    }
}
