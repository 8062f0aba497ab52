//! Decodes objects from protobuf: `kubectl create namespace|secret|configmap|service` sends them in this
//! format.
//!
//! Field numbers are those of Kubernetes' `generated.proto`. Fields that kubectl does not set are ignored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Prefix of the message `runtime.Unknown`.
const MAGIC: &[u8] = b"k8s\0";

/// A message: number, name and type of its fields.
type Message = &'static [(u64, &'static str, Sort)];

#[derive(Clone, Copy)]
enum Sort {
    Text,
    Texts,
    Number,
    Flag,
    TextMap,
    BytesMap,
    IntOrString,
    One(Message),
    Many(Message),
}

const METADATA: Message = &[
    (1, "name", Sort::Text),
    (2, "generateName", Sort::Text),
    (3, "namespace", Sort::Text),
    (11, "labels", Sort::TextMap),
    (12, "annotations", Sort::TextMap),
    (14, "finalizers", Sort::Texts),
];

const NAMESPACE: Message = &[(1, "metadata", Sort::One(METADATA))];

const SERVICE_ACCOUNT: Message = &[(1, "metadata", Sort::One(METADATA))];

const SECRET: Message = &[
    (1, "metadata", Sort::One(METADATA)),
    (2, "data", Sort::BytesMap),
    (3, "type", Sort::Text),
    (4, "stringData", Sort::TextMap),
    (5, "immutable", Sort::Flag),
];

const CONFIG_MAP: Message = &[
    (1, "metadata", Sort::One(METADATA)),
    (2, "data", Sort::TextMap),
    (3, "binaryData", Sort::BytesMap),
    (4, "immutable", Sort::Flag),
];

const SERVICE_PORT: Message = &[
    (1, "name", Sort::Text),
    (2, "protocol", Sort::Text),
    (3, "port", Sort::Number),
    (4, "targetPort", Sort::IntOrString),
    (5, "nodePort", Sort::Number),
    (6, "appProtocol", Sort::Text),
];

const SERVICE: Message = &[
    (1, "metadata", Sort::One(METADATA)),
    (
        2,
        "spec",
        Sort::One(&[
            (1, "ports", Sort::Many(SERVICE_PORT)),
            (2, "selector", Sort::TextMap),
            (3, "clusterIP", Sort::Text),
            (4, "type", Sort::Text),
            (5, "externalIPs", Sort::Texts),
            (7, "sessionAffinity", Sort::Text),
            (8, "loadBalancerIP", Sort::Text),
            (9, "loadBalancerSourceRanges", Sort::Texts),
            (10, "externalName", Sort::Text),
            (11, "externalTrafficPolicy", Sort::Text),
            (17, "ipFamilyPolicy", Sort::Text),
            (18, "clusterIPs", Sort::Texts),
            (19, "ipFamilies", Sort::Texts),
            (20, "allocateLoadBalancerNodePorts", Sort::Flag),
            (21, "loadBalancerClass", Sort::Text),
            (22, "internalTrafficPolicy", Sort::Text),
        ]),
    ),
];

const UNKNOWN: Message =
    &[(1, "typeMeta", Sort::One(&[(1, "apiVersion", Sort::Text), (2, "kind", Sort::Text)]))];

/// Decodes an object.
///
/// # Errors
/// 400 for an invalid message, 415 for kinds without a protobuf decoder.
pub(crate) fn read(body: &[u8]) -> Result<Value, Failure> {
    let malformed = || Failure::bad_request("the protobuf message is malformed");
    let envelope = body.strip_prefix(MAGIC).ok_or_else(malformed)?;
    let header = message(envelope, UNKNOWN).ok_or_else(malformed)?;
    let meta = &header["typeMeta"];
    let layout = match (meta["apiVersion"].as_str(), meta["kind"].as_str()) {
        (Some("v1"), Some("Namespace")) => NAMESPACE,
        (Some("v1"), Some("Secret")) => SECRET,
        (Some("v1"), Some("ConfigMap")) => CONFIG_MAP,
        (Some("v1"), Some("Service")) => SERVICE,
        (Some("v1"), Some("ServiceAccount")) => SERVICE_ACCOUNT,
        _ => return Err(Failure::unsupported_media_type(&["application/json", "application/yaml"])),
    };
    let mut raw: &[u8] = &[];
    let mut rest = envelope;
    while !rest.is_empty() {
        if let (2, Wire::Bytes(bytes)) = field(&mut rest).ok_or_else(malformed)? {
            raw = bytes;
        }
    }
    let mut object = message(raw, layout).ok_or_else(malformed)?;
    object["apiVersion"] = meta["apiVersion"].clone();
    object["kind"] = meta["kind"].clone();
    Ok(object)
}

/// A field's value on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a wire type that no layout uses.
    Other,
}

