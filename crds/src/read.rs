//! Reading of objects that others wrote.
//!
//! The API server stores more than the types of a client can represent: objects of an older or newer schema,
//! times outside the range of a library, null in place of a list. [`decode`] reads what it can and reports
//! the rest, so that one object never prevents the reading of others.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};

use crate::text::printable;
use crate::{objects, v1beta1};

/// The number of values that [`decode`] leaves out one by one. After that it leaves out whole lists and
/// structures.
const MAX_LEFT_OUT: usize = 32;
/// The maximum length of [`Decoded::problem`], in octets.
const MAX_PROBLEM: usize = 256;
/// The number of levels of an object at which [`decode`] looks for a part that cannot be represented. It
/// leaves out the whole value at the last level.
const MAX_PARSED_LEVELS: usize = 8;
/// The first second of the year 0, the earliest time that the API server accepts.
const EARLIEST_SECOND: i64 = -62_167_219_200;

/// A value that was decoded as far as possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<T> {
    /// The value. The parts that cannot be decoded are left out; without any other part it is the default.
    pub value: T,
    /// The first part that cannot be decoded, and the cause; `None` if all parts can be. Printable and
    /// bounded.
    pub problem: Option<String>,
}

impl<T> Decoded<T> {
    /// Converts the value.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Decoded<U> {
        Decoded { value: convert(self.value), problem: self.problem }
    }
}

/// A type that can be read from the JSON text of any object of its kind.
pub trait ReadObject: Resource<DynamicType = ()> + Sized {
    /// Reads an object as far as possible.
    fn read(json: &str) -> Decoded<Self>;
}

/// A custom resource with a spec and a status.
pub trait CustomObject: Resource<DynamicType = ()> {
    /// The type of the spec.
    type Spec: Serialize + DeserializeOwned + Default;
    /// The type of the status.
    type Status: DeserializeOwned + Default;

    /// Returns the spec.
    fn spec(&self) -> &Self::Spec;

    /// Returns the object with these parts.
    fn from_parts(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
}

/// Implements [`CustomObject`].
macro_rules! custom_object {
    ($($kind:ty, $spec:ty, $status:ty;)*) => {$(
        impl CustomObject for $kind {
            type Spec = $spec;
            type Status = $status;

            fn spec(&self) -> &$spec {
                &self.spec
            }

            fn from_parts(metadata: ObjectMeta, spec: $spec, status: Option<$status>) -> Self {
                Self { metadata, spec, status }
            }
        }
    )*};
}

custom_object! {
    v1beta1::IPAddressPool, v1beta1::IPAddressPoolSpec, v1beta1::IPAddressPoolStatus;
    v1beta1::L2Advertisement, v1beta1::L2AdvertisementSpec, v1beta1::ObjectStatus;
    v1beta1::BGPAdvertisement, v1beta1::BGPAdvertisementSpec, v1beta1::ObjectStatus;
    v1beta1::BGPPeer, v1beta1::BGPPeerSpec, v1beta1::BGPPeerStatus;
    v1beta1::BFDProfile, v1beta1::BFDProfileSpec, v1beta1::ObjectStatus;
    v1beta1::Community, v1beta1::CommunitySpec, v1beta1::ObjectStatus;
    v1beta1::IPClaim, v1beta1::IPClaimSpec, v1beta1::IPClaimStatus;
    v1beta1::Speaker, v1beta1::SpeakerSpec, v1beta1::SpeakerStatus;
}

/// A custom resource that was read as far as possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Custom<K> {
    /// The object with the parts that can be read.
    pub object: K,
    /// Why the spec cannot be read completely; `None` if it can. The object must not be used as if it were
    /// complete: a list without one of its entries has another meaning.
    pub unreadable: Option<String>,
}

impl<K> From<K> for Custom<K> {
    fn from(object: K) -> Self {
        Self { object, unreadable: None }
    }
}

