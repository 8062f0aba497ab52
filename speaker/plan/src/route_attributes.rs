//! The path attributes of a route.

use std::sync::Arc;

use fairlead_bgp::{Attributes, ExtendedCommunity, LargeCommunity};
use fairlead_crds::model::config::{BgpAdvertisement, Community, Peer};
use fairlead_crds::model::route_request::RouteRequest;
use ipnet::IpNet;

/// Octets per second in 1 Mbit/s.
const MEGABIT: f64 = 125_000.0;

/// A reason to announce a prefix: an advertisement, with what the Service requests of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteSource {
    /// Name of the BGPAdvertisement.
    pub(crate) ad: Arc<str>,
    /// `None` if the Service requests nothing, or if the advertisement permits nothing.
    pub(crate) request: Option<Arc<RouteRequest>>,
}

/// Returns the attributes of a route with several sources: the communities of all, the lowest
/// MULTI_EXIT_DISC of those that set one, and the longest path. The LOCAL_PREF of a host route is that of the
/// oldest advertisement; the sources of an aggregate are for different addresses, so it has the highest.
pub(crate) fn merged_attributes<'a>(
    prefix: IpNet,
    sources: impl Iterator<Item = (&'a BgpAdvertisement, Option<&'a RouteRequest>)>,
) -> Attributes {
    let mut merged = Attributes::default();
    let is_aggregate = prefix.prefix_len() < prefix.max_prefix_len();
    let (mut local_pref, mut oldest) = (None, None);
    for (ad, request) in sources {
        let permitted = ad.service_attributes.as_ref().zip(request);
        let permitted = permitted.map(|(attributes, request)| attributes.permit(request)).unwrap_or_default();
        let prepend = ad.as_path_prepend.max(permitted.as_path_prepend);
        if is_aggregate {
            local_pref = local_pref.max(Some(ad.effective_local_pref()));
        } else if oldest.is_none_or(|oldest: &BgpAdvertisement| ad.precedence() < oldest.precedence()) {
            oldest = Some(ad);
            local_pref = Some(ad.effective_local_pref());
        }
        merged.med = [merged.med, permitted.med.or(ad.med)].into_iter().flatten().min();
        merged.as_path_prepend = merged.as_path_prepend.max(prepend);
        merged.aggregator |= ad.aggregator && is_aggregate;
        for community in ad.communities.iter().chain(&permitted.communities) {
            add_community(&mut merged, *community);
        }
    }
    merged.local_pref = local_pref;
    merged
}

/// Adds what depends on the peer: its link bandwidth, in proportion to the weight of the prefix. It replaces
/// a link bandwidth of an advertisement. A prefix with weight zero has none. Removes LOCAL_PREF for an eBGP
/// peer, which does not receive it: an edit of it then causes no UPDATE.
pub(crate) fn peer_attributes(peer: &Peer, weight: u32, mut attributes: Attributes) -> Attributes {
    if !peer.is_internal() {
        attributes.local_pref = None;
    }
    let Some(bandwidth) = peer.link_bandwidth.filter(|_| weight > 0) else { return attributes };
    let octets_per_second = f64::from(bandwidth.megabits_per_endpoint) * f64::from(weight) * MEGABIT;
    let asn = peer.local_asn.unwrap_or(peer.my_asn);
    let community = ExtendedCommunity::link_bandwidth(asn, octets_per_second as f32, bandwidth.transitive);
    attributes.extended_communities.retain(|other| !other.is_link_bandwidth());
    attributes.extended_communities.insert(community);
    attributes
}

fn add_community(attributes: &mut Attributes, community: Community) {
    match community {
        Community::Standard(asn, value) => {
            attributes.communities.insert(fairlead_bgp::Community(asn, value));
        }
        Community::Extended(octets) => {
            attributes.extended_communities.insert(ExtendedCommunity(octets));
        }
        Community::Large(global, one, two) => {
            attributes.large_communities.insert(LargeCommunity(global, one, two));
        }
    }
}
