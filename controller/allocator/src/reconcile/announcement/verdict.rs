//! The condition `fairlead.dev/Advertised` of a Service.

use std::net::IpAddr;

use fairlead_crds::conditions::ConditionStatus;
use fairlead_crds::names;

use super::speakers::{Facts, Speakers};
use crate::reconcile::condition_digest::{ConditionDigest, ServiceCondition};
use crate::reconcile::outcome::AllocationReason;

/// The content of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::reconcile) struct Verdict {
    pub(in crate::reconcile) status: ConditionStatus,
    pub(in crate::reconcile) reason: AllocationReason,
    pub(in crate::reconcile) message: Box<str>,
    /// True if a speaker that has not published lists of addresses may announce an address.
    pub(in crate::reconcile) awaits_lists: bool,
}

/// The protocols by which advertisements cover the addresses of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::reconcile) struct Coverage {
    pub(in crate::reconcile) l2: bool,
    pub(in crate::reconcile) bgp: bool,
}

impl Verdict {
    /// Returns the verdict on the addresses of a Service, each with the protocols that cover it. `service` is
    /// `namespace/name`.
    pub(in crate::reconcile) fn new(
        speakers: &Speakers,
        service: &str,
        addresses: impl Iterator<Item = (IpAddr, Coverage)> + Clone,
    ) -> Self {
        let facts = speakers.facts();
        if !facts.is_listed {
            return Self::of(
                ConditionStatus::Unknown,
                AllocationReason::SpeakersUnknown,
                "the controller has not listed the Speaker objects: see its log",
            );
        }
        let mut announced = Vec::new();
        let mut missing: Option<(AllocationReason, String)> = None;
        for (ip, coverage) in addresses {
            match protocols(speakers.announced(ip)) {
                Some(protocols) => announced.push(format!("{ip} by {protocols}")),
                None => {
                    let (reason, why) = obstacle(speakers, facts, service, ip, coverage);
                    missing = Some(match missing {
                        Some((first, text)) => (first, format!("{text}; {ip}: {why}")),
                        None => (reason, format!("{ip}: {why}")),
                    });
                }
            }
        }
        // After the addresses: a node that may announce no more may still announce for a while.
        match (missing, general_obstacle(facts)) {
            (None, _) => Self::of(ConditionStatus::True, AllocationReason::Announced, announced.join("; ")),
            (Some(_), Some((reason, message))) => Self::of(ConditionStatus::False, reason, message),
            (Some((reason, message)), None) => {
                let is_unknown = reason == AllocationReason::ListIncomplete;
                let status = if is_unknown { ConditionStatus::Unknown } else { ConditionStatus::False };
                Self { awaits_lists: facts.has_unpublished, ..Self::of(status, reason, message) }
            }
        }
    }

    fn of(status: ConditionStatus, reason: AllocationReason, message: impl Into<Box<str>>) -> Self {
        Self { status, reason, message: message.into(), awaits_lists: false }
    }

    /// Returns whether a condition has this content.
    pub(super) fn is_shown_by(&self, shown: &ConditionDigest) -> bool {
        shown.is_of(&self.condition())
    }

    /// Returns the condition, without its transition time.
    pub(in crate::reconcile) fn condition(&self) -> ServiceCondition {
        ServiceCondition::new(names::ADVERTISED, self.status, self.reason, self.message.to_string())
    }

    /// Returns the verdict on addresses of which no advertisement covers one.
    pub(in crate::reconcile) fn not_covered() -> Self {
        Self::of(
            ConditionStatus::False,
            AllocationReason::NoAdvertisement,
            "no advertisement covers every address: see the condition fairlead.dev/Covered",
        )
    }
}

/// Returns why no address is announced, whatever the address.
fn general_obstacle(facts: Facts) -> Option<(AllocationReason, &'static str)> {
    let Facts { has_objects, has_live, has_eligible, .. } = facts;
    if !has_objects {
        Some((AllocationReason::NoSpeaker, "there is no Speaker object: run the speaker on the Nodes"))
    } else if !has_live {
        Some((AllocationReason::NoSpeaker, "no speaker is ready: see kubectl get speakers"))
    } else if !has_eligible {
        Some((
            AllocationReason::NodesExcluded,
            "no Node with a ready speaker may announce addresses: the condition Eligible of the Speaker \
             objects contains the reasons",
        ))
    } else {
        None
    }
}

fn protocols(announced: (bool, bool)) -> Option<&'static str> {
    match announced {
        (true, true) => Some("L2 and BGP"),
        (true, false) => Some("L2"),
        (false, true) => Some("BGP"),
        (false, false) => None,
    }
}

/// Returns why no speaker announces the address.
fn obstacle(
    speakers: &Speakers,
    facts: Facts,
    service: &str,
    ip: IpAddr,
    coverage: Coverage,
) -> (AllocationReason, String) {
    if let Some(obstacle) = speakers.obstacle(service, ip) {
        return (obstacle.reason(), obstacle.message.to_string());
    }
    if facts.has_unpublished {
        let why = "no Speaker object lists the address, and a speaker of an earlier version lists no \
                   addresses: run one version of the speaker on all Nodes";
        return (AllocationReason::ListIncomplete, why.to_owned());
    }
    if facts.has_incomplete {
        let why = "no Speaker object lists the address, and the list of one of them is incomplete";
        return (AllocationReason::ListIncomplete, why.to_owned());
    }
    if coverage.bgp && !coverage.l2 && !facts.has_session {
        let why = "no BGP session is established: see kubectl get bgppeers";
        return (AllocationReason::NoSession, why.to_owned());
    }
    let why = format!(
        "no speaker announces it, and none reports a reason: run fairlead explain service {service}, which \
         computes the reason for each Node"
    );
    (AllocationReason::NotAnnounced, why)
}