impl<K: CustomObject> ReadObject for Custom<K> {
    fn read(json: &str) -> Decoded<Self> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Parts {
            #[serde(deserialize_with = "objects::metadata")]
            metadata: ObjectMeta,
            spec: Option<Box<RawValue>>,
            status: Option<Box<RawValue>>,
        }
        let Decoded { value: Parts { metadata, spec, status }, problem } = decode(json);
        let spec = decode::<K::Spec>(spec.as_deref().map_or("{}", RawValue::get));
        let status = status.map(|status| decode::<K::Status>(status.get()));
        let unreadable =
            spec.problem.map(|problem| printable(format!("spec.{problem}"), MAX_PROBLEM).into_owned());
        let (status, of_status) = match status {
            Some(Decoded { value, problem }) => (Some(value), problem),
            None => (None, None),
        };
        let of_status =
            of_status.map(|problem| printable(format!("status.{problem}"), MAX_PROBLEM).into_owned());
        Decoded {
            problem: unreadable.clone().or(problem).or(of_status),
            value: Self { object: K::from_parts(metadata, spec.value, status), unreadable },
        }
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Custom<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.object.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.object.meta_mut()
    }
}

/// Decodes a JSON text. A part that cannot be decoded is left out, and the object that contains it too if it
/// cannot be decoded without that part.
pub fn decode<T: DeserializeOwned + Default>(json: &str) -> Decoded<T> {
    match serde_json::from_str(json) {
        Ok(value) => Decoded { value, problem: None },
        Err(error) => decode_parts(json, &error),
    }
}

fn decode_parts<T: DeserializeOwned + Default>(json: &str, error: &serde_json::Error) -> Decoded<T> {
    let whole = serde_json::from_str::<Value>(json);
    let mut problem = whole.is_err().then(|| printable(error.to_string(), MAX_PROBLEM).into_owned());
    let Some(mut tree) = whole.ok().or_else(|| representable(json, MAX_PARSED_LEVELS)) else {
        return Decoded { value: T::default(), problem };
    };
    for depth in [usize::MAX, 2, 1].into_iter().flat_map(|depth| [depth; MAX_LEFT_OUT]) {
        let error = match serde_path_to_error::deserialize(&tree) {
            Ok(value) => return Decoded { value, problem },
            Err(error) => error,
        };
        problem.get_or_insert_with(|| printable(error.to_string(), MAX_PROBLEM).into_owned());
        if !remove(&mut tree, error.path(), depth) {
            break;
        }
    }
    Decoded { value: T::default(), problem }
}

/// Returns the parts of a JSON text that can be represented as a [`Value`], which excludes numbers outside
/// the range of f64 and nesting beyond the limit of serde_json. `None` if no part can be.
fn representable(json: &str, levels: usize) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(json) {
        return Some(value);
    }
    let levels = levels.checked_sub(1)?;
    // Reading a RawValue has no limit of nesting and does not recurse.
    if let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(json) {
        let fields = fields.into_iter();
        let fields = fields.filter_map(|(name, value)| Some((name, representable(value.get(), levels)?)));
        return Some(Value::Object(fields.collect()));
    }
    let items = serde_json::from_str::<Vec<&RawValue>>(json).ok()?.into_iter();
    Some(Value::Array(items.filter_map(|item| representable(item.get(), levels)).collect()))
}

/// Removes the value at this path, or at its first `depth` segments. Returns false if there is none.
fn remove(tree: &mut Value, path: &Path, depth: usize) -> bool {
    let segments: Vec<&Segment> = path.iter().take(depth).collect();
    let Some((last, parents)) = segments.split_last() else { return false };
    let mut parent = tree;
    for segment in parents {
        let child = match segment {
            Segment::Seq { index } => parent.get_mut(index),
            Segment::Map { key } => parent.get_mut(key),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        let Some(child) = child else { return false };
        parent = child;
    }
    match (last, parent) {
        (Segment::Seq { index }, Value::Array(list)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        (Segment::Map { key }, Value::Object(fields)) => fields.remove(key).is_some(),
        _ => false,
    }
}

/// Returns the time of an RFC 3339 text; `None` if the text is not a time. The API server accepts times that
/// [`Timestamp`] cannot represent: they are moved into its range, and digits beyond nanoseconds are dropped.
pub fn timestamp(text: &str) -> Option<Timestamp> {
    let earliest = Timestamp::from_second(EARLIEST_SECOND).unwrap_or(Timestamp::MIN);
    let time = match text.parse() {
        Ok(time) => time,
        Err(_) => match without_excess_digits(text).and_then(|text| text.parse().ok()) {
            Some(time) => time,
            None => match year(text)? {
                9999.. => Timestamp::MAX,
                ..=0 => earliest,
                _ => return None,
            },
        },
    };
    Some(time.max(earliest))
}

/// Returns the text with at most nine digits of a fraction; `None` if it has no more.
fn without_excess_digits(text: &str) -> Option<String> {
    let (seconds, fraction) = text.split_once('.')?;
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 9).then(|| format!("{seconds}.{}{}", &fraction[..9], &fraction[digits..]))
}

/// Returns the year of a text that has the form of a time. The API server converts times to UTC, and then
/// writes years such as `10000` and `-0001`.
fn year(text: &str) -> Option<i32> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let length = text.len() - digits.len() + digits.find('-')?;
    let (year, rest) = text.split_at_checked(length)?;
    let has_form = rest.len() >= "-01-01T00:00:00Z".len() && rest.is_ascii() && length >= 4;
    year.parse().ok().filter(|_| has_form)
}

