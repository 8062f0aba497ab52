//! YAML with the position of every value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// The greatest depth of a document. Kubernetes objects are far below it, also CustomResourceDefinitions.
const MAX_DEPTH: usize = 200;

/// The stack of the parser, in octets: the deserializer recurses, and takes up to 40 KiB per level.
const STACK: usize = 32 << 20;

/// The greatest number of values and of octets of text in one file: about 100,000 objects.
const MAX_NODES: usize = 10_000_000;
const MAX_TEXT: usize = 512 << 20;

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub line: u64,
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// A value and its position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub position: Position,
    content: Content,
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key, its position, and its value.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: String,
    position: Position,
    value: Node,
}

/// A text that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub position: Position,
    pub message: String,
}

/// Parses all documents of a YAML or JSON text. A byte order mark at the start is skipped. A key that appears
/// twice in a mapping is kept twice; see [`Node::duplicate_keys`].
///
/// # Errors
/// Returns the first syntax error.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let failed = |message: &str| SyntaxError { position: Position::default(), message: message.to_owned() };
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || parse_here(text));
        let parser = parser.map_err(|error| failed(&format!("cannot start the parser: {error}")))?;
        parser.join().unwrap_or_else(|_| Err(failed("the parser failed")))
    })
}

/// Parses on the stack of the caller.
fn parse_here(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        emit_comments: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 3 * MAX_NODES,
            max_documents: MAX_NODES,
            max_total_scalar_bytes: MAX_TEXT,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let position = error.location().map(Position::from).unwrap_or_default();
        SyntaxError { position, message: error.to_string() }
    })
}

