//! The watches, and what they tell.

use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::config::Labels;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::store::ObjectChange;
use fairlead_crds::v1beta1::{
    BFDProfile, BGPAdvertisement, BGPPeer, Community, IPAddressPool, IPClaim, L2Advertisement,
};
use fairlead_runtime::lean::Lean;
use fairlead_runtime::watch;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::Client;
use kube::api::Api;
use kube::core::{PartialObjectMeta, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use fairlead_allocator::reconcile::Observed;
use fairlead_allocator::reconcile::objects::trim;

/// What the watches of a round tell.
pub struct News {
    /// The round: the first is that of the start, and each term begins with another.
    pub round: u64,
    /// What they tell.
    pub message: Message,
}

/// What the watches tell.
pub enum Message {
    /// Of Services of type LoadBalancer.
    Services(ObjectChange<Seen>),
    /// Of claims.
    Claims(ObjectChange<Box<Claim>>),
    /// Of Namespaces, name and labels.
    Namespaces(ObjectChange<(String, Labels)>),
    /// Of pools.
    Pools(ObjectChange<IPAddressPool>),
    /// Of L2 advertisements.
    L2Advertisements(ObjectChange<L2Advertisement>),
    /// Of BGP advertisements.
    BgpAdvertisements(ObjectChange<BGPAdvertisement>),
    /// Of BGP peers.
    Peers(ObjectChange<BGPPeer>),
    /// Of BFD profiles.
    BfdProfiles(ObjectChange<BFDProfile>),
    /// Of communities.
    Communities(ObjectChange<Community>),
}

/// A Service; `ours` is `None` when it is of another class.
pub struct Seen {
    /// Namespace and name.
    pub key: ObjectKey,
    /// What decisions need of it.
    pub ours: Option<Box<Observed>>,
}

/// Lists and watches all kinds, until the returned set is dropped.
pub fn watch_all(client: &Client, class: Option<&str>, round: u64, sink: &mpsc::Sender<News>) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    let class = class.map(str::to_owned);
    // A Service whose type changes is deleted for this watch. The API server clears its status itself.
    let balancers = watch::config().fields("spec.type=LoadBalancer");
    let seen = move |Lean(service): Lean<Service>| Seen {
        key: ObjectKey { namespace: service.namespace().unwrap_or_default(), name: service.name_any() },
        ours: Observed::of(&service, class.as_deref()).map(Box::new),
    };
    let services = Api::<Lean<Service>>::all(client.clone());
    watches.spawn(watch::follow(services, balancers, seen, told(round, Message::Services), sink.clone()));
    let claims = Api::<IPClaim>::all(client.clone());
    let claim = |claim: IPClaim| Box::new(Claim::from_object(&claim));
    watches.spawn(watch::follow(claims, watch::config(), claim, told(round, Message::Claims), sink.clone()));
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
    let labels = |namespace: PartialObjectMeta<Namespace>| (namespace.name_any(), namespace.labels().clone());
    watches.spawn(watch::follow(
        namespaces,
        watch::config(),
        labels,
        told(round, Message::Namespaces),
        sink.clone(),
    ));
    macro_rules! objects {
        ($($wrap:path),*) => {$(
            let wrap = told(round, $wrap);
            watches.spawn(watch::follow(Api::all(client.clone()), watch::config(), trim, wrap, sink.clone()));
        )*};
    }
    objects!(
        Message::Pools,
        Message::L2Advertisements,
        Message::BgpAdvertisements,
        Message::Peers,
        Message::BfdProfiles,
        Message::Communities
    );
    watches
}

fn told<T>(round: u64, wrap: impl Fn(ObjectChange<T>) -> Message) -> impl Fn(ObjectChange<T>) -> News {
    move |change| News { round, message: wrap(change) }
}