/// Deserializes a time with [`timestamp`].
///
/// # Errors
/// Returns an error if the value is not a time.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    let text = String::deserialize(deserializer)?;
    timestamp(&text).map(Time).ok_or_else(|| D::Error::custom("not an RFC 3339 time"))
}

/// Deserializes a time that may be absent or null with [`timestamp`].
///
/// # Errors
/// Returns an error if the value is neither null nor a time.
pub fn optional_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    timestamp(&text).map(|time| Some(Time(time))).ok_or_else(|| D::Error::custom("not an RFC 3339 time"))
}

/// Deserializes a value that the API server encodes as null if it is empty.
///
/// # Errors
/// Returns an error if the value is neither null nor of this type.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Object {
        name: String,
        #[serde(deserialize_with = "null_as_default")]
        ports: Vec<Port>,
        labels: std::collections::BTreeMap<String, String>,
        raw: Option<Value>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    struct Port {
        number: u16,
        #[serde(default)]
        protocol: Option<String>,
    }

    fn read(json: &Value) -> (Object, Option<String>) {
        let Decoded { value, problem } = decode(&json.to_string());
        (value, problem)
    }

    #[test]
    fn parts_that_cannot_be_decoded_are_left_out() {
        let port = |number| Port { number, protocol: None };
        let table = [
            (json!({ "ports": [{ "number": 80 }, { "number": 443 }] }), vec![80, 443], None),
            (json!({ "ports": null }), vec![], None),
            (json!({ "ports": [{ "number": -1 }, { "number": 443 }] }), vec![443], Some("ports[0].number")),
            (json!({ "ports": [{ "number": 80, "protocol": 6 }] }), vec![80], Some("ports[0].protocol")),
            (json!({ "ports": [{}, 7, null, { "number": 443 }] }), vec![443], Some("ports[0]")),
            (json!({ "ports": { "number": 80 } }), vec![], Some("ports")),
            (json!({ "ports": [{ "number": 1e300 }] }), vec![], Some("ports[0].number")),
        ];
        for (mut json, ports, expected) in table {
            json["name"] = "a".into();
            let (object, problem) = read(&json);
            assert_eq!(object.name, "a", "{json}");
            assert_eq!(object.ports, ports.into_iter().map(port).collect::<Vec<_>>(), "{json}");
            assert_eq!(problem.is_some(), expected.is_some(), "{json}: {problem:?}");
            assert!(problem.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{json}");
        }
    }

    #[test]
    fn hostile_text_gives_a_short_printable_problem() {
        let key = "\u{1b}[2J\n\u{202e}".repeat(1000);
        let (object, problem) = read(&json!({ "name": "a", "labels": { key: 7 } }));
        assert_eq!(object.name, "a");
        let problem = problem.unwrap();
        assert!(problem.len() <= MAX_PROBLEM && problem.starts_with("labels."), "{problem:?}");
        assert!(problem.chars().all(crate::text::is_printable), "{problem:?}");
    }

    #[test]
    fn object_with_countless_problems_keeps_the_other_fields() {
        let ports: Vec<Value> = (0..10 * MAX_LEFT_OUT).map(|_| json!({})).collect();
        let (object, problem) = read(&json!({ "name": "a", "ports": ports }));
        assert_eq!(object, Object { name: "a".to_owned(), ..Object::default() });
        assert!(problem.unwrap().starts_with("ports[0]: missing field"));
    }

    #[test]
    fn values_that_cannot_be_represented_are_left_out() {
        let deep = "[".repeat(300) + &"]".repeat(300);
        for raw in ["1e999", &deep, &format!("[{deep}, 7, {{ \"a\": 1e999 }}]")] {
            let text = format!(r#"{{ "name": "a", "ports": [{{ "number": 80 }}], "raw": {raw} }}"#);
            let Decoded { value, problem } = decode::<Object>(&text);
            assert_eq!((&*value.name, value.ports.len()), ("a", 1), "{raw:.100}");
            assert!(problem.is_some(), "{raw:.100}");
        }
        // The text is not JSON. No API server sends such a text.
        assert_eq!(decode::<Object>("{ \"name\": ").value, Object::default());
    }

    #[test]
    fn times_outside_of_the_range_are_moved_into_it() {
        let second = |text| timestamp(text).map(|time: Timestamp| time.as_second());
        assert_eq!(second("2026-01-01T00:00:00Z"), Some(1_767_225_600));
        assert_eq!(second("2026-01-01T02:00:00.1234567890123+02:00"), Some(1_767_225_600));
        assert_eq!(timestamp("9999-12-31T23:59:59-12:00"), Some(Timestamp::MAX));
        assert_eq!(timestamp("10000-01-01T11:59:59Z"), Some(Timestamp::MAX));
        assert_eq!(second("-0001-12-31T12:00:00Z"), Some(EARLIEST_SECOND));
        assert_eq!(second("0000-01-01T00:00:00+12:00"), Some(EARLIEST_SECOND));
        assert_eq!(second("0000-01-01T00:00:00Z"), Some(EARLIEST_SECOND));
        for text in [
            "",
            "soon",
            "9999-",
            "9999-ümlaut-in-a-time",
            "2026-13-01T00:00:00Z",
            "1.2345678901",
            "-",
            "--",
            "99999999999-01-01T00:00:00Z",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn custom_object_with_unreadable_spec_keeps_the_other_parts() {
        let read = |spec: Value, status: Value| {
            let object = json!({ "metadata": { "name": "a" }, "spec": spec, "status": status });
            let Decoded { value, problem } = Custom::<v1beta1::IPAddressPool>::read(&object.to_string());
            assert_eq!(value.object.metadata.name.as_deref(), Some("a"));
            (value, problem.unwrap_or_default())
        };
        let released =
            json!({ "address": "192.0.2.1", "service": "a/b", "released": "2026-01-01T00:00:00Z" });
        let (pool, problem) = read(
            json!({ "addresses": ["192.0.2.0/24", 7], "reclaim": "Retain" }),
            json!({ "recentlyReleased": [{ "address": 7 }, released], "assignedIPv4": 1e300 }),
        );
        assert!(problem.starts_with("spec.addresses[1]: invalid type"), "{problem}");
        assert_eq!(pool.unreadable, Some(problem));
        assert_eq!(pool.object.spec.addresses, ["192.0.2.0/24"]);
        assert_eq!(pool.object.status.unwrap().recently_released.len(), 1);

        let strange = json!({ "recentlyReleased": [
            { "address": "192.0.2.1", "service": "a/b", "released": "9999-12-31T23:59:59-12:00" },
        ], "conditions": [{ "type": "Ours" }, 7] });
        let (pool, problem) = read(json!({ "addresses": ["192.0.2.0/24"] }), strange);
        assert_eq!((pool.unreadable, problem.as_str()), (None, ""));
        assert_eq!(pool.object.status.unwrap().recently_released.len(), 1);

        let (pool, problem) = read(Value::Null, json!("text"));
        assert_eq!((pool.unreadable, pool.object.status), (None, Some(Default::default())));
        assert!(problem.starts_with("status."), "{problem}");
    }

    #[test]
    fn custom_object_with_unreadable_metadata_keeps_its_spec() {
        let object = json!({
            "metadata": { "name": "a", "generation": "new", "labels": { "a": 1, "b": "2" } },
            "spec": { "addresses": ["192.0.2.0/24"] },
        });
        let Decoded { value, problem } = Custom::<v1beta1::IPAddressPool>::read(&object.to_string());
        assert_eq!(value.unreadable, None);
        assert_eq!(value.object.spec.addresses, ["192.0.2.0/24"]);
        assert_eq!(value.object.metadata.name.as_deref(), Some("a"));
        assert_eq!(value.object.metadata.labels.unwrap().len(), 1);
        assert!(problem.unwrap().starts_with("metadata.generation"));
    }
}
