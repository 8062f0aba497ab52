//! `fairlead explain`: the decisions of the controller on the current objects in the API server, and their
//! reasons; and the reasons for which speakers do not announce addresses.

mod address;
mod announcements;
mod in_force;

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use fairlead_allocator::explain::Explanation;
use fairlead_allocator::ipam::{NodeNetwork, OtherService, service_ranges};
use fairlead_allocator::reconcile::objects::Configuration;
use fairlead_allocator::reconcile::{Index, ObservedService, RecordedCooldown};
use fairlead_crds::configuration_kinds;
use fairlead_crds::kinds::{ConfigurationObject as _, ObjectRef};
use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::labels::{LabelBounds, Labels};
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::objects::{Namespace, Node, Service, ServiceCIDR};
use fairlead_crds::read::{Custom, ReadObject};
use fairlead_crds::resolve::InForce;
use fairlead_crds::store::{ConfigurationChange, ObjectChange, trim};
use fairlead_crds::v1beta1::{self, IPClaim, PoolCooldown, Speaker};
use fairlead_runtime::client::{self, Connection};
use fairlead_runtime::flags::Common;
use fairlead_runtime::watch;
use jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use address::AddressExplanation;
use announcements::NotAnnouncedAddresses;
use in_force::KeptObjects;

/// The subcommands of `explain`, by kind of object.
#[derive(Subcommand)]
pub(crate) enum Subject {
    /// Explains for each IPAddressPool why a Service uses it or not, and what would have to change; and why
    /// nodes do not announce its addresses.
    ///
    /// The exit status is 0 if the Service has an address and 1 if it has none. It is 2 if the API server is
    /// unreachable, or if no Service of type LoadBalancer has this name.
    #[command(visible_alias = "svc")]
    Service(ServiceArguments),
    /// Explains which Service has an address, or whether a Service could get it; and why nodes do not
    /// announce it.
    ///
    /// The exit status is 0 if a Service has the address and 1 if none has. It is 2 if the API server is
    /// unreachable.
    #[command(visible_alias = "ip")]
    Address(AddressArguments),
}

#[derive(Args)]
pub(crate) struct AddressArguments {
    /// The IPv4 or IPv6 address
    address: IpAddr,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Args)]
pub(crate) struct ServiceArguments {
    /// Name of the Service, with or without its namespace
    #[arg(value_name = "[NAMESPACE/]NAME")]
    service: String,

    /// Namespace of the Service, if its name contains none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,

    #[command(flatten)]
    cluster: Cluster,
}

/// The cluster, and the instance of Fairlead in it.
#[derive(Args)]
struct Cluster {
    /// Kubeconfig file; if unset, ~/.kube/config, or the in-cluster configuration if there is no such file
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,

    /// Value of --lb-class of the controller
    #[arg(long, env = "FAIRLEAD_LB_CLASS", value_name = "CLASS")]
    lb_class: Option<String>,
}

/// Prints the explanation. Returns true if the Service has an address, or a Service has the address.
///
/// # Errors
/// Returns an error if the API server is unreachable, or if there is no such Service.
pub(crate) fn run(subject: &Subject) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (text, is_held) = runtime.block_on(async {
        match subject {
            Subject::Service(arguments) => explain_service(arguments).await,
            Subject::Address(arguments) => explain_address(arguments).await,
        }
    })?;
    print!("{text}");
    Ok(is_held)
}

async fn explain_service(arguments: &ServiceArguments) -> Result<(String, bool)> {
    let (namespace, name) =
        arguments.service.split_once('/').unwrap_or((&arguments.namespace, &arguments.service));
    let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
    let view = View::read(&arguments.cluster).await?;
    let View { class, index, speakers, .. } = &view;
    let Some(explanation) = Explanation::new(index, &key) else {
        bail!("there is no Service {key} of type LoadBalancer with the class of the controller (--lb-class)");
    };
    let service = key.to_string();
    let not_announced =
        NotAnnouncedAddresses::of(speakers, class.as_deref(), |entry| entry.service == service);
    let kept = view.kept(|service| service.key == key);
    Ok((format!("{explanation}{not_announced}{kept}"), index.ipam().holding(&key).is_some()))
}

async fn explain_address(arguments: &AddressArguments) -> Result<(String, bool)> {
    let address = arguments.address;
    let view = View::read(&arguments.cluster).await?;
    let View { class, index, speakers, .. } = &view;
    let explanation = AddressExplanation::new(index, address);
    let not_announced =
        NotAnnouncedAddresses::of(speakers, class.as_deref(), |entry| entry.address.parse() == Ok(address));
    let kept = view.kept(|service| service.ingress.contains(&address));
    Ok((format!("{explanation}{not_announced}{kept}"), !index.ipam().holders(address).is_empty()))
}

/// What is read from the API server.
struct View {
    /// The load balancer class of the instance.
    class: Option<String>,
    /// The decisions that a controller would make if it started now.
    index: Index,
    configuration: Configuration,
    /// The current generation of each configuration object.
    generations: BTreeMap<ObjectRef, i64>,
    /// The Services of the instance.
    services: Vec<LoadBalancer>,
    speakers: Vec<Speaker>,
}

