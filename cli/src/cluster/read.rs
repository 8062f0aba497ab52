//! Reading of a [`Snapshot`]. A kind that the user may not read, or that the API server does not serve, is
//! noted, and the rest is read.

use std::cell::RefCell;

use anyhow::{Context, Result};
use fairlead_crds::configuration_kinds;
use fairlead_crds::model::instance::Instance;
use fairlead_crds::names::{CONTROLLER, CONTROLLER_LEASE, SPEAKER};
use fairlead_crds::read::ReadObject;
use fairlead_crds::store::ObjectChange;
use fairlead_crds::text::message;
use fairlead_crds::v1beta1::PoolCooldown;
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

use super::state::{Named, State};
use super::{NOT_SERVED, ONLY_NAMESPACE, Snapshot, Unread};
use crate::connection::{Cluster, Target};

/// Reads the cluster.
///
/// # Errors
/// Returns an error if there is no valid connection, or if a request fails for another reason than a missing
/// permission or kind.
pub(crate) async fn read(cluster: &Cluster) -> Result<Snapshot> {
    let target = cluster.connect().await?;
    let state = read_state(&target, &cluster.instance()).await?;
    let only_namespace = cluster.namespace.as_deref();
    Ok(state.snapshot(cluster.instance(), &target.namespace, only_namespace, Timestamp::now()))
}

/// Reads all objects.
///
/// # Errors
/// Returns an error if a request fails for another reason than a missing permission or kind.
pub(super) async fn read_state(target: &Target, instance: &Instance) -> Result<State> {
    let reader = Reader::new(target);
    let state = reader.state(instance).await.with_context(|| of_server(target))?;
    Ok(State { unread: reader.unread.take(), ..state })
}

/// Reads what is not watched.
///
/// # Errors
/// See [`read_state`].
pub(super) async fn read_named(target: &Target, instance: &Instance) -> Result<Named> {
    Reader::new(target).named(instance).await.with_context(|| of_server(target))
}

fn of_server(target: &Target) -> String {
    format!("API server {}", target.connection.server)
}

struct Reader {
    client: Client,
    namespace: String,
    unread: RefCell<Vec<Unread>>,
}

impl Reader {
    fn new(target: &Target) -> Self {
        let client = target.connection.client.clone();
        Self { client, namespace: target.namespace.clone(), unread: RefCell::default() }
    }

    async fn state(&self, instance: &Instance) -> Result<State> {
        let mut state = State::default();
        macro_rules! list_kinds {
            ($($kind:ident => $field:ident,)*) => {$(
                state.configuration.$field.handle_change(self.list(watch::config()).await?);
            )*};
        }
        configuration_kinds!(list_kinds);
        state.speakers.handle_change(self.list(watch::config()).await?);
        state.named = self.named(instance).await?;
        state.services.handle_change(self.list_namespaced(balancers()).await?);
        state.claims.handle_change(self.list_namespaced(watch::config()).await?);
        state.slices.handle_change(self.list_namespaced(watch::config()).await?);
        state.nodes.handle_change(self.list(watch::config()).await?);
        state.namespaces.handle_change(self.list(watch::config()).await?);
        state.ranges.handle_change(self.list(watch::config()).await?);
        Ok(state)
    }

    async fn named(&self, instance: &Instance) -> Result<Named> {
        let (lease, deployment, daemonset) = tokio::try_join!(
            self.get::<Lease>(&instance.namespace, CONTROLLER_LEASE),
            self.get::<Deployment>(&instance.namespace, CONTROLLER),
            self.get::<DaemonSet>(&instance.namespace, SPEAKER),
        )?;
        Ok(Named { lease, deployment, daemonset, cooldowns: self.cooldowns().await? })
    }

    /// Lists a kind in all namespaces, page by page.
    async fn list<K: ReadObject>(&self, config: watch::Config) -> Result<ObjectChange<K>> {
        let list = watch::list(Api::<K>::all(self.client.clone()), config).await;
        self.unless_unread(&K::plural(&()), list).map(ObjectChange::Reset)
    }

    /// Lists a kind in all namespaces, or if that is forbidden, in the namespace of the context.
    async fn list_namespaced<K>(&self, config: watch::Config) -> Result<ObjectChange<K>>
    where
        K: ReadObject + Resource<Scope = NamespaceResourceScope>,
    {
        let list = watch::list(Api::<K>::all(self.client.clone()), config.clone()).await;
        let why = list.as_ref().err().and_then(Failure::missing_permission);
        let list = match why {
            None => list,
            Some(why) => {
                let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
                watch::list(api, config).await.inspect(|_| {
                    let message = format!("only namespace {} was read: {why}", self.namespace);
                    self.note(&K::plural(&()), ONLY_NAMESPACE, message);
                })
            }
        };
        self.unless_unread(&K::plural(&()), list).map(ObjectChange::Reset)
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
                self.note(plural, NOT_SERVED, "the API server does not serve this kind".to_owned());
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
}

/// Returns the selection of the Services that a load balancer may handle.
pub(super) fn balancers() -> watch::Config {
    watch::config().fields("spec.type=LoadBalancer")
}
