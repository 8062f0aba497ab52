//! Access to the API server for benchmarks: concurrent requests, and the events of a watch.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fairlead_crds::names::ADVERTISED;
use fairlead_crds::v1beta1::{IPAddressPool, IPAddressPoolSpec};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::objects::{self, Plan};
use fairlead_lab::api;
use fairlead_lab::netns::Netns;
use fairlead_lab::{Lab, NAMESPACE};

/// Concurrent requests when objects are created.
const IN_FLIGHT: usize = 32;

/// Name of the controllers' Lease.
const LEASE: &str = "fairlead-controller";

/// Limit for listing all Services.
const LISTED_WITHIN: Duration = Duration::from_secs(30);

/// A client of the lab's API server with a runtime of its own.
#[derive(Debug)]
pub(crate) struct Control {
    // The runtime owns the tasks of the watches.
    runtime: tokio::runtime::Runtime,
    netns: Netns,
    kubeconfig: PathBuf,
    services: Api<Service>,
    slices: Api<EndpointSlice>,
}

/// Addresses that a watch on all Services has reported, with their arrival times.
#[derive(Debug)]
pub(crate) struct Watch {
    events: Receiver<Seen>,
    addresses: BTreeMap<String, (Ipv4Addr, Instant)>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    name: String,
    address: Option<Ipv4Addr>,
}

/// The fields that are read from the response to a patch.
#[derive(Deserialize)]
struct Answered {
    #[serde(rename = "metadata")]
    _metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "resourceVersion")]
    _resource_version: String,
}

impl Control {
    /// Connects from the control plane's namespace.
    ///
    /// # Errors
    /// If the API server refuses the connection.
    pub(crate) fn connect(lab: &Lab) -> Result<Self> {
        let runtime = api::runtime_in(&lab.network().control_plane)?;
        let kubeconfig = lab.api_server()?.kubeconfig().to_owned();
        let path = kubeconfig.clone();
        let client: Client = runtime.block_on(runtime.spawn(async move { api::connect(&path).await }))??;
        Ok(Self {
            runtime,
            netns: lab.network().control_plane.clone(),
            kubeconfig,
            services: Api::default_namespaced(client.clone()),
            slices: Api::default_namespaced(client),
        })
    }

