//! Path attributes that a Service requests for its routes by annotations, and what a BGPAdvertisement permits
//! of them.
//!
//! The annotations are written by tenants. An attribute reaches a router only if an administrator permits it
//! in `serviceAttributes` of a BGPAdvertisement, and only on host routes to addresses of the Service itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::community::Community;
use crate::names;
use crate::text::{self, quoted};

/// The maximum number of communities that a Service can request.
pub const MAX_COMMUNITIES: usize = 16;

/// The path attributes that a Service requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteRequest {
    /// Communities, as written: at most [`MAX_COMMUNITIES`].
    pub communities: BTreeSet<String>,
    /// Additional occurrences of the AS number in the path.
    pub as_path_prepend: Option<u8>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// The keys of annotations that are not valid. They request nothing.
    pub invalid: BTreeSet<&'static str>,
}

/// The path attributes that Services may request from a BGPAdvertisement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAttributes {
    /// Communities, by the text that Services use.
    pub communities: BTreeMap<String, Community>,
    /// The highest value of [`RouteRequest::as_path_prepend`].
    pub max_as_path_prepend: u8,
    /// True if Services may set MULTI_EXIT_DISC.
    pub med: bool,
}

/// The part of a request that a BGPAdvertisement permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PermittedAttributes {
    pub communities: BTreeSet<Community>,
    pub as_path_prepend: u8,
    pub med: Option<u32>,
}

impl RouteRequest {
    /// Reads the annotations of a Service. Returns `None` if it requests nothing.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let mut request = Self::default();
        let get = |key| annotations.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        if let Some(text) = get(names::BGP_COMMUNITIES) {
            let communities: BTreeSet<&str> = text.split(',').map(str::trim).collect();
            if text.len() > text::MAX_REQUEST
                || communities.len() > MAX_COMMUNITIES
                || communities.contains("")
            {
                request.invalid.insert(names::BGP_COMMUNITIES);
            } else {
                request.communities = communities.into_iter().map(str::to_owned).collect();
            }
        }
        if let Some(text) = get(names::BGP_AS_PATH_PREPEND) {
            match text.parse() {
                Ok(prepend) if prepend <= 10 => request.as_path_prepend = Some(prepend),
                _ => drop(request.invalid.insert(names::BGP_AS_PATH_PREPEND)),
            }
        }
        if let Some(text) = get(names::BGP_MED) {
            match text.parse() {
                Ok(med) => request.med = Some(med),
                Err(_) => drop(request.invalid.insert(names::BGP_MED)),
            }
        }
        (request != Self::default()).then_some(request)
    }

    /// Returns the first part of the request that has no effect, and why, for the condition of the Service.
    /// `advertisements` are those that announce addresses of the Service.
    pub fn problem<'a>(
        &self,
        advertisements: impl Iterator<Item = Option<&'a ServiceAttributes>> + Clone,
    ) -> Option<String> {
        if let Some(key) = self.invalid.first() {
            let expected = match *key {
                names::BGP_COMMUNITIES => "at most 16 communities, separated by commas, in 256 octets",
                names::BGP_AS_PATH_PREPEND => "a number between 0 and 10",
                _ => "a number between 0 and 4294967295",
            };
            return Some(format!("annotation {key} is ignored: it must be {expected}"));
        }
        let permitted =
            |test: &dyn Fn(&ServiceAttributes) -> bool| advertisements.clone().flatten().any(test);
        let unknown = |name: &&String| !permitted(&|attributes| attributes.communities.contains_key(*name));
        if let Some(name) = self.communities.iter().find(unknown) {
            return Some(format!(
                "annotation {}: no BGPAdvertisement of these addresses permits community {}",
                names::BGP_COMMUNITIES,
                quoted(name)
            ));
        }
        if let Some(prepend) = self.as_path_prepend
            && !permitted(&|attributes| prepend <= attributes.max_as_path_prepend)
        {
            return Some(format!(
                "annotation {}: no BGPAdvertisement of these addresses permits {prepend}",
                names::BGP_AS_PATH_PREPEND
            ));
        }
        if self.med.is_some() && !permitted(&|attributes| attributes.med) {
            return Some(format!(
                "annotation {}: no BGPAdvertisement of these addresses permits it",
                names::BGP_MED
            ));
        }
        None
    }
}