impl Node {
    /// Returns the value without positions. Of a key that appears twice, the last value counts.
    pub(crate) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Node::value).collect(),
            Content::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.value())).collect()
            }
        }
    }

    /// Returns true for a document without content.
    pub(crate) fn is_null(&self) -> bool {
        self.content == Content::Scalar(Value::Null)
    }

    /// Returns the value of a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().rev().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Returns the text of a scalar.
    pub(crate) fn as_str(&self) -> Option<&str> {
        let Content::Scalar(value) = &self.content else { return None };
        value.as_str()
    }

    /// Converts a list to its items.
    pub(crate) fn items(&self) -> Option<&[Node]> {
        let Content::List(items) = &self.content else { return None };
        Some(items)
    }

    /// Returns the position of the field with a path such as `spec.ports[0].port`, or of the innermost field
    /// on the path that exists.
    pub(crate) fn position_of(&self, path: &str) -> Position {
        let mut best = self.position;
        let mut node = self;
        let mut rest = path;
        while !rest.is_empty() {
            let Some((position, next, after)) = node.step(rest) else { break };
            (best, node, rest) = (position, next, after.trim_start_matches('.'));
        }
        best
    }

    /// Follows the first step of a path. Keys can contain dots, so the longest key that fits is taken.
    fn step<'a>(&'a self, path: &'a str) -> Option<(Position, &'a Node, &'a str)> {
        match &self.content {
            Content::Scalar(_) => None,
            Content::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item.position, item, rest))
            }
            Content::Map(entries) => {
                // kube-apiserver writes keys that are not plain as `labels[key]`.
                let path = path.strip_prefix('[').unwrap_or(path);
                entries
                    .iter()
                    .rev()
                    .filter_map(|entry| {
                        let rest = path.strip_prefix(&entry.key)?;
                        let ends = rest.is_empty() || rest.starts_with(['.', '[', ']']);
                        ends.then(|| (entry, rest.strip_prefix(']').unwrap_or(rest)))
                    })
                    .max_by_key(|(entry, _)| entry.key.len())
                    .map(|(entry, rest)| (entry.position, &entry.value, rest))
            }
        }
    }

    /// Returns each key that appears a further time in its mapping: its path and position.
    pub(crate) fn duplicate_keys(&self) -> Vec<(String, Position)> {
        let mut found = Vec::new();
        self.find_duplicate_keys("", &mut found);
        found
    }

    fn find_duplicate_keys(&self, path: &str, found: &mut Vec<(String, Position)>) {
        match &self.content {
            Content::Scalar(_) => {}
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.find_duplicate_keys(&format!("{path}[{index}]"), found);
                }
            }
            Content::Map(entries) => {
                let mut seen = std::collections::HashSet::new();
                for entry in entries {
                    let path = match path {
                        "" => entry.key.clone(),
                        _ => format!("{path}.{}", entry.key),
                    };
                    if !seen.insert(&entry.key) {
                        found.push((path.clone(), entry.position));
                    }
                    entry.value.find_duplicate_keys(&path, found);
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { position: spanned.referenced.into(), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Content, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("the number has no JSON form"))?;
        Ok(Content::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = fields.next_key::<Spanned<String>>()? {
            let value = fields.next_value()?;
            entries.push(Entry { key: key.value, position: key.referenced.into(), value });
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POOL: &str = "\
# Addresses.
kind: IPAddressPool
metadata:
  name: lan
  labels: {a.b/c: x, a: y}
spec:
  addresses:
    - 192.0.2.0/24
    - 198.51.100.0/24
  autoAssign: no
";

    fn pool() -> Node {
        parse(POOL).unwrap().remove(0)
    }

    #[test]
    fn values_have_the_types_that_kubectl_reads() {
        let value = pool().value();
        assert_eq!(value["spec"]["autoAssign"], json!(false));
        let table = [
            ("a: 1", json!({ "a": 1 })),
            ("a: -1", json!({ "a": -1 })),
            ("a: 1.5", json!({ "a": 1.5 })),
            ("a: 18446744073709551615", json!({ "a": u64::MAX })),
            ("a: '1'", json!({ "a": "1" })),
            ("a: ~", json!({ "a": null })),
            ("a:", json!({ "a": null })),
            ("a: 192.0.2.1", json!({ "a": "192.0.2.1" })),
            ("a: {b: [c, true]}", json!({ "a": { "b": ["c", true] } })),
            ("1: a", json!({ "1": "a" })),
            (r#"{"a": "\u00e9"}"#, json!({ "a": "é" })),
            ("a: &x [1]\nb: *x", json!({ "a": [1], "b": [1] })),
            ("\u{feff}a: 1", json!({ "a": 1 })),
        ];
        for (text, value) in table {
            assert_eq!(parse(text).unwrap()[0].value(), value, "{text:?}");
        }
    }

    #[test]
    fn position_is_that_of_innermost_existing_field() {
        let pool = pool();
        let at = |line, column| Position { line, column };
        for (path, position) in [
            ("", at(2, 1)),
            ("spec", at(6, 1)),
            ("spec.addresses", at(7, 3)),
            ("spec.addresses[1]", at(9, 7)),
            ("spec.addresses[9]", at(7, 3)),
            ("spec.missing.field", at(6, 1)),
            ("metadata.labels.a.b/c", at(5, 12)),
            ("metadata.labels[a.b/c]", at(5, 12)),
            ("metadata.labels.a", at(5, 22)),
            ("nothing", at(2, 1)),
        ] {
            assert_eq!(pool.position_of(path), position, "{path:?}");
        }
    }

    #[test]
    fn duplicate_keys_are_found_at_any_depth() {
        let text = "a: 1\nb:\n  - {c: 1, c: 2}\na: 2\n";
        let node = parse(text).unwrap().remove(0);
        let found: Vec<String> =
            node.duplicate_keys().into_iter().map(|(path, at)| format!("{path} {at}")).collect();
        assert_eq!(found, ["b[0].c 3:12", "a 4:1"]);
        assert_eq!(node.value(), json!({ "a": 2, "b": [{ "c": 2 }] }));
    }

    #[test]
    fn syntax_error_has_a_position() {
        let error = parse("a: 1\nb: [\n").unwrap_err();
        assert!(error.position.line >= 2, "{error:?}");
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(&deep(190)).is_ok());
        assert!(parse(&deep(100_000)).is_err());
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..12 {
            let alias = format!("*a{}", i - 1);
            bomb += &format!("a{i}: &a{i} [{}]\n", [alias.as_str(); 9].join(","));
        }
        assert!(parse(&bomb).is_err());
    }
}
