//! Tables, which `kubectl get` prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::columns;
use super::format::{Beside, metadata_only};
use crate::kinds::{Resource, Strategy};

/// A column and the source of its cells.
pub(crate) struct Column {
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub sort: String,
    pub format: String,
    pub description: String,
    /// 0 is always printed, a higher number only with `-o wide`.
    pub priority: i64,
    pub cell: Cell,
}

/// Source of a cell.
pub(crate) enum Cell {
    /// A function of the object.
    Of(fn(&Value) -> Value),
    /// A JSON path such as `.spec.addresses[0]`.
    Path(String),
}

/// Returns a table of objects. With `headed`, it contains the column definitions.
pub(crate) fn table<'a>(
    resource: &Resource,
    objects: impl Iterator<Item = &'a Value>,
    metadata: Value,
    beside: Beside,
    headed: bool,
) -> Value {
    let columns = columns_of(resource);
    let rows: Vec<Value> = objects
        .map(|object| {
            let cells: Vec<Value> = columns.iter().map(|column| column.fill(object)).collect();
            let mut row = json!({ "cells": cells });
            match beside {
                Beside::Nothing => {}
                Beside::Metadata => row["object"] = metadata_only(object),
                Beside::Object => row["object"] = object.clone(),
            }
            row
        })
        .collect();
    let definitions: Value = if headed {
        columns
            .iter()
            .map(|column| {
                json!({
                    "name": column.name,
                    "type": column.sort,
                    "format": column.format,
                    "description": column.description,
                    "priority": column.priority,
                })
            })
            .collect()
    } else {
        Value::Null
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

fn columns_of(resource: &Resource) -> Vec<Column> {
    let Strategy::Custom { columns, .. } = &resource.strategy else {
        return columns::of(&resource.group, &resource.plural);
    };
    let mut all = vec![columns::name()];
    if columns.is_empty() {
        all.push(columns::age());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.extend(columns.iter().map(|column| Column {
        name: text(&column["name"]),
        sort: text(&column["type"]),
        format: text(&column["format"]),
        description: text(&column["description"]),
        priority: column["priority"].as_i64().unwrap_or_default(),
        cell: Cell::Path(text(&column["jsonPath"])),
    }));
    all
}

impl Column {
    fn fill(&self, object: &Value) -> Value {
        let path = match &self.cell {
            Cell::Of(function) => return function(object),
            Cell::Path(path) => path,
        };
        let found = at_path(object, path);
        match (self.sort.as_str(), &found[..]) {
            (_, []) => Value::Null,
            ("date", [first, ..]) => json!(age_of(first)),
            ("integer" | "number" | "boolean", [first, ..]) => (*first).clone(),
            // Several values, or one that is not a scalar, are printed as JSON.
            (_, [Value::String(text)]) => json!(text),
            (_, [one]) => json!(one.to_string()),
            (_, many) => json!(many.iter().map(|value| shown(value)).collect::<Vec<_>>().join(",")),
        }
    }
}

/// Formats an age as kubectl does; `<unknown>` for an invalid time.
pub(crate) fn age_of(time: &Value) -> String {
    let then = time.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    match then {
        Some(then) => human_duration(Timestamp::now().as_second() - then.as_second()),
        None => "<unknown>".into(),
    }
}

/// Formats seconds as kubectl does: `5s`, `3m10s`, `47m`, `5h12m`, `3d`, `2y11d`.
fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".into(),
        -1..=0 => "0s".into(),
        1..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// Returns the values at a simple JSON path: names, `['quoted']`, `[0]`, `[*]` and `[?(@.a=="b")]`.
pub(crate) fn at_path<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut values = vec![object];
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let Some(end) = closing(inner) else { return Vec::new() };
            let (step, after) = (&inner[..end], &inner[end + 1..]);
            values = values.into_iter().flat_map(|value| bracket(value, step)).collect();
            rest = after;
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let end = name_end(rest);
        let name = rest[..end].replace("\\.", ".");
        if !name.is_empty() {
            values = values.into_iter().filter_map(|value| value.get(&name)).collect();
        } else if end == 0 && !rest.starts_with('[') {
            return if rest.is_empty() { values } else { Vec::new() };
        }
        rest = &rest[end..];
    }
    values.retain(|value| !value.is_null());
    values
}

/// Formats a scalar.
pub(crate) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Finds the closing bracket of an opening one before the text.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Splits at the next unescaped dot or bracket.
fn name_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if !escaped && (c == '.' || c == '[') {
            return at;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

fn bracket<'a>(value: &'a Value, step: &str) -> Vec<&'a Value> {
    if step == "*" {
        return match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        };
    }
    if let Some(name) = step.strip_prefix(['\'', '"']).and_then(|step| step.strip_suffix(['\'', '"'])) {
        return value.get(name).into_iter().collect();
    }
    if let Some(filter) = step.strip_prefix("?(").and_then(|step| step.strip_suffix(')')) {
        let Some((path, wanted)) = filter.split_once("==") else { return Vec::new() };
        let path = path.trim().trim_start_matches('@');
        let wanted = wanted.trim().trim_matches(['\'', '"']);
        let fits = |item: &&Value| at_path(item, path).iter().any(|value| shown(value) == wanted);
        return value.as_array().into_iter().flatten().filter(fits).collect();
    }
    let Value::Array(items) = value else { return Vec::new() };
    let Ok(index) = step.parse::<i64>() else { return Vec::new() };
    let index = if index < 0 { i64::try_from(items.len()).unwrap_or_default() + index } else { index };
    usize::try_from(index).ok().and_then(|index| items.get(index)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_paths_support_printer_columns() {
        let object = json!({
            "metadata": { "annotations": { "a.b/c": "x" } },
            "spec": { "addresses": ["one", "two"], "auto": true },
            "status": { "conditions": [
                { "type": "Accepted", "status": "True" }, { "type": "Other", "status": "False" },
            ] },
        });
        for (path, found) in [
            (".spec.auto", vec![json!(true)]),
            (".spec.addresses", vec![json!(["one", "two"])]),
            (".spec.addresses[*]", vec![json!("one"), json!("two")]),
            (".spec.addresses[0]", vec![json!("one")]),
            (".spec.addresses[-1]", vec![json!("two")]),
            (".status.conditions[?(@.type==\"Accepted\")].status", vec![json!("True")]),
            (".status.conditions[?(@.type=='Other')].status", vec![json!("False")]),
            (".metadata.annotations['a.b/c']", vec![json!("x")]),
            (".metadata.annotations.a\\.b/c", vec![json!("x")]),
            (".spec.missing.deeper", vec![]),
        ] {
            let values: Vec<Value> = at_path(&object, path).into_iter().cloned().collect();
            assert_eq!(values, found, "{path}");
        }
    }

    #[test]
    fn ages_match_kubectl_format() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (601, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (3 * 86_400, "3d"),
            (3 * 86_400 + 7200, "3d2h"),
            (400 * 86_400, "400d"),
            (900 * 86_400, "2y170d"),
        ] {
            assert_eq!(human_duration(seconds), text);
        }
    }
}
