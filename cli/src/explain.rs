//! Why a Service has its address, or none: what the controller would decide on what the API server says now.

use std::fmt::Debug;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use fairlead_allocator::explain::Explanation;
use fairlead_allocator::reconcile::objects::{Configuration, ConfigurationObject, trim};
use fairlead_allocator::reconcile::{Index, ObservedService};
use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::store::ObjectChange;
use fairlead_crds::v1beta1::IPClaim;
use fairlead_runtime::client;
use fairlead_runtime::flags::Common;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// What is explained.
#[derive(Subcommand)]
pub(crate) enum What {
    /// Says for each IPAddressPool why a Service has an address of it or not, and what would have to be different.
    ///
    /// Exits with 0 when the Service has addresses, 1 when it has none, 2 when the API server cannot be asked or there is
    /// no such Service of type LoadBalancer.
    #[command(visible_alias = "svc")]
    Service(Arguments),
}

/// Of which Service, and where to ask.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Namespace and name, or a name
    #[arg(value_name = "[NAMESPACE/]NAME")]
    service: String,

    /// Namespace of a name without one
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,

    /// Path of a kubeconfig file; without it the in-cluster configuration is used
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,

    /// The --lb-class that the controller has
    #[arg(long, env = "FAIRLEAD_LB_CLASS", value_name = "CLASS")]
    lb_class: Option<String>,
}

/// Prints the explanation. Whether the Service has addresses.
///
/// # Errors
/// When the API server cannot be asked, or there is no such Service.
pub(crate) fn run(What::Service(arguments): &What) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (explanation, has) = runtime.block_on(explain(arguments))?;
    print!("{explanation}");
    Ok(has)
}

async fn explain(arguments: &Arguments) -> Result<(Explanation, bool)> {
    let (namespace, name) =
        arguments.service.split_once('/').unwrap_or((&arguments.namespace, &arguments.service));
    let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
    let kubeconfig = arguments.kubeconfig.clone().or_else(default_kubeconfig);
    let common = Common { kubeconfig, lb_class: arguments.lb_class.clone(), ..Common::default() };
    let client = client::connect(&common).await?;
    let index = decide(&client, common.lb_class()).await?;
    let Some(explanation) = Explanation::new(&index, &key) else {
        bail!("there is no Service {key} of type LoadBalancer and of the controller's class");
    };
    Ok((explanation, index.ipam().holding(&key).is_some()))
}

/// Where kubectl looks, too.
fn default_kubeconfig() -> Option<std::path::PathBuf> {
    let path = std::path::Path::new(&std::env::var_os("HOME")?).join(".kube/config");
    path.exists().then_some(path)
}

/// What a controller decides that starts now.
async fn decide(client: &Client, class: Option<&str>) -> Result<Index> {
    let now = Timestamp::now();
    let mut index = Index::default();
    let mut configuration = Configuration::default();
    macro_rules! objects {
        ($($kind:ident),*) => {$(
            configure::<fairlead_crds::v1beta1::$kind>(client, &mut configuration).await?;
        )*};
    }
    objects!(IPAddressPool, L2Advertisement, BGPAdvertisement, BGPPeer, BFDProfile, Community);
    let resolution = configuration.resolve().context("not all kinds were listed")?;
    index.set_config(resolution.config.clone(), now);
    let namespaces = list::<Namespace>(client, &ListParams::default()).await?;
    let labels = namespaces.into_iter().map(|namespace| (namespace.name_any(), namespace.labels().clone()));
    index.namespaces_reset(labels.collect(), now);
    let balancers = ListParams::default().fields("spec.type=LoadBalancer");
    let services = list::<Service>(client, &balancers).await?;
    index.services_reset(
        services.iter().filter_map(|service| ObservedService::of(service, class)).collect(),
        now,
    );
    let claims = list::<IPClaim>(client, &ListParams::default()).await?;
    index.claims_reset(claims.iter().map(Claim::from_object).collect(), now);
    index.begin(configuration.released(), now);
    Ok(index)
}

async fn configure<K>(client: &Client, configuration: &mut Configuration) -> Result<()>
where
    K: ConfigurationObject + Resource<DynamicType = ()> + DeserializeOwned + Debug,
{
    let objects = list::<K>(client, &ListParams::default()).await?;
    configuration.change(ObjectChange::Reset(objects.into_iter().map(trim).collect()));
    Ok(())
}

async fn list<K>(client: &Client, parameters: &ListParams) -> Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let list = Api::<K>::all(client.clone()).list(parameters).await;
    Ok(list.with_context(|| format!("cannot list {}", K::plural(&())))?.items)
}
