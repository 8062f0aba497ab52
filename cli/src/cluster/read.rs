//! Reading of a [`Snapshot`]. A kind that the user may not read, or that the API server does not serve, is
//! noted, and the rest is read.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use fairlead_crds::configuration_kinds;
use fairlead_crds::kinds::{ConfigurationObject as _, ObjectRef};
use fairlead_crds::names::{CONTROLLER, CONTROLLER_LEASE, SPEAKER};
use fairlead_crds::objects::{EndpointSlice, Namespace, Node, Service, ServiceCIDR};
use fairlead_crds::read::{Custom, ReadObject};
use fairlead_crds::store::{ConfigurationChange, ObjectChange, trim};
use fairlead_crds::text::message;
use fairlead_crds::v1beta1::{self, IPClaim, PoolCooldown, Speaker};
use fairlead_runtime::request::{Failure, request};
use fairlead_runtime::watch;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, GetParams, ListParams};
use kube::core::Request;
use kube::{Client, Error, Resource};
use serde_json::Value;

use super::{Leader, ObjectState, Snapshot, Unread, Workload};
use crate::connection::Cluster;

/// Reads the cluster.
///
/// # Errors
/// Returns an error if there is no valid connection, or if a request fails for another reason than a missing
/// permission or kind.
pub(crate) async fn read(cluster: &Cluster) -> Result<Snapshot> {
    let target = cluster.connect().await?;
    let reader = Reader {
        client: target.connection.client,
        namespace: target.namespace.clone(),
        unread: RefCell::default(),
    };
    let server = target.connection.server;
    let snapshot = reader.snapshot(cluster).await.with_context(|| format!("API server {server}"));
    Ok(Snapshot { namespace: target.namespace, ..snapshot? })
}

struct Reader {
    client: Client,
    namespace: String,
    unread: RefCell<Vec<Unread>>,
}

impl Reader {
    async fn snapshot(&self, cluster: &Cluster) -> Result<Snapshot> {
        let instance = cluster.instance();
        let now = Timestamp::now();
        let (mut configuration, mut objects) = (Vec::new(), BTreeMap::new());
        macro_rules! list_kinds {
            ($($kind:ident => $field:ident,)*) => {$(
                let list = self.list::<Custom<v1beta1::$kind>>(watch::config()).await?;
                for object in &list {
                    let state = ObjectState {
                        generation: object.object.metadata.generation,
                        conditions: object.object.conditions().to_vec(),
                    };
                    let reference: ObjectRef = object.object.reference();
                    objects.insert(reference, state);
                }
                let list = list.into_iter().map(trim).collect();
                configuration.push(ConfigurationChange::$kind(ObjectChange::Reset(list)));
            )*};
        }
        configuration_kinds!(list_kinds);
        let pools = configuration.iter().flat_map(|change| match change {
            ConfigurationChange::IPAddressPool(ObjectChange::Reset(pools)) => {
                pools.iter().map(|pool| pool.object.clone()).collect()
            }
            _ => Vec::new(),
        });
        let pools = pools.collect();
        let balancers = watch::config().fields("spec.type=LoadBalancer");
        let speakers = self.list::<Custom<Speaker>>(watch::config()).await?;
        let (lease, deployment, daemonset) = tokio::try_join!(
            self.get::<Lease>(&instance.namespace, CONTROLLER_LEASE),
            self.get::<Deployment>(&instance.namespace, CONTROLLER),
            self.get::<DaemonSet>(&instance.namespace, SPEAKER),
        )?;
        let leader = match &lease {
            Some(lease) => Leader::of(lease, now),
            None if self.is_unread("leases") => Leader::Unknown,
            None => Leader::None,
        };
        let services = self.list_namespaced::<Service>(balancers).await?;
        let claims = self.list_namespaced::<Custom<IPClaim>>(watch::config()).await?;
        let slices = self.list_namespaced::<EndpointSlice>(watch::config()).await?;
        let nodes = self.list::<Node>(watch::config()).await?;
        let namespaces = self.list::<Namespace>(watch::config()).await?;
        let ranges = self.list::<ServiceCIDR>(watch::config()).await?;
        Ok(Snapshot {
            now,
            namespace: String::new(),
            only_namespace: cluster.namespace.clone(),
            cooldowns: self.cooldowns().await?,
            leader,
            deployment: deployment.as_ref().map(Workload::of),
            daemonset: daemonset.as_ref().map(Workload::of),
            all_speakers: speakers.into_iter().map(|speaker| speaker.object).collect(),
            unread: self.unread.take(),
            instance,
            configuration,
            objects,
            pools,
            services,
            claims,
            slices,
            nodes,
            namespaces,
            ranges,
        })
    }