impl View {
    async fn read(cluster: &Cluster) -> Result<Self> {
        let kubeconfig = cluster.kubeconfig.clone().or_else(default_kubeconfig);
        let common = Common { kubeconfig, lb_class: cluster.lb_class.clone(), ..Common::default() };
        let Connection { client, server } = client::connect(&common).await?;
        let context = || format!("API server {server}");
        let class = common.lb_class().map(str::to_owned);
        let mut view = Self {
            index: Index::default(),
            configuration: Configuration::new(class.as_deref()),
            generations: BTreeMap::new(),
            services: Vec::new(),
            speakers: Vec::new(),
            class,
        };
        view.reconcile(&client).await.with_context(context)?;
        let speakers = list_if_served::<Custom<Speaker>>(&client).await.with_context(context)?;
        view.speakers = speakers.into_iter().map(|speaker| speaker.object).collect();
        Ok(view)
    }

    /// Makes the decisions that a controller would make if it started now.
    async fn reconcile(&mut self, client: &Client) -> Result<()> {
        let now = Timestamp::now();
        let Self { index, configuration, generations, services: balancers, .. } = self;
        let class = self.class.as_deref();
        macro_rules! list_kinds {
        ($($kind:ident => $field:ident,)*) => {$(
            let objects = list::<Custom<v1beta1::$kind>>(client, watch::config()).await?;
            generations.extend(objects.iter().filter_map(|object| {
                Some((object.object.reference(), object.object.metadata.generation?))
            }));
            let objects = objects.into_iter().map(trim).collect();
            configuration.apply(ConfigurationChange::$kind(ObjectChange::Reset(objects)));
        )*};
    }
        configuration_kinds!(list_kinds);
        configuration.resolve(InForce::ByConditions).context("a configuration kind was not listed")?;
        index.set_config(&configuration.config(), now);
        let namespaces = list::<Namespace>(client, watch::config()).await?;
        let labels = |namespace: &Namespace| Labels::within(LabelBounds::Administrators, namespace.labels());
        let labels = namespaces.into_iter().map(|namespace| (namespace.name_any(), labels(&namespace)));
        index.namespaces_reset(labels.collect(), now);
        let nodes = list::<Node>(client, watch::config()).await?;
        index.nodes_reset(nodes.iter().map(|node| (node.name_any(), NodeNetwork::of(node))).collect(), now);
        let ranges = list_if_served::<ServiceCIDR>(client).await?;
        index.service_ranges_reset(ranges.iter().map(|one| (one.name_any(), service_ranges(one))).collect());
        let services = list::<Service>(client, watch::config().fields("spec.type=LoadBalancer")).await?;
        index.others_reset(
            services.iter().filter_map(|service| OtherService::of(service, class)).collect(),
            now,
        );
        balancers.extend(services.iter().filter_map(|service| LoadBalancer::from_service(service, class)));
        index.services_reset(
            services.iter().filter_map(|service| ObservedService::of(service, class)).collect(),
            now,
        );
        let claims = list::<Custom<IPClaim>>(client, watch::config()).await?;
        index.claims_reset(
            claims.iter().map(Claim::from_read).filter(|claim| claim.class.as_deref() == class).collect(),
            now,
        );
        let cooldowns = cooldowns(client).await?;
        let recorded = cooldowns.iter().map(|object| (object.name_any(), RecordedCooldown::from(object)));
        configuration.cooldowns_listed(recorded.collect());
        index.begin(configuration.released(), now);
        Ok(())
    }

    /// Returns the refused objects in force by which the selected Services are announced.
    fn kept(&self, selects: impl Fn(&LoadBalancer) -> bool) -> KeptObjects {
        let services = self.services.iter().filter(|service| selects(service));
        KeptObjects::of(self.configuration.resolution(), self.class.as_deref(), services, &self.generations)
    }
}

/// Returns the kubeconfig file that kubectl uses by default, if it exists.
pub(crate) fn default_kubeconfig() -> Option<std::path::PathBuf> {
    let path = std::path::Path::new(&std::env::var_os("HOME")?).join(".kube/config");
    path.exists().then_some(path)
}

/// Returns nothing if the API server does not serve the kind.
async fn cooldowns(client: &Client) -> Result<Vec<PoolCooldown>> {
    match Api::<PoolCooldown>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error).context("cannot list poolcooldowns"),
    }
}

/// Returns nothing if the API server does not serve the kind.
async fn list_if_served<K: ReadObject>(client: &Client) -> Result<Vec<K>> {
    match watch::list(Api::<K>::all(client.clone()), watch::config()).await {
        Err(failure) if matches!(&failure.error, kube::Error::Api(status) if status.code == 404) => {
            Ok(Vec::new())
        }
        list => list.with_context(|| format!("cannot list {}", K::plural(&()))),
    }
}

async fn list<K: ReadObject>(client: &Client, config: watch::Config) -> Result<Vec<K>> {
    let list = watch::list(Api::<K>::all(client.clone()), config).await;
    list.with_context(|| format!("cannot list {}", K::plural(&())))
}
