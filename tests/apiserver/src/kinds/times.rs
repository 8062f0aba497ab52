//! Times in Kubernetes kinds, read and written as Go does: kube-apiserver stores times that RFC 3339
//! libraries refuse.
//!
//! The typed objects of the built-in kinds cannot hold an absent time, a year above 9999 or a long fraction.
//! Times are therefore set aside before an object becomes typed, and put back afterwards.

use serde_json::{Map, Value};

/// What a typed object contains instead of a time that is set aside.
const PLACEHOLDER: &str = "2000-01-01T00:00:00.000000Z";
/// Fields of type `metav1.Time`: whole seconds.
const SECONDS: &[&str] = &[
    "creationTimestamp",
    "deletionTimestamp",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
    "finishedAt",
    "firstTimestamp",
    "lastHeartbeatTime",
    "lastProbeTime",
    "lastTimestamp",
    "lastTransitionTime",
    "lastUpdateTime",
    "startTime",
    "startedAt",
    "timeAdded",
];
/// Fields of type `metav1.MicroTime`: exactly six digits of fraction.
const MICROS: &[&str] = &["acquireTime", "eventTime", "lastObservedTime", "renewTime"];
/// Fields whose keys are the user's, or whose content is not of a Kubernetes type.
const OPAQUE: &[&str] = &[
    "annotations",
    "binaryData",
    "data",
    "fieldsV1",
    "labels",
    "matchLabels",
    "nodeSelector",
    "selector",
    "stringData",
    "versions",
];
/// Seconds from 0001-01-01T00:00:00Z, Go's zero time, to 1970.
const ZERO: i64 = -62_135_596_800;

/// Times taken out of an object.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<(Vec<Step>, Value)>);

#[derive(Clone, Debug)]
enum Step {
    Field(String),
    Item(usize),
}

impl Times {
    /// Replaces the times of an object by one that every typed object can hold. A condition without a time
    /// gets `null`, as Go encodes it.
    ///
    /// # Errors
    /// The message of Go's parser for a text that it refuses.
    pub(crate) fn set_aside(object: &mut Value) -> Result<Times, String> {
        let mut times = Times::default();
        times.walk(object, &mut Vec::new(), Place::Plain)?;
        Ok(times)
    }

    /// Puts the times back.
    pub(crate) fn put_back(self, object: &mut Value) {
        for (path, time) in self.0 {
            let mut place = Some(&mut *object);
            for step in path {
                place = match (place, step) {
                    (Some(Value::Object(fields)), Step::Field(name)) => fields.get_mut(&name),
                    (Some(Value::Array(items)), Step::Item(at)) => items.get_mut(at),
                    _ => None,
                };
            }
            if let Some(place) = place {
                *place = time;
            }
        }
    }

