//! Lines of the JSON format.
//!
//! The formatter escapes control characters only. The program that reads the log decodes the strings and may
//! display them on a terminal, so unprintable characters are escaped in the decoded string too.

use std::borrow::Cow;
use std::fmt;

use fairlead_crds::text::{MAX_MESSAGE, is_printable, printable};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The maximum length of a line, in octets.
const MAX_LINE: usize = 16 * 1024;
/// The maximum lengths of a string, in octets. The first one with which the line is not too long applies. The
/// program determines the number of fields, and a string of the last length always fits.
const MAX_STRINGS: [usize; 4] = [MAX_MESSAGE, 512, 128, 32];

/// Returns an event of the formatter as one line that ends with a line feed: a JSON object whose strings are
/// printable and bounded.
pub(super) fn line(event: &str) -> Cow<'_, str> {
    let text = event.strip_suffix('\n').unwrap_or(event);
    let is_harmless = |character| is_printable(character) && character != '\\';
    if text.len() <= MAX_MESSAGE && text.len() < event.len() && text.chars().all(is_harmless) {
        return Cow::Borrowed(event);
    }
    let Fields(fields) = serde_json::from_str(text).unwrap_or_else(|_| {
        // Not written by the formatter. The log must not lose it.
        Fields(vec![("message".to_owned(), Value::String(text.to_owned()))])
    });
    let mut line = String::new();
    for max in MAX_STRINGS {
        let bounded = fields.iter().map(|(name, value)| (name.clone(), bounded(value, max))).collect();
        // Strings and numbers cannot fail to be written.
        line = serde_json::to_string(&Fields(bounded)).unwrap_or_default();
        line.push('\n');
        if line.len() <= MAX_LINE {
            break;
        }
    }
    Cow::Owned(line)
}

fn bounded(value: &Value, max: usize) -> Value {
    match value {
        Value::String(text) => Value::String(printable(text.as_str(), max).into_owned()),
        Value::Array(values) => values.iter().map(|value| bounded(value, max)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), bounded(value, max))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The fields of an object, in order.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::logging::{Format, LineWriter};

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns what is written for the log events of `log`.
    fn written(log: impl FnOnce()) -> String {
        let output = Output::default();
        let inner = output.clone();
        let writer = move || LineWriter { format: Format::Json, inner: inner.clone() };
        let builder = tracing_subscriber::fmt().with_writer(writer).json().flatten_event(true);
        tracing::subscriber::with_default(builder.finish(), log);
        let bytes = output.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn strings_are_printable_bounded_and_in_order() {
        let hostile =
            ["\u{1b}[2J", "\u{202e}", "\u{2028}", "\u{7f}", "\n{\"level\":\"ERROR\"}\n", "\"\\", "😀"];
        for piece in hostile {
            for count in [1, 200, 64 * 1024] {
                let text = piece.repeat(count);
                let lines = written(|| {
                    tracing::warn!(name = %text, debug = ?text, count, "message {text}");
                    tracing::info!("next");
                });
                assert_eq!(lines.lines().count(), 2, "{count} × {piece:?}");
                let line = lines.lines().next().unwrap();
                assert!(
                    line.len() <= MAX_LINE && line.chars().all(is_printable),
                    "{count} × {piece:?}: {line}"
                );
                assert!(line.starts_with(r#"{"timestamp":""#), "{line}");
                let event: Value = serde_json::from_str(line).unwrap();
                assert_eq!((&event["level"], &event["count"]), (&"WARN".into(), &count.into()));
                for field in ["name", "debug", "message"] {
                    let text = event[field].as_str().unwrap();
                    assert!(text.len() <= MAX_MESSAGE && text.chars().all(is_printable), "{field}: {text:?}");
                }
            }
        }
    }

    #[test]
    fn ordinary_event_is_written_as_formatted() {
        let lines = written(|| tracing::info!(pool = "lan", ü = 1, "ready"));
        let event: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&event["pool"], &event["message"]), (&"lan".into(), &"ready".into()));
        assert!(matches!(line(&lines), Cow::Borrowed(_)), "{lines}");
        assert_eq!(line("no object"), "{\"message\":\"no object\"}\n");
    }

    #[test]
    fn line_of_many_long_strings_is_bounded() {
        let fields: Vec<String> = (0..100).map(|n| format!("\"f{n}\":\"{}\"", "\\\"".repeat(2000))).collect();
        let line = line(&format!("{{{}}}\n", fields.join(","))).into_owned();
        assert!(line.len() <= MAX_LINE, "{}", line.len());
        assert!(serde_json::from_str::<Value>(&line).is_ok());
    }
}