impl ServiceAttributes {
    /// Returns the part of a request that is permitted. A request that exceeds a limit has no effect.
    pub fn permit(&self, request: &RouteRequest) -> PermittedAttributes {
        let communities = request.communities.iter().filter_map(|name| self.communities.get(name));
        PermittedAttributes {
            communities: communities.copied().collect(),
            as_path_prepend: request
                .as_path_prepend
                .filter(|prepend| *prepend <= self.max_as_path_prepend)
                .unwrap_or_default(),
            med: request.med.filter(|_| self.med),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(annotations: &[(&str, &str)]) -> Option<RouteRequest> {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        RouteRequest::from_annotations(&annotations.collect())
    }

    fn permitted() -> ServiceAttributes {
        ServiceAttributes {
            communities: [("internal".to_owned(), Community::Standard(64512, 1))].into(),
            max_as_path_prepend: 3,
            med: true,
        }
    }

    #[test]
    fn annotations_are_read_within_bounds() {
        let (communities, prepend, med) =
            (names::BGP_COMMUNITIES, names::BGP_AS_PATH_PREPEND, names::BGP_MED);
        let long = "x".repeat(257);
        let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        for (key, value, is_valid) in [
            (communities, "internal, no-export,internal", true),
            (communities, "internal,", false),
            (communities, &*long, false),
            (communities, &*many.join(","), false),
            (prepend, "10", true),
            (prepend, "0", true),
            (prepend, "11", false),
            (prepend, "-1", false),
            (med, "4294967295", true),
            (med, "4294967296", false),
            (med, "low", false),
        ] {
            let read = request(&[(key, value)]).unwrap();
            assert_eq!(read.invalid.is_empty(), is_valid, "{key}: {value:?}");
            let requests_nothing =
                RouteRequest { invalid: BTreeSet::new(), ..read } == RouteRequest::default();
            assert_eq!(requests_nothing, !is_valid, "{key}: {value:?}");
        }
        assert_eq!(request(&[(communities, " "), ("other", "1")]), None);
        let read = request(&[(communities, "b, a,b")]).unwrap();
        assert_eq!(read.communities.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn only_permitted_attributes_take_effect() {
        let all = |communities, prepend, med| {
            request(&[
                (names::BGP_COMMUNITIES, communities),
                (names::BGP_AS_PATH_PREPEND, prepend),
                (names::BGP_MED, med),
            ])
            .unwrap()
        };
        let internal: BTreeSet<_> = [Community::Standard(64512, 1)].into();
        let nothing = PermittedAttributes::default();
        let request = all("internal, 64512:1, no-export", "3", "7");
        let expected = PermittedAttributes { communities: internal, as_path_prepend: 3, med: Some(7) };
        assert_eq!(permitted().permit(&request), expected);
        assert_eq!(permitted().permit(&all("no-export", "4", "")), nothing);
        assert_eq!(ServiceAttributes::default().permit(&request), nothing);
    }

    #[test]
    fn ineffective_annotation_is_reported() {
        let problem = |annotations: &[(&str, &str)], advertisements: &[Option<&ServiceAttributes>]| {
            request(annotations).unwrap().problem(advertisements.iter().copied()).unwrap_or_default()
        };
        let permitted = permitted();
        let both = [None, Some(&permitted)];
        for (key, value, expected) in [
            (names::BGP_COMMUNITIES, "internal", ""),
            (names::BGP_COMMUNITIES, "internal, other", "permits community \"other\""),
            (names::BGP_COMMUNITIES, ",", "is ignored"),
            (names::BGP_AS_PATH_PREPEND, "3", ""),
            (names::BGP_AS_PATH_PREPEND, "4", "permits 4"),
            (names::BGP_AS_PATH_PREPEND, "x", "a number between 0 and 10"),
            (names::BGP_MED, "1", ""),
        ] {
            let found = problem(&[(key, value)], &both);
            assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{value}: {found}");
        }
        assert!(problem(&[(names::BGP_MED, "1")], &[None]).contains("permits it"));
    }
}