    /// Lists a kind in all namespaces, page by page.
    async fn list<K: ReadObject>(&self, config: watch::Config) -> Result<Vec<K>> {
        let list = watch::list(Api::<K>::all(self.client.clone()), config).await;
        self.unless_unread(&K::plural(&()), list)
    }

    /// Lists a kind in all namespaces, or if that is forbidden, in the namespace of the context.
    async fn list_namespaced<K>(&self, config: watch::Config) -> Result<Vec<K>>
    where
        K: ReadObject + Resource<Scope = NamespaceResourceScope>,
    {
        let list = watch::list(Api::<K>::all(self.client.clone()), config.clone()).await;
        let Err(failure) = &list else { return self.unless_unread(&K::plural(&()), list) };
        let Some(why) = failure.missing_permission() else {
            return self.unless_unread(&K::plural(&()), list);
        };
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        match watch::list(api, config).await {
            Ok(list) => {
                let message = format!("only namespace {} was read: {why}", self.namespace);
                self.note(&K::plural(&()), "OnlyNamespace", message);
                Ok(list)
            }
            failed => self.unless_unread(&K::plural(&()), failed),
        }
    }

    /// Reads one object as JSON, because a typed one cannot represent everything that the API server stores.
    async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<Value>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let path = Request::new(K::url_path(&(), Some(namespace)));
        let get = path.get(name, &GetParams::default()).map_err(Error::BuildRequest)?;
        match request(&self.client, get).await {
            Ok(object) => Ok(Some(object)),
            Err(Failure { error: Error::Api(status), .. }) if status.code == 404 => Ok(None),
            Err(failure) => self.unless_unread(&K::plural(&()), Err::<Option<Value>, _>(failure)),
        }
    }

    async fn cooldowns(&self) -> Result<Vec<PoolCooldown>> {
        let list = Api::<PoolCooldown>::all(self.client.clone()).list(&ListParams::default()).await;
        self.unless_unread(&PoolCooldown::plural(&()), list.map(|list| list.items).map_err(Failure::from))
    }

    /// Returns the default, and notes the kind, if the user may not read it or it is not served.
    fn unless_unread<T: Default>(&self, plural: &str, result: Result<T, Failure>) -> Result<T> {
        let failure = match result {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        if let Some(why) = failure.missing_permission() {
            self.note(plural, "Forbidden", why);
            return Ok(T::default());
        }
        match &failure.error {
            Error::Api(status) if status.code == 404 => {
                self.note(plural, "NotServed", "the API server does not serve this kind".to_owned());
                Ok(T::default())
            }
            Error::Api(status) if status.code == 403 => {
                self.note(plural, "Forbidden", message(&*status.message).into_owned());
                Ok(T::default())
            }
            _ => Err(failure).with_context(|| format!("cannot read {plural}")),
        }
    }

    fn note(&self, plural: &str, reason: &'static str, message: String) {
        self.unread.borrow_mut().push(Unread { resource: plural.to_owned(), reason, message });
    }

    fn is_unread(&self, plural: &str) -> bool {
        self.unread.borrow().iter().any(|unread| unread.resource == plural)
    }
}
