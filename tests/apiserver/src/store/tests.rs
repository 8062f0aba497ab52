use super::snapshot::Page;
use super::*;
use serde_json::json;

fn store() -> (Store, Table) {
    let mut store = Store::new(100);
    let table = store.table("services");
    (store, table)
}

fn named(name: &str) -> Value {
    json!({ "metadata": { "name": name } })
}

fn names(page: &Page) -> Vec<&str> {
    page.objects.iter().map(|object| object.value()["metadata"]["name"].as_str().unwrap()).collect()
}

#[test]
fn each_change_sets_next_revision() {
    let (mut store, table) = store();
    let first = store.put(table, Key::new("a", "x"), named("x"));
    let second = store.put(table, Key::new("a", "x"), named("x"));
    assert_eq!(second.revision(), first.revision() + 1);
    assert_eq!(second.value()["metadata"]["resourceVersion"], json!(second.revision().to_string()));
    let last = store.remove(table, &Key::new("a", "x")).unwrap();
    assert_eq!(last.revision(), second.revision() + 1);
    assert!(store.get(table, &Key::new("a", "x")).is_none());
}

#[test]
fn list_at_past_revision_shows_past_objects() {
    let (mut store, table) = store();
    store.put(table, Key::new("a", "kept"), named("kept"));
    store.put(table, Key::new("a", "deleted"), named("deleted"));
    let then = store.revision();
    store.remove(table, &Key::new("a", "deleted"));
    store.put(table, Key::new("a", "new"), named("new"));
    store.put(table, Key::new("a", "kept"), json!({ "metadata": { "name": "changed" } }));

    let all = |_: &Object| true;
    let past = store.list(table, None, Some(then), None, None, all).unwrap();
    assert_eq!(names(&past), ["deleted", "kept"]);
    let now = store.list(table, None, None, None, None, all).unwrap();
    assert_eq!(names(&now), ["changed", "new"]);
}

#[test]
fn pages_continue_after_last_key() {
    let (mut store, table) = store();
    for name in ["a", "b", "c", "d", "e"] {
        store.put(table, Key::new("n", name), named(name));
    }
    store.put(table, Key::new("other", "z"), named("z"));
    let all = |_: &Object| true;
    let first = store.list(table, Some("n"), None, None, Some(2), all).unwrap();
    assert_eq!((names(&first), first.remaining), (vec!["a", "b"], 3));
    let second = store.list(table, Some("n"), None, first.next.as_ref(), Some(3), all).unwrap();
    assert_eq!((names(&second), second.remaining), (vec!["c", "d", "e"], 0));
    assert_eq!(second.next, None);
}

#[test]
fn discarded_history_is_an_error() {
    let mut store = Store::new(2);
    let table = store.table("services");
    let start = store.revision();
    for name in ["a", "b", "c"] {
        store.put(table, Key::new("", name), named(name));
    }
    assert!(store.changes(table, start, 10).is_err());
    assert_eq!(store.changes(table, start + 1, 10).unwrap().count(), 2);
    store.compact();
    assert!(store.changes(table, start + 1, 10).is_err());
    assert_eq!(store.changes(table, store.revision(), 10).unwrap().count(), 0);
}

#[test]
fn dependents_are_indexed_by_owner_uid() {
    let (mut store, table) = store();
    let key = Key::new("a", "x");
    store.put(
        table,
        key.clone(),
        json!({ "metadata": { "name": "x", "ownerReferences": [{ "uid": "u1" }] } }),
    );
    assert_eq!(store.dependents("u1"), vec![(table, key.clone())]);
    store.put(table, key, named("x"));
    assert_eq!(store.dependents("u1"), vec![]);
}
