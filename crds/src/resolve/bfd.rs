//! Resolution of `BFDProfile` objects.

use std::ops::RangeInclusive;
use std::time::Duration;

use kube::ResourceExt;

use super::Warning;
use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use crate::model::config::BfdProfile;
use crate::v1beta1;

// The defaults of FRR. Intervals are in milliseconds.
const INTERVAL: i32 = 300;
const DETECT_MULTIPLIER: i32 = 3;
const ECHO_INTERVAL: i32 = 50;
const MINIMUM_TTL: i32 = 254;

/// Validates a BFD profile.
pub(super) fn profile(object: &v1beta1::BFDProfile) -> Result<BfdProfile, ObjectRefusal> {
    of_spec(&object.name_any(), &object.spec)
}

/// Validates the spec of the BFD profile with this name.
pub(super) fn of_spec(name: &str, spec: &v1beta1::BFDProfileSpec) -> Result<BfdProfile, ObjectRefusal> {
    Ok(BfdProfile {
        name: name.to_owned(),
        receive_interval: interval("receiveInterval", spec.receive_interval, INTERVAL)?,
        transmit_interval: interval("transmitInterval", spec.transmit_interval, INTERVAL)?,
        echo_interval: interval("echoInterval", spec.echo_interval, ECHO_INTERVAL)?,
        detect_multiplier: number("detectMultiplier", spec.detect_multiplier, DETECT_MULTIPLIER, 2..=255)?,
        echo_mode: spec.echo_mode.unwrap_or(false),
        passive_mode: spec.passive_mode.unwrap_or(false),
        minimum_ttl: number("minimumTtl", spec.minimum_ttl, MINIMUM_TTL, 1..=254)?,
    })
}

/// Returns the warnings about a valid profile.
pub(super) fn warnings(profile: &BfdProfile) -> impl Iterator<Item = Warning> {
    profile
        .echo_mode
        .then(|| Warning {
            reason: RefusalReason::EchoModeNotSupported,
            message: "echoMode and echoInterval have no effect: BFD runs without echo packets".to_owned(),
        })
        .into_iter()
}

fn interval(field: &str, value: Option<i32>, default: i32) -> Result<Duration, ObjectRefusal> {
    let milliseconds: u32 = number(field, value, default, 10..=60_000)?;
    Ok(Duration::from_millis(milliseconds.into()))
}

fn number<T: TryFrom<i32>>(
    field: &str,
    value: Option<i32>,
    default: i32,
    allowed: RangeInclusive<i32>,
) -> Result<T, ObjectRefusal> {
    let value = value.unwrap_or(default);
    match T::try_from(value) {
        Ok(number) if allowed.contains(&value) => Ok(number),
        _ => refuse(
            RefusalReason::InvalidBFDProfile,
            format!("{field} is {value}: it must be between {} and {}", allowed.start(), allowed.end()),
        ),
    }
}