    fn run<T: Send + 'static>(&self, future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        // Spawned, because connections must be opened on threads inside the namespace.
        self.runtime.block_on(self.runtime.spawn(future))?
    }

    /// Creates the slices, then the Services, concurrently. Returns the time that the Services took.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn create(&self, plans: &[Plan]) -> Result<Duration> {
        let slices = plans.iter().map(Plan::slice).collect::<serde_json::Result<Vec<_>>>()?;
        self.create_all(self.slices.clone(), slices).context("create EndpointSlices")?;
        self.create_services(plans)
    }

    /// Creates Services without slices, concurrently. Returns the time taken.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn create_services(&self, plans: &[Plan]) -> Result<Duration> {
        let services = plans.iter().map(Plan::service).collect::<serde_json::Result<Vec<_>>>()?;
        self.create_all(self.services.clone(), services).context("create Services")
    }

    /// Creates pools of one address, numbered, one after another.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn create_pools(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let api = Api::<IPAddressPool>::all(self.services.clone().into_client());
        self.run(async move {
            for n in numbers {
                let address = format!("198.18.{}.{}/32", n / 256, n % 256);
                // With the defaults of the API server, which an empty value would not get.
                let spec = serde_json::from_value::<IPAddressPoolSpec>(
                    serde_json::json!({ "addresses": [address] }),
                )?;
                let pool = IPAddressPool::new(&format!("bench-{n:05}"), spec);
                api.create(&PostParams::default(), &pool).await?;
            }
            Ok(())
        })
    }

    fn create_all<K>(&self, api: Api<K>, objects: Vec<K>) -> Result<Duration>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
    {
        self.run(async move {
            let start = Instant::now();
            let created = stream::iter(objects).map(|object| {
                let api = &api;
                async move { api.create(&PostParams::default(), &object).await.map(drop) }
            });
            created.buffer_unordered(IN_FLIGHT).try_collect::<()>().await?;
            Ok(start.elapsed())
        })
    }

    /// Creates the slice of `plan`.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub(crate) fn create_slice(&self, plan: &Plan) -> Result<()> {
        let (api, slice) = (self.slices.clone(), plan.slice()?);
        self.run(async move { Ok(api.create(&PostParams::default(), &slice).await.map(drop)?) })
    }

    /// Creates the Service of `plan`. Returns when the request was sent and how long the response took.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub(crate) fn create_service(&self, plan: &Plan) -> Result<(Instant, Duration)> {
        let (api, service) = (self.services.clone(), plan.service()?);
        self.run(async move {
            let sent = Instant::now();
            api.create(&PostParams::default(), &service).await?;
            Ok((sent, sent.elapsed()))
        })
    }

    /// Deletes a Service.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub(crate) fn delete_service(&self, name: &str) -> Result<()> {
        let (api, name) = (self.services.clone(), name.to_owned());
        self.run(async move { Ok(api.delete(&name, &DeleteParams::default()).await.map(drop)?) })
    }

    /// Sets the readiness of the endpoint of a `Local` Service.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub(crate) fn set_ready(&self, name: &str, ready: bool) -> Result<()> {
        let (api, name) = (self.slices.clone(), name.to_owned());
        let patch = Patch::Merge(objects::readiness(ready));
        self.run(async move { Ok(api.patch(&name, &PatchParams::default(), &patch).await.map(drop)?) })
    }

    /// Measures a plain writer of status: patches every Service of `names` with the result of `patch` for its
    /// index and resourceVersion, `in_flight` at a time. Returns the total time and the time of each request.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn patch_statuses(
        &self,
        names: &[String],
        in_flight: usize,
        patch: impl Fn(usize, &str) -> Value,
    ) -> Result<(Duration, Vec<Duration>)> {
        let versions = self.versions()?;
        let patches = names.iter().enumerate().map(|(i, name)| {
            let version = versions.get(name).with_context(|| format!("Service {name} does not exist"))?;
            Ok((name.clone(), Patch::Merge(patch(i, version))))
        });
        let patches = patches.collect::<Result<Vec<_>>>()?;
        let request = kube::core::Request::new(self.services.resource_url());
        let writing = async {
            let client = api::connect(&self.kubeconfig).await?;
            let parameters = PatchParams { field_manager: Some("bench".to_owned()), ..Default::default() };
            let start = Instant::now();
            let sent = stream::iter(patches).map(|(name, patch)| {
                let (client, request, parameters) = (&client, &request, &parameters);
                async move {
                    let start = Instant::now();
                    let request = request.patch_subresource("status", &name, parameters, &patch)?;
                    // The same request as the controller's, and the response is read no further either.
                    client.request::<Answered>(request).await?;
                    anyhow::Ok(start.elapsed())
                }
            });
            let each: Vec<Duration> = sent.buffer_unordered(in_flight.max(1)).try_collect().await?;
            anyhow::Ok((start.elapsed(), each))
        };
        // One thread, as in the controller; handing work between threads would cost more than it gains.
        self.netns
            .run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(writing)
            })?
            .context("patch statuses")
    }

    /// Returns the resourceVersions of all Services.
    fn versions(&self) -> Result<BTreeMap<String, String>> {
        let api = self.services.clone();
        self.run(async move {
            let list = api.list_metadata(&ListParams::default()).await?;
            let versions = list.items.into_iter();
            Ok(versions.map(|item| (item.name_any(), item.resource_version().unwrap_or_default())).collect())
        })
    }

    /// Returns the API server's revision, which every write increments.
    ///
    /// # Errors
    /// If the API server does not respond.
    pub(crate) fn revision(&self) -> Result<u64> {
        let api = self.services.clone();
        self.run(async move {
            let list = api.list_metadata(&ListParams::default().limit(1)).await?;
            list.metadata
                .resource_version
                .context("a list without a version")?
                .parse()
                .context("resourceVersion")
        })
    }

    /// Returns the resourceVersion of the controllers' Lease, which the leader renews continuously.
    ///
    /// # Errors
    /// If the API server does not respond.
    pub(crate) fn lease_version(&self) -> Result<Option<u64>> {
        let api = Api::<Lease>::namespaced(self.services.clone().into_client(), NAMESPACE);
        self.run(async move {
            let lease = api.get_metadata_opt(LEASE).await?;
            let version = lease.and_then(|lease| lease.metadata.resource_version);
            version.map(|version| version.parse().context("resourceVersion")).transpose()
        })
    }

    /// Returns the holder of the controllers' Lease.
    ///
    /// # Errors
    /// If the Lease has no holder, or the API server does not respond.
    pub(crate) fn lease_holder(&self) -> Result<String> {
        let api = Api::<Lease>::namespaced(self.services.clone().into_client(), NAMESPACE);
        self.run(async move {
            let holder = api.get(LEASE).await?.spec.and_then(|spec| spec.holder_identity);
            holder.filter(|holder| !holder.is_empty()).context("no controller leads")
        })
    }

    /// Watches the addresses of all Services from now on, beginning with a list.
    ///
    /// # Errors
    /// If the list fails.
    pub(crate) fn watch(&self) -> Result<Watch> {
        self.watch_with(address)
    }

    /// Watches all Services like [`Control::watch`], and reports the address of a Service only while its
    /// condition `fairlead.dev/Advertised` is true.
    ///
    /// # Errors
    /// If the list fails.
    pub(crate) fn watch_advertised(&self) -> Result<Watch> {
        self.watch_with(|service| address(service).filter(|_| is_advertised(service)))
    }

    fn watch_with(&self, address: fn(&Service) -> Option<Ipv4Addr>) -> Result<Watch> {
        let (sink, events) = channel();
        let (listed, list) = channel();
        let api = self.services.clone();
        self.runtime.spawn(async move {
            let config = watcher::Config::default().fields("spec.type=LoadBalancer");
            let mut stream = watcher(api, config).boxed();
            while let Some(event) = stream.next().await {
                let at = Instant::now();
                let seen = match event {
                    Ok(Event::Apply(service) | Event::InitApply(service)) => {
                        Seen { at, name: service.name_any(), address: address(&service) }
                    }
                    Ok(Event::Delete(service)) => Seen { at, name: service.name_any(), address: None },
                    Ok(Event::InitDone) => {
                        // Nothing waits for a second list.
                        let _ = listed.send(());
                        continue;
                    }
                    Ok(Event::Init) => continue,
                    Err(error) => {
                        tracing::warn!(%error, "watch");
                        continue;
                    }
                };
                if sink.send(seen).is_err() {
                    return;
                }
            }
        });
        list.recv_timeout(LISTED_WITHIN).context("no list of Services")?;
        Ok(Watch { events, addresses: BTreeMap::new() })
    }
}