fn message(mut rest: &[u8], layout: Message) -> Option<Value> {
    let mut fields = Map::new();
    while !rest.is_empty() {
        let (number, wire) = field(&mut rest)?;
        let Some((_, name, sort)) = layout.iter().find(|(known, ..)| *known == number) else { continue };
        // Go also writes empty fields.
        match (sort, wire) {
            (Sort::Text, Wire::Bytes([])) | (Sort::Number, Wire::Number(0)) => {}
            (Sort::Text, Wire::Bytes(bytes)) => drop(fields.insert((*name).into(), text(bytes)?)),
            (Sort::Texts, Wire::Bytes(bytes)) => push(&mut fields, name, text(bytes)?),
            (Sort::Number, Wire::Number(number)) => {
                // Negative numbers are two's complement.
                drop(fields.insert((*name).into(), json!(number.cast_signed())));
            }
            (Sort::Flag, Wire::Number(number)) => drop(fields.insert((*name).into(), json!(number != 0))),
            (Sort::TextMap | Sort::BytesMap, Wire::Bytes(bytes)) => {
                let (key, value) = entry(bytes)?;
                let value = match sort {
                    Sort::BytesMap => json!(BASE64.encode(value)),
                    _ => text(value)?,
                };
                fields.entry(*name).or_insert_with(|| json!({}))[key] = value;
            }
            (Sort::IntOrString, Wire::Bytes(bytes)) => {
                let layout: Message =
                    &[(1, "type", Sort::Number), (2, "number", Sort::Number), (3, "text", Sort::Text)];
                let parts = message(bytes, layout)?;
                let value = if parts["type"] == 1 { &parts["text"] } else { &parts["number"] };
                if !value.is_null() {
                    fields.insert((*name).into(), value.clone());
                }
            }
            (Sort::One(layout), Wire::Bytes(bytes)) => {
                drop(fields.insert((*name).into(), message(bytes, layout)?));
            }
            (Sort::Many(layout), Wire::Bytes(bytes)) => push(&mut fields, name, message(bytes, layout)?),
            _ => return None,
        }
    }
    Some(Value::Object(fields))
}

fn push(fields: &mut Map<String, Value>, name: &str, value: Value) {
    if let Value::Array(items) = fields.entry(name).or_insert_with(|| json!([])) {
        items.push(value);
    }
}

/// Key and value of a map entry.
fn entry(mut rest: &[u8]) -> Option<(String, &[u8])> {
    let (mut key, mut value) = (String::new(), &[][..]);
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Wire::Bytes(bytes)) => key = String::from_utf8(bytes.to_vec()).ok()?,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Some((key, value))
}

fn text(bytes: &[u8]) -> Option<Value> {
    Some(json!(std::str::from_utf8(bytes).ok()?))
}

/// Removes the next field from the input.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = varint(rest)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(rest)?),
        1 => {
            take(rest, 8)?;
            Wire::Other
        }
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => {
            take(rest, 4)?;
            Wire::Other
        }
        _ => return None,
    };
    Some((tag >> 3, wire))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, b"v1"), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, raw)].concat()
    }

    #[test]
    fn protobuf_secret_and_service_are_decoded() {
        let data = [bytes(1, b"password"), bytes(2, b"geheim")].concat();
        let secret = [bytes(1, &bytes(1, b"peer")), bytes(2, &data), bytes(3, b"")].concat();
        assert_eq!(
            read(&envelope("Secret", &secret)).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": { "name": "peer" }, "data": { "password": "Z2VoZWlt" },
            })
        );
        let target = [&[1 << 3, 0, 2 << 3][..], &[0x90, 0x3f], &bytes(3, b"")].concat();
        let port = [bytes(2, b"TCP"), vec![3 << 3, 80], bytes(4, &target), vec![5 << 3, 0]].concat();
        let service = [bytes(1, &bytes(1, b"web")), bytes(2, &bytes(1, &port))].concat();
        assert_eq!(
            read(&envelope("Service", &service)).unwrap()["spec"],
            json!({ "ports": [{ "protocol": "TCP", "port": 80, "targetPort": 8080 }] })
        );
    }

    #[test]
    fn invalid_protobuf_is_rejected_without_panic() {
        let good = envelope("Secret", &bytes(1, &bytes(1, b"peer")));
        // The only truncation that leaves whole fields is between the two fields of the envelope.
        let boundary = MAGIC.len() + bytes(1, &[bytes(1, b"v1"), bytes(2, b"Secret")].concat()).len();
        for length in (0..good.len()).filter(|length| *length != boundary) {
            assert!(read(&good[..length]).is_err(), "{length}");
        }
        for at in 0..good.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                // The decoder must accept or reject it.
                let _ = read(&bad);
            }
        }
        assert_eq!(read(&envelope("Pod", &[])).unwrap_err().code, 415);
        assert_eq!(read(b"{}").unwrap_err().code, 400);
    }
}
