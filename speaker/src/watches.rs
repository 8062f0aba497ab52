//! What the speaker follows in the API, as messages to the deciding task.

use std::net::SocketAddr;

use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::store::ObjectChange;
use fairlead_crds::v1beta1;
use fairlead_runtime::trimmed::Lean;
use fairlead_runtime::watch::{self, follow};
use k8s_openapi::api::core::v1::{Node as NodeObject, Service as ServiceObject};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::trim;
use fairlead_plan::{Node, NodeName, Service, Slice, SliceKey};

/// A change to something that announcements depend on.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names are those of the kinds")]
pub enum Input {
    Services(ObjectChange<(ObjectKey, Option<Service>)>),
    Slices(ObjectChange<(SliceKey, Option<Slice>)>),
    Nodes(ObjectChange<(NodeName, Node, String)>),
    Speakers(ObjectChange<(String, Option<SocketAddr>)>),
    Pools(ObjectChange<v1beta1::IPAddressPool>),
    L2Advertisements(ObjectChange<v1beta1::L2Advertisement>),
    BgpAdvertisements(ObjectChange<v1beta1::BGPAdvertisement>),
    Peers(ObjectChange<v1beta1::BGPPeer>),
    BfdProfiles(ObjectChange<v1beta1::BFDProfile>),
    Communities(ObjectChange<v1beta1::Community>),
}

/// Follows everything until the receiver is gone.
pub fn spawn(client: &Client, lb_class: Option<&str>, sink: &Sender<Input>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let class = lb_class.map(str::to_owned);
    tasks.spawn(follow::<Lean<ServiceObject>, _, _>(
        Api::all(client.clone()),
        watch::config().fields("spec.type=LoadBalancer"),
        move |Lean(service)| trim::service(service, class.as_deref()),
        Input::Services,
        sink.clone(),
    ));
    tasks.spawn(follow::<Lean<EndpointSlice>, _, _>(
        Api::all(client.clone()),
        watch::config().labels("kubernetes.io/service-name"),
        |Lean(slice)| trim::slice(slice),
        Input::Slices,
        sink.clone(),
    ));
    tasks.spawn(follow::<NodeObject, _, _>(
        Api::all(client.clone()),
        watch::config(),
        trim::node,
        Input::Nodes,
        sink.clone(),
    ));
    tasks.spawn(follow::<v1beta1::Speaker, _, _>(
        Api::all(client.clone()),
        watch::config(),
        trim::speaker,
        Input::Speakers,
        sink.clone(),
    ));
    macro_rules! follow_whole {
        ($($kind:ty => $wrap:path),* $(,)?) => {$(
            tasks.spawn(follow::<$kind, _, _>(
                Api::all(client.clone()), watch::config(), |object| object, $wrap, sink.clone(),
            ));
        )*};
    }
    follow_whole! {
        v1beta1::IPAddressPool => Input::Pools,
        v1beta1::L2Advertisement => Input::L2Advertisements,
        v1beta1::BGPAdvertisement => Input::BgpAdvertisements,
        v1beta1::BGPPeer => Input::Peers,
        v1beta1::BFDProfile => Input::BfdProfiles,
        v1beta1::Community => Input::Communities,
    }
    tasks
}
