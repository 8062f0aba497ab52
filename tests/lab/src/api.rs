//! A blocking client of the Kubernetes API, which connects from inside the control plane's namespace.
//!
//! All asynchronous work runs on a runtime whose threads have entered that namespace, so that every
//! connection is opened there.

use std::fmt::Debug;
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api as KubeApi, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope};
use kube::{Client, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::netns::Netns;
use crate::wait::wait_for;

/// Field manager of everything the lab applies.
pub const FIELD_MANAGER: &str = "fairlead-lab";

/// Limit for the start of the server, after it listens.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A blocking client of the lab's API server.
pub struct Api {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

/// Returns a runtime whose threads all run in `netns`.
pub fn runtime_in(netns: &Netns) -> Result<tokio::runtime::Runtime> {
    // The threads below cannot report a failure; this thread can.
    netns.run(|| ())?;
    let inside = netns.clone();
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(netns.name())
        .on_thread_start(move || {
            if let Err(error) = inside.enter() {
                eprintln!("enter network namespace {}: {error}", inside.name());
                std::process::abort();
            }
        })
        .enable_all()
        .build()?)
}

/// Returns a client for a kubeconfig file. It fails at once instead of retrying.
pub async fn connect(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    Ok(Client::try_from(config)?)
}

impl Api {
    /// Connects from inside `netns`.
    pub fn connect(netns: &Netns, kubeconfig: &Path) -> Result<Self> {
        let runtime = runtime_in(netns)?;
        let path = kubeconfig.to_owned();
        let client = runtime.block_on(runtime.spawn(async move { connect(&path).await }))??;
        Ok(Self { runtime, client })
    }

    /// Waits until the server reports ready. A real one listens long before that.
    pub fn wait_until_ready(&self) -> Result<()> {
        wait_for("the API server to be ready", READY_WITHIN, || {
            let client = self.client.clone();
            self.run(async move {
                let request = kube::core::Request::new("").get("readyz", &Default::default())?;
                anyhow::Ok(client.request_text(request).await?)
            })
            .map(drop)
        })
    }

    /// Returns the client. Its futures must run in [`Self::run`].
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Runs a future inside the namespace and blocks until it completes.
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        match self.runtime.block_on(self.runtime.spawn(future)) {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Applies every document of a YAML text, as `kubectl apply --server-side --force-conflicts` does.
    /// Returns the objects as `kind/name`.
    pub fn apply(&self, yaml: &str) -> Result<Vec<String>> {
        let mut applied = Vec::new();
        for document in documents(yaml)? {
            applied.push(self.apply_object(document)?);
        }
        Ok(applied)
    }

    /// Applies every YAML file of a folder in the order of their names, except kustomizations.
    pub fn apply_dir(&self, dir: &Path) -> Result<Vec<String>> {
        let mut applied = Vec::new();
        for (path, text) in yaml_files(dir)? {
            applied.extend(self.apply(&text).with_context(|| path.display().to_string())?);
        }
        Ok(applied)
    }

    /// Returns true if the API server serves the custom resource `customresourcedefinition/NAME`.
    pub fn is_established(&self, what: &str) -> Result<()> {
        let name = what.rsplit('/').next().unwrap_or(what);
        let crd = self.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, name)?;
        let conditions = crd.pointer("/status/conditions").and_then(Value::as_array);
        let established =
            conditions.into_iter().flatten().any(|c| c["type"] == "Established" && c["status"] == "True");
        if !established {
            bail!("{name} is not established");
        }
        let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let group = text("/spec/group");
        let version = text("/spec/versions/0/name");
        self.list(&format!("{group}/{version}"), text("/spec/names/kind")).map(drop)
    }

    /// Applies one object.
    pub fn apply_object(&self, object: Value) -> Result<String> {
        let what = describe(&object);
        let client = self.client();
        self.run(async move {
            let (api, object) = typed(client, object).await?;
            let name = object.name_any();
            api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object)).await?;
            anyhow::Ok(())
        })
        .with_context(|| format!("apply {what}"))?;
        Ok(what)
    }

    /// Applies the status of one object.
    pub fn apply_status(&self, object: Value) -> Result<()> {
        let what = describe(&object);
        let client = self.client();
        self.run(async move {
            let (api, object) = typed(client, object).await?;
            let name = object.name_any();
            let patch = json!({ "status": object.data.get("status") });
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            anyhow::Ok(())
        })
        .with_context(|| format!("status of {what}"))
    }

    /// Merges `patch` into an object, which `apiVersion`, `kind`, name and namespace identify.
    pub fn merge(&self, object: Value, patch: Value) -> Result<()> {
        let what = describe(&object);
        let client = self.client();
        self.run(async move {
            let (api, object) = typed(client, object).await?;
            api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
            anyhow::Ok(())
        })
        .with_context(|| format!("patch {what}"))
    }

    /// Deletes every object of a YAML text. An object that does not exist is not an error.
    pub fn delete(&self, yaml: &str) -> Result<()> {
        for document in documents(yaml)? {
            let what = describe(&document);
            let client = self.client();
            self.run(async move {
                let (api, object) = typed(client, document).await?;
                match api.delete(&object.name_any(), &Default::default()).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                    done => done.map(drop).map_err(anyhow::Error::from),
                }
            })
            .with_context(|| format!("delete {what}"))?;
        }
        Ok(())
    }

    /// Returns one object as JSON.
    pub fn get(&self, api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Result<Value> {
        let object = json!({ "apiVersion": api_version, "kind": kind,
                             "metadata": { "name": name, "namespace": namespace } });
        let client = self.client();
        self.run(async move {
            let (api, object) = typed(client, object).await?;
            anyhow::Ok(serde_json::to_value(api.get(&object.name_any()).await?)?)
        })
        .with_context(|| format!("get {kind}/{name}"))
    }

    /// Returns all objects of a kind as JSON.
    pub fn list(&self, api_version: &str, kind: &str) -> Result<Vec<Value>> {
        let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "" } });
        let client = self.client();
        self.run(async move {
            let (resource, _) = resolve(&client, &object).await?;
            let api = KubeApi::<DynamicObject>::all_with(client, &resource);
            let list = api.list(&Default::default()).await?;
            list.items.iter().map(|item| Ok(serde_json::to_value(item)?)).collect::<Result<_>>()
        })
        .with_context(|| format!("list {kind}"))
    }

    /// Returns a Service of the namespace `default`.
    pub fn service(&self, name: &str) -> Result<Service> {
        let api = KubeApi::<Service>::namespaced(self.client(), "default");
        let key = name.to_owned();
        self.run(async move { api.get(&key).await }).with_context(|| format!("get service {name}"))
    }

    /// Returns the external addresses of a Service of the namespace `default`, in the order of its status.
    pub fn addresses(&self, name: &str) -> Result<Vec<IpAddr>> {
        let service = self.service(name)?;
        let balancer = service.status.and_then(|status| status.load_balancer).unwrap_or_default();
        let ingress = balancer.ingress.unwrap_or_default();
        ingress.iter().filter_map(|i| i.ip.as_ref()).map(|ip| Ok(ip.parse()?)).collect()
    }

    /// Waits until a Service of the namespace `default` has `count` external addresses.
    pub fn wait_for_addresses(&self, name: &str, count: usize, limit: Duration) -> Result<Vec<IpAddr>> {
        wait_for(format!("{count} addresses of service {name}"), limit, || {
            let addresses = self.addresses(name)?;
            if addresses.len() == count {
                return Ok(addresses);
            }
            let conditions = self.service(name)?.status.and_then(|s| s.conditions).unwrap_or_default();
            let listed: Vec<_> = conditions
                .iter()
                .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message))
                .collect();
            Err(anyhow!("{addresses:?}, conditions {listed:?}"))
        })
    }

    /// Returns a condition of a Service of the namespace `default`, as `(status, reason, message)`.
    pub fn condition(&self, name: &str, kind: &str) -> Result<Option<(String, String, String)>> {
        let conditions = self.service(name)?.status.and_then(|s| s.conditions).unwrap_or_default();
        Ok(conditions.into_iter().find(|c| c.type_ == kind).map(|c| (c.status, c.reason, c.message)))
    }
}

