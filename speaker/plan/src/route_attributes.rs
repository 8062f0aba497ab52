//! The path attributes of a route.

use fairlead_bgp::{Attributes, ExtendedCommunity, LargeCommunity};
use fairlead_crds::model::config::{BgpAdvertisement, Community};
use ipnet::IpNet;

/// Returns the attributes of a route that several advertisements request: the communities of all, the highest
/// LOCAL_PREF, the lowest MULTI_EXIT_DISC of those that set one, and the longest path.
pub(crate) fn merged_attributes<'a>(
    prefix: IpNet,
    ads: impl Iterator<Item = &'a &'a BgpAdvertisement>,
) -> Attributes {
    let mut merged = Attributes::default();
    for ad in ads {
        merged.local_pref = merged.local_pref.max(ad.local_pref);
        merged.med = [merged.med, ad.med].into_iter().flatten().min();
        merged.as_path_prepend = merged.as_path_prepend.max(ad.as_path_prepend);
        merged.aggregator |= ad.aggregator && prefix.prefix_len() < prefix.max_prefix_len();
        for community in &ad.communities {
            match *community {
                Community::Standard(asn, value) => {
                    merged.communities.insert(fairlead_bgp::Community(asn, value));
                }
                Community::Extended(octets) => {
                    merged.extended_communities.insert(ExtendedCommunity(octets));
                }
                Community::Large(global, one, two) => {
                    merged.large_communities.insert(LargeCommunity(global, one, two));
                }
            }
        }
    }
    merged
}
