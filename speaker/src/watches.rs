//! What the speaker follows in the API, as messages to the deciding task.

use std::net::SocketAddr;

use fairlead_crds::api;
use fairlead_crds::service::ObjectKey;
use fairlead_runtime::lean::Lean;
use fairlead_runtime::watch::{self, Change, follow};
use k8s_openapi::api::core::v1::{Node as NodeObject, Service as ServiceObject};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::plan::{Node, NodeName, Service, Slice, SliceKey};
use crate::trim;

/// A change to something that announcements depend on.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names are those of the kinds")]
pub enum Input {
    Services(Change<(ObjectKey, Option<Service>)>),
    Slices(Change<(SliceKey, Option<Slice>)>),
    Nodes(Change<(NodeName, Node, String)>),
    Speakers(Change<(String, Option<SocketAddr>)>),
    Pools(Change<api::IPAddressPool>),
    L2Advertisements(Change<api::L2Advertisement>),
    BgpAdvertisements(Change<api::BGPAdvertisement>),
    Peers(Change<api::BGPPeer>),
    BfdProfiles(Change<api::BFDProfile>),
    Communities(Change<api::Community>),
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
    tasks.spawn(follow::<api::Speaker, _, _>(
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
        api::IPAddressPool => Input::Pools,
        api::L2Advertisement => Input::L2Advertisements,
        api::BGPAdvertisement => Input::BgpAdvertisements,
        api::BGPPeer => Input::Peers,
        api::BFDProfile => Input::BfdProfiles,
        api::Community => Input::Communities,
    }
    tasks
}
