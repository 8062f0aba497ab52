//! Label and field selectors. Pure.

use serde_json::Value;

/// The objects that a list, watch or collection deletion selects.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq)]
enum LabelTerm {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Greater(String, i64),
    Less(String, i64),
}

#[derive(Clone, Debug, PartialEq)]
struct FieldTerm {
    /// Path below the object, already validated.
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Selector {
    /// Parses both; `supported` returns true for fields of the kind that may be selected.
    ///
    /// # Errors
    /// A message if either is invalid or a field is not supported.
    pub(crate) fn parse(
        labels: Option<&str>,
        fields: Option<&str>,
        supported: impl Fn(&str) -> bool,
    ) -> Result<Selector, String> {
        Ok(Selector {
            labels: parse_labels(labels.unwrap_or_default())?,
            fields: parse_fields(fields.unwrap_or_default(), supported)?,
        })
    }

    /// Selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Returns the name that the selector requires, so that a watch of one object can skip others.
    pub(crate) fn only_name(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|term| term.equal && term.path == ["metadata", "name"])
            .map(|term| term.value.as_str())
    }

    /// Returns true if an object is selected.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|term| term.matches(labels))
            && self.fields.iter().all(|term| term.matches(object))
    }
}

impl LabelTerm {
    fn matches(&self, labels: &Value) -> bool {
        let get = |key: &String| labels.get(key).and_then(Value::as_str);
        match self {
            LabelTerm::In(key, values) => get(key).is_some_and(|value| values.iter().any(|x| x == value)),
            LabelTerm::NotIn(key, values) => !get(key).is_some_and(|value| values.iter().any(|x| x == value)),
            LabelTerm::Exists(key) => get(key).is_some(),
            LabelTerm::Absent(key) => get(key).is_none(),
            LabelTerm::Greater(key, than) => number(get(key)).is_some_and(|value| value > *than),
            LabelTerm::Less(key, than) => number(get(key)).is_some_and(|value| value < *than),
        }
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let mut at = object;
        for step in &self.path {
            at = &at[step.as_str()];
        }
        let equal = match at {
            Value::String(text) => *text == self.value,
            // An absent field has the zero value of its type.
            Value::Null => matches!(self.value.as_str(), "" | "false" | "0"),
            other => format!("{other}") == self.value,
        };
        equal == self.equal
    }
}

fn number(text: Option<&str>) -> Option<i64> {
    text?.parse().ok()
}

fn parse_labels(text: &str) -> Result<Vec<LabelTerm>, String> {
    let mut terms = Vec::new();
    for term in split_outside_parentheses(text) {
        let term = term.trim();
        if term.is_empty() {
            continue;
        }
        terms.push(
            parse_label_term(term)
                .ok_or_else(|| format!("unable to parse requirement: {term:?} is not a label selector"))?,
        );
    }
    Ok(terms)
}

fn parse_label_term(term: &str) -> Option<LabelTerm> {
    if let Some(key) = term.strip_prefix('!') {
        return Some(LabelTerm::Absent(label_key(key)?));
    }
    if let Some(open) = term.find('(') {
        let values = term[open + 1..].strip_suffix(')')?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = term[..open].trim().rsplit_once(char::is_whitespace)?;
        return match operator {
            "in" => Some(LabelTerm::In(label_key(key)?, values)),
            "notin" => Some(LabelTerm::NotIn(label_key(key)?, values)),
            _ => None,
        };
    }
    let value = |text: &str| {
        let text = text.trim();
        text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)).then(|| text.to_owned())
    };
    if let Some((key, text)) = term.split_once("!=") {
        return Some(LabelTerm::NotIn(label_key(key)?, vec![value(text)?]));
    }
    if let Some((key, text)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Some(LabelTerm::In(label_key(key)?, vec![value(text)?]));
    }
    if let Some((key, text)) = term.split_once('>') {
        return Some(LabelTerm::Greater(label_key(key)?, text.trim().parse().ok()?));
    }
    if let Some((key, text)) = term.split_once('<') {
        return Some(LabelTerm::Less(label_key(key)?, text.trim().parse().ok()?));
    }
    Some(LabelTerm::Exists(label_key(term)?))
}

fn label_key(text: &str) -> Option<String> {
    let text = text.trim();
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (!text.is_empty() && text.chars().all(legal)).then(|| text.to_owned())
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_fields(text: &str, supported: impl Fn(&str) -> bool) -> Result<Vec<FieldTerm>, String> {
    let mut terms = Vec::new();
    for term in split_unescaped(text) {
        if term.is_empty() {
            continue;
        }
        let (field, value, equal) = if let Some((field, value)) = term.split_once("!=") {
            (field, value, false)
        } else if let Some((field, value)) = term.split_once("==") {
            (field, value, true)
        } else if let Some((field, value)) = term.split_once('=') {
            (field, value, true)
        } else {
            return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
        };
        if !supported(field) {
            return Err(format!("field label not supported: {field}"));
        }
        terms.push(FieldTerm {
            path: field.split('.').map(str::to_owned).collect(),
            value: unescape(value),
            equal,
        });
    }
    Ok(terms)
}

fn split_unescaped(text: &str) -> Vec<String> {
    let (mut parts, mut current, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            ',' if !escaped => parts.push(std::mem::take(&mut current)),
            _ => current.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(current);
    parts
}

fn unescape(text: &str) -> String {
    let (mut plain, mut escaped) = (String::new(), false);
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        plain.push(c);
        escaped = false;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors_follow_kubernetes_rules() {
        let object = json!({ "metadata": { "labels": { "app": "web", "tier": "front", "n": "7" } } });
        for (selector, selected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app=db", false),
            ("app!=db", true),
            ("missing!=db", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("missing notin (db)", true),
            ("app", true),
            ("!app", false),
            ("!missing", true),
            ("app=web,tier in (front,back)", true),
            ("app=web,tier=back", false),
            ("n>6", true),
            ("n<7", false),
            ("missing>6", false),
        ] {
            let parsed = Selector::parse(Some(selector), None, |_| false).unwrap();
            assert_eq!(parsed.matches(&object), selected, "{selector}");
        }
        for bad in ["a in b", "a=b c", "=x", "a in (b"] {
            assert!(Selector::parse(Some(bad), None, |_| false).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors_match_supported_fields() {
        let object = json!({ "metadata": { "name": "a,b" }, "spec": { "type": "LoadBalancer" } });
        let parse = |text: &str| Selector::parse(None, Some(text), |field| field != "spec.other");
        for (selector, selected) in [
            ("spec.type=LoadBalancer", true),
            ("spec.type==LoadBalancer", true),
            ("spec.type!=LoadBalancer", false),
            ("spec.type=ClusterIP", false),
            ("metadata.name=a\\,b", true),
            ("metadata.name=a\\,b,spec.type=LoadBalancer", true),
            ("spec.unschedulable=false", true),
            ("spec.nodeName=", true),
        ] {
            assert_eq!(parse(selector).unwrap().matches(&object), selected, "{selector}");
        }
        assert_eq!(parse("spec.other=1").unwrap_err(), "field label not supported: spec.other");
        assert!(parse("nonsense").is_err());
        assert_eq!(parse("metadata.name=x").unwrap().only_name(), Some("x"));
    }
}