    fn walk(&mut self, value: &mut Value, path: &mut Vec<Step>, place: Place) -> Result<(), String> {
        match value {
            Value::Object(fields) => self.walk_fields(fields, path, place)?,
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    path.push(Step::Item(at));
                    self.walk(item, path, place)?;
                    path.pop();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn walk_fields(
        &mut self,
        fields: &mut Map<String, Value>,
        path: &mut Vec<Step>,
        place: Place,
    ) -> Result<(), String> {
        if place == Place::Conditions {
            fields.entry("lastTransitionTime").or_insert(Value::Null);
        }
        for (name, value) in fields.iter_mut() {
            let field = name.as_str();
            if OPAQUE.contains(&field) {
                continue;
            }
            let seconds = SECONDS.contains(&field) || (place == Place::ManagedFields && field == "time");
            let time = match value {
                Value::String(text) if seconds => Some(read(text, false)?),
                Value::String(text) if MICROS.contains(&field) => Some(read(text, true)?),
                Value::Null if seconds && place == Place::Conditions => Some(Value::Null),
                _ => None,
            };
            path.push(Step::Field(name.clone()));
            match time {
                Some(time) => {
                    *value = Value::String(PLACEHOLDER.into());
                    self.0.push((path.clone(), time));
                }
                None => {
                    let place = match field {
                        "conditions" if value.is_array() => Place::Conditions,
                        "managedFields" => Place::ManagedFields,
                        _ => Place::Plain,
                    };
                    self.walk(value, path, place)?;
                }
            }
            path.pop();
        }
        Ok(())
    }
}

/// The list whose items are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Plain,
    Conditions,
    ManagedFields,
}

/// `time.Parse` and the encoding of `metav1.Time` or `metav1.MicroTime`: UTC; null for the zero time.
fn read(text: &str, micros: bool) -> Result<Value, String> {
    let layout = if micros { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let (seconds, fraction) =
        parse(text, micros).ok_or_else(|| format!("parsing time {text:?} as {layout:?}: cannot parse"))?;
    if seconds == ZERO && (fraction == "000000" || !micros) {
        return Ok(Value::Null);
    }
    let fraction = if micros { format!(".{fraction}") } else { String::new() };
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let sign = if year < 0 { "-" } else { "" };
    let year = year.abs();
    Ok(Value::String(format!(
        "{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"
    )))
}

/// Returns the seconds since 1970 and the digits of the fraction.
fn parse(text: &str, micros: bool) -> Option<(i64, &str)> {
    let mut rest = text;
    let year = number(&mut rest, 4, 9999)?;
    let month = number(literal(&mut rest, '-')?, 2, 12)?;
    let day = number(literal(&mut rest, '-')?, 2, 31)?;
    let hour = number(literal(&mut rest, 'T')?, 2, 23)?;
    let minute = number(literal(&mut rest, ':')?, 2, 59)?;
    let second = number(literal(&mut rest, ':')?, 2, 59)?;
    let days = days(year, month, day);
    if civil(days) != (year, month, day) {
        return None;
    }
    let fraction = match rest.strip_prefix(['.', ',']) {
        Some(after) => {
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            rest = &after[end..];
            &after[..end]
        }
        None => "",
    };
    if (micros && fraction.len() != 6) || (fraction.is_empty() && text.contains(['.', ','])) {
        return None;
    }
    let offset = match rest {
        "Z" => 0,
        _ => {
            let sign = match rest.chars().next()? {
                '+' => 1,
                '-' => -1,
                _ => return None,
            };
            rest = &rest[1..];
            let hours = number(&mut rest, 2, 24)?;
            let minutes = number(literal(&mut rest, ':')?, 2, 60)?;
            if !rest.is_empty() {
                return None;
            }
            sign * (hours * 3600 + minutes * 60)
        }
    };
    Some((days * 86_400 + hour * 3600 + minute * 60 + second - offset, fraction))
}

fn literal<'a, 'b>(rest: &'a mut &'b str, wanted: char) -> Option<&'a mut &'b str> {
    *rest = rest.strip_prefix(wanted)?;
    Some(rest)
}

fn number(rest: &mut &str, digits: usize, largest: i64) -> Option<i64> {
    let text = rest.get(..digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    *rest = &rest[digits..];
    text.parse().ok().filter(|number| *number <= largest)
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // A year begins in March, so that a leap day ends it.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_and_written_as_in_go() {
        for (text, written) in [
            ("2026-01-02T03:04:05Z", json!("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04:05.1234567890123Z", json!("2026-01-02T03:04:05Z")),
            ("2024-02-29T23:30:00-01:30", json!("2024-03-01T01:00:00Z")),
            ("9999-12-31T23:59:59-12:00", json!("10000-01-01T11:59:59Z")),
            ("0000-01-01T00:00:00+12:00", json!("-0001-12-31T12:00:00Z")),
            ("0001-01-01T00:00:00Z", Value::Null),
        ] {
            assert_eq!(read(text, false).unwrap(), written, "{text}");
        }
        for text in [
            "",
            "x",
            "2026-02-30T00:00:00Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05.Z",
            "10000-01-01T11:59:59Z",
        ] {
            assert!(read(text, false).is_err(), "{text}");
        }
        assert_eq!(
            read("2026-01-02T03:04:05.000001+01:00", true).unwrap(),
            json!("2026-01-02T02:04:05.000001Z")
        );
        for text in ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1234567Z"] {
            assert!(read(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn every_date_survives_the_calendar() {
        for day in (-800_000..3_000_000).step_by(7) {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
        assert_eq!(civil(0), (1970, 1, 1));
    }

    #[test]
    fn set_aside_times_return_to_their_places() {
        let object = json!({
            "metadata": { "annotations": { "renewTime": "soon" }, "managedFields": [{ "time": "2026-01-01T00:00:00Z" }] },
            "status": { "conditions": [
                { "type": "A" }, { "type": "B", "lastTransitionTime": "9999-12-31T23:59:59-12:00" },
            ] },
        });
        let mut typed = object.clone();
        let times = Times::set_aside(&mut typed).unwrap();
        assert_eq!(typed["status"]["conditions"][0]["lastTransitionTime"], PLACEHOLDER);
        assert_eq!(typed["metadata"]["annotations"], object["metadata"]["annotations"]);
        times.put_back(&mut typed);
        assert_eq!(typed["status"]["conditions"][0]["lastTransitionTime"], Value::Null);
        assert_eq!(typed["status"]["conditions"][1]["lastTransitionTime"], "10000-01-01T11:59:59Z");
        assert_eq!(typed["metadata"], object["metadata"]);
    }
}
