//! Resolution of `L2Advertisement` and `BGPAdvertisement` objects.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use super::community::{Aliases, FormerAliases};
use super::duration;
use super::fields::{interface_name, selector, selectors, set_of};
use super::precedence::created;
use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use crate::model::config::{AnnounceWhen, BgpAdvertisement, L2Advertisement, OnConflict, PoolSelection};
use crate::model::route_request::ServiceAttributes;
use crate::text::quoted;
use crate::v1beta1;

/// The maximum number of communities of an advertisement, as in the schema.
const MAX_COMMUNITIES: usize = 64;
/// The maximum of `asPathPrepend`. Routers rarely accept longer paths.
const MAX_PREPEND: u8 = 10;
/// The maximum of `reannounceAfter`.
const MAX_REANNOUNCE_AFTER: Duration = Duration::from_secs(3600);

/// Validates an L2 advertisement on its own.
pub(super) fn l2(object: &v1beta1::L2Advertisement) -> Result<L2Advertisement, ObjectRefusal> {
    let spec = &object.spec;
    let mut preferred_nodes = Vec::with_capacity(spec.preferred_node_selectors.len());
    for preferred in &spec.preferred_node_selectors {
        let weight = match u32::try_from(preferred.weight) {
            Ok(weight) if (1..=100).contains(&weight) => weight,
            _ => {
                return refuse(
                    RefusalReason::InvalidWeight,
                    format!(
                        "preferredNodeSelectors contains the weight {}: it must be between 1 and 100",
                        preferred.weight
                    ),
                );
            }
        };
        preferred_nodes.push((weight, selector("preferredNodeSelectors", &preferred.preference)?));
    }
    let interfaces = set_of("interfaces", &spec.interfaces)?;
    for interface in &interfaces {
        interface_name("interfaces", interface)?;
    }
    Ok(L2Advertisement {
        name: object.name_any(),
        pools: pools(&spec.ip_address_pools, &spec.ip_address_pool_selectors)?,
        node_selectors: selectors("nodeSelectors", &spec.node_selectors)?,
        preferred_nodes,
        service_selectors: selectors("serviceSelectors", &spec.service_selectors)?,
        interfaces,
        on_conflict: on_conflict(spec.on_conflict.as_deref())?,
    })
}

fn on_conflict(text: Option<&str>) -> Result<OnConflict, ObjectRefusal> {
    match text.unwrap_or_default() {
        "" | "Keep" => Ok(OnConflict::Keep),
        "Yield" => Ok(OnConflict::Yield),
        text => refuse(
            RefusalReason::InvalidOnConflict,
            format!("onConflict is {}: it must be Keep or Yield", quoted(text)),
        ),
    }
}

/// Validates a BGP advertisement on its own and resolves its communities, with `former` as in
/// [`Aliases::look_up`].
pub(super) fn bgp(
    object: &v1beta1::BGPAdvertisement,
    aliases: &Aliases,
    former: &FormerAliases,
) -> Result<BgpAdvertisement, ObjectRefusal> {
    let spec = &object.spec;
    let aggregation_length = aggregation("aggregationLength", spec.aggregation_length, 32)?;
    let aggregation_length_v6 = aggregation("aggregationLengthV6", spec.aggregation_length_v6, 128)?;
    let service_selectors = selectors("serviceSelectors", &spec.service_selectors)?;
    if !service_selectors.is_empty() && (aggregation_length, aggregation_length_v6) != (32, 128) {
        return refuse(
            RefusalReason::AggregationWithServiceSelectors,
            "serviceSelectors cannot be combined with aggregation: remove serviceSelectors, or remove \
             aggregationLength and aggregationLengthV6",
        );
    }
    let service_attributes = service_attributes(spec, aliases, former)?;
    if service_attributes.is_some() && (aggregation_length, aggregation_length_v6) != (32, 128) {
        return refuse(
            RefusalReason::AggregationWithServiceAttributes,
            "serviceAttributes cannot be combined with aggregation: remove serviceAttributes, or remove \
             aggregationLength and aggregationLengthV6",
        );
    }
    let local_pref = metric("localPref", spec.local_pref, RefusalReason::InvalidLocalPref)?;
    let med = metric("med", spec.med, RefusalReason::InvalidMED)?;
    let communities = aliases.look_up(&set_of("communities", &spec.communities)?, former)?;
    check_number("communities", communities.len())?;
    Ok(BgpAdvertisement {
        name: object.name_any(),
        pools: pools(&spec.ip_address_pools, &spec.ip_address_pool_selectors)?,
        node_selectors: selectors("nodeSelectors", &spec.node_selectors)?,
        service_selectors,
        peers: set_of("peers", &spec.peers)?,
        aggregation_length,
        aggregation_length_v6,
        local_pref,
        created: created(object).1,
        med,
        as_path_prepend: prepend("asPathPrepend", spec.as_path_prepend)?,
        aggregator: spec.aggregator.unwrap_or(false),
        communities,
        service_attributes,
        announce_when: announce_when(spec.announce_when.as_deref())?,
        reannounce_after: reannounce_after(spec.reannounce_after.as_deref())?,
    })
}