impl Watch {
    /// Waits until the Service has an address. Returns the address and when the watch first reported it.
    ///
    /// # Errors
    /// If it has none within `limit`.
    pub(crate) fn address(&mut self, name: &str, limit: Duration) -> Result<(Ipv4Addr, Instant)> {
        self.until(limit, |addresses| addresses.get(name).copied())
            .with_context(|| format!("Service {name} has no address after {limit:?}"))
    }

    /// Waits until `count` Services whose names begin with `prefix` have an address. Returns when each was
    /// first reported.
    ///
    /// # Errors
    /// If fewer have one within `limit`.
    pub(crate) fn addresses(
        &mut self,
        prefix: &str,
        count: usize,
        limit: Duration,
    ) -> Result<BTreeMap<Ipv4Addr, Instant>> {
        let of = |addresses: &BTreeMap<String, (Ipv4Addr, Instant)>| -> usize {
            addresses.keys().filter(|name| name.starts_with(prefix)).count()
        };
        // Counts once per batch of events, not once per event.
        let found = self.until(limit, |addresses| (of(addresses) >= count).then_some(()));
        if found.is_none() {
            bail!("{} of {count} Services have an address after {limit:?}", of(&self.addresses));
        }
        let found = self.addresses.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(_, seen)| *seen).collect())
    }

    /// Waits until a Service that had an address has none, or is deleted.
    ///
    /// # Errors
    /// If it still has one after `limit`.
    pub(crate) fn gone(&mut self, name: &str, limit: Duration) -> Result<()> {
        self.until(limit, |addresses| (!addresses.contains_key(name)).then_some(()))
            .with_context(|| format!("Service {name} still has an address after {limit:?}"))
    }

    fn until<T>(
        &mut self,
        limit: Duration,
        mut found: impl FnMut(&BTreeMap<String, (Ipv4Addr, Instant)>) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + limit;
        loop {
            while let Ok(seen) = self.events.try_recv() {
                self.take(seen);
            }
            if let Some(found) = found(&self.addresses) {
                return Some(found);
            }
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(seen) => self.take(seen),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn take(&mut self, seen: Seen) {
        match seen.address {
            // Only the first report counts.
            Some(address) => drop(self.addresses.entry(seen.name).or_insert((address, seen.at))),
            None => drop(self.addresses.remove(&seen.name)),
        }
    }
}

fn is_advertised(service: &Service) -> bool {
    let conditions = service.status.iter().flat_map(|status| &status.conditions).flatten();
    conditions.into_iter().any(|condition| condition.type_ == ADVERTISED && condition.status == "True")
}

fn address(service: &Service) -> Option<Ipv4Addr> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.iter().find_map(|ingress| ingress.ip.as_ref()?.parse().ok())
}