/// Returns the documents of a YAML text without empty ones.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = Value::deserialize(document).context("YAML")?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

/// Returns the YAML files of a folder with their texts, sorted by name, without kustomizations.
pub fn yaml_files(dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| {
        path.extension().is_some_and(|ext| ext == "yaml") && !path.ends_with("kustomization.yaml")
    });
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), std::fs::read_to_string(&path)?))).collect()
}

fn describe(object: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("?").to_owned();
    let kind = text(object.get("kind")).to_lowercase();
    format!("{kind}/{}", text(object.get("metadata").and_then(|m| m.get("name"))))
}

async fn resolve(client: &Client, object: &Value) -> Result<(ApiResource, Scope)> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).with_context(|| format!("no {key}"));
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let (resource, capabilities) = kube::discovery::pinned_kind(client, &gvk).await?;
    Ok((resource, capabilities.scope))
}

/// Returns the API of the kind of `object`, and the object. An object without a namespace goes to `default`.
async fn typed(client: Client, object: Value) -> Result<(KubeApi<DynamicObject>, DynamicObject)> {
    let (resource, scope) = resolve(&client, &object).await?;
    let object: DynamicObject = serde_json::from_value(object)?;
    if object.metadata.name.is_none() {
        bail!("no metadata.name");
    }
    let api = match scope {
        Scope::Cluster => KubeApi::all_with(client, &resource),
        Scope::Namespaced => {
            let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
            KubeApi::namespaced_with(client, &namespace, &resource)
        }
    };
    Ok((api, object))
}
