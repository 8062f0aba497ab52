//! `metadata.managedFields`: ownership of fields, and conflicts.

use serde_json::{Value, json};

use super::apply::{merge_applied, prune};
use super::diff::compare;
use super::fields::FieldSet;
use super::shape::Shape;
use crate::failure::Failure;

/// The manager of a write, and the kind of the write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Author {
    pub manager: String,
    /// `group/version` of the write.
    pub api_version: String,
    /// Such as `status`; empty for the object itself.
    pub subresource: String,
    /// Time of the write, RFC 3339.
    pub time: String,
}

/// How a manager came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Apply,
    Update,
}

#[derive(Clone, Debug)]
struct Entry {
    manager: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    time: String,
    fields: FieldSet,
}

/// Returns the entries after an update from `old` (None: creation) to `new`.
pub(crate) fn after_update(old: Option<&Value>, new: &Value, shape: &Shape, author: &Author) -> Value {
    let mut entries = read(old.unwrap_or(&Value::Null));
    let nothing = json!({});
    let difference = compare(old.unwrap_or(&nothing), new, shape);
    let mut mine = difference.changed.clone();
    mine.strip_system();
    release(&mut entries, &difference.removed);
    if !mine.is_empty() {
        // The author owns fields with a new value; managers that applied them lose them.
        for entry in &mut entries {
            if !author.is(entry, Operation::Update) {
                entry.fields = entry.fields.without(&mine);
            }
        }
        match entries.iter_mut().find(|entry| author.is(entry, Operation::Update)) {
            Some(entry) => {
                entry.fields.add(&mine);
                entry.time.clone_from(&author.time);
                entry.api_version.clone_from(&author.api_version);
            }
            None => entries.push(author.entry(Operation::Update, mine)),
        }
    }
    write(entries)
}

/// Returns the object and its entries after server-side apply of `config` onto `live` (`{}` for a creation).
///
/// # Errors
/// 409 if the configuration changes fields of other managers and `force` is not set.
pub(crate) fn after_apply(
    live: &Value,
    config: &Value,
    shape: &Shape,
    author: &Author,
    force: bool,
) -> Result<(Value, Value), Failure> {
    let mut entries = read(live);
    let mut applied = FieldSet::of(config, shape);
    applied.strip_system();

    let mut merged = live.clone();
    merge_applied(&mut merged, config, shape);
    let changed = compare(live, &merged, shape).changed;

    let mut conflicts = Vec::new();
    for entry in &mut entries {
        if author.is(entry, Operation::Apply) {
            continue;
        }
        let contested = entry.fields.and(&changed).and(&applied);
        if contested.is_empty() {
            continue;
        }
        if force {
            entry.fields = entry.fields.without(&contested);
        } else {
            let who = entry.shown();
            conflicts.extend(contested.paths().into_iter().map(|path| (who.clone(), path)));
        }
    }
    if !conflicts.is_empty() {
        return Err(Failure::owned_by_others(&conflicts));
    }

    let mine = entries.iter().position(|entry| author.is(entry, Operation::Apply));
    if let Some(mine) = mine {
        let dropped = entries[mine].fields.without(&applied);
        let mut kept = applied.clone();
        for (at, entry) in entries.iter().enumerate() {
            if at != mine {
                kept.add(&entry.fields);
            }
        }
        prune(&mut merged, &dropped, &kept, shape);
        if entries[mine].fields != applied {
            entries[mine].time.clone_from(&author.time);
        }
        entries[mine].fields = applied;
        entries[mine].api_version.clone_from(&author.api_version);
    } else {
        entries.push(author.entry(Operation::Apply, applied));
    }
    Ok((merged, write(entries)))
}

impl Author {
    fn is(&self, entry: &Entry, operation: Operation) -> bool {
        entry.operation == operation && entry.manager == self.manager && entry.subresource == self.subresource
    }

    fn entry(&self, operation: Operation, fields: FieldSet) -> Entry {
        Entry {
            manager: self.manager.clone(),
            operation,
            api_version: self.api_version.clone(),
            subresource: self.subresource.clone(),
            time: self.time.clone(),
            fields,
        }
    }
}

impl Entry {
    /// Formats a manager as in conflict messages.
    fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// No manager owns removed fields.
fn release(entries: &mut [Entry], removed: &FieldSet) {
    if removed.is_empty() {
        return;
    }
    for entry in entries {
        entry.fields = entry.fields.without(&entry.fields.below(removed));
    }
}

fn read(object: &Value) -> Vec<Entry> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["fieldsType"] == "FieldsV1")
        .map(|entry| Entry {
            manager: text(&entry["manager"]),
            operation: if entry["operation"] == "Apply" { Operation::Apply } else { Operation::Update },
            api_version: text(&entry["apiVersion"]),
            subresource: text(&entry["subresource"]),
            time: text(&entry["time"]),
            fields: FieldSet::from_json(&entry["fieldsV1"]),
        })
        .collect()
}

fn write(entries: Vec<Entry>) -> Value {
    let mut entries: Vec<Entry> = entries.into_iter().filter(|entry| !entry.fields.is_empty()).collect();
    entries.sort_by(|a, b| {
        let order = |entry: &Entry| entry.operation == Operation::Update;
        order(a).cmp(&order(b)).then_with(|| a.time.cmp(&b.time)).then_with(|| a.manager.cmp(&b.manager))
    });
    entries
        .into_iter()
        .map(|entry| {
            let mut json = json!({
                "manager": entry.manager,
                "operation": if entry.operation == Operation::Apply { "Apply" } else { "Update" },
                "apiVersion": entry.api_version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_json(),
            });
            if !entry.subresource.is_empty() {
                json["subresource"] = json!(entry.subresource);
            }
            json
        })
        .collect()
}

#[cfg(test)]
mod tests;