fn announce_when(text: Option<&str>) -> Result<AnnounceWhen, ObjectRefusal> {
    match text.unwrap_or_default() {
        "" | "EndpointReady" => Ok(AnnounceWhen::EndpointReady),
        "DataPathReady" => Ok(AnnounceWhen::DataPathReady),
        text => refuse(
            RefusalReason::InvalidAnnounceWhen,
            format!("announceWhen is {}: it must be EndpointReady or DataPathReady", quoted(text)),
        ),
    }
}

fn reannounce_after(text: Option<&str>) -> Result<Duration, ObjectRefusal> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Duration::ZERO) };
    match duration::parse(text) {
        Some(time) if time <= MAX_REANNOUNCE_AFTER => Ok(time),
        _ => refuse(
            RefusalReason::InvalidReannounceAfter,
            format!(
                "reannounceAfter is {}: it must be a duration between 0s and 1h, such as 10s",
                quoted(text)
            ),
        ),
    }
}

fn service_attributes(
    spec: &v1beta1::BGPAdvertisementSpec,
    aliases: &Aliases,
    former: &FormerAliases,
) -> Result<Option<ServiceAttributes>, ObjectRefusal> {
    let Some(attributes) = &spec.service_attributes else { return Ok(None) };
    let texts = set_of("serviceAttributes.communities", &attributes.communities)?;
    check_number("serviceAttributes.communities", texts.len())?;
    let field = "serviceAttributes.maxASPathPrepend";
    Ok(Some(ServiceAttributes {
        communities: aliases.by_text(&texts, former)?,
        max_as_path_prepend: prepend(field, attributes.max_as_path_prepend)?,
        med: attributes.med.unwrap_or(false),
    }))
}

fn check_number(field: &str, communities: usize) -> Result<(), ObjectRefusal> {
    if communities > MAX_COMMUNITIES {
        return refuse(
            RefusalReason::InvalidCommunity,
            format!("{field} contains {communities} communities: at most {MAX_COMMUNITIES} are allowed"),
        );
    }
    Ok(())
}

fn metric(field: &str, value: Option<i64>, reason: RefusalReason) -> Result<Option<u32>, ObjectRefusal> {
    let Some(value) = value else { return Ok(None) };
    match u32::try_from(value) {
        Ok(value) => Ok(Some(value)),
        Err(_) => refuse(reason, format!("{field} is {value}: it must be between 0 and {}", u32::MAX)),
    }
}

fn prepend(field: &str, value: Option<i32>) -> Result<u8, ObjectRefusal> {
    let Some(value) = value else { return Ok(0) };
    match u8::try_from(value) {
        Ok(count) if (1..=MAX_PREPEND).contains(&count) => Ok(count),
        _ => refuse(
            RefusalReason::InvalidASPathPrepend,
            format!("{field} is {value}: it must be between 1 and {MAX_PREPEND}"),
        ),
    }
}

fn aggregation(field: &str, value: Option<i32>, max: u8) -> Result<u8, ObjectRefusal> {
    let value = value.unwrap_or(max.into());
    match u8::try_from(value) {
        Ok(length) if (1..=max).contains(&length) => Ok(length),
        _ => refuse(
            RefusalReason::InvalidAggregationLength,
            format!("{field} is {value}: it must be between 1 and {max}"),
        ),
    }
}

fn pools(names: &[String], by_label: &[LabelSelector]) -> Result<PoolSelection, ObjectRefusal> {
    let names: BTreeSet<String> = set_of("ipAddressPools", names)?;
    Ok(PoolSelection { names, selectors: selectors("ipAddressPoolSelectors", by_label)? })
}
