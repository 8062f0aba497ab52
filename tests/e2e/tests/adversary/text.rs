//! Hostile values: texts, times, numbers and conditions that an API server stores or refuses.

use rand::rngs::SmallRng;
use rand::{Rng, RngExt};
use serde_json::{Value, json};

/// Returns one of these.
pub(crate) fn pick<'a, T>(dice: &mut SmallRng, of: &'a [T]) -> &'a T {
    &of[dice.random_range(0..of.len())]
}

/// Returns a text of at most about `largest` octets; most are short.
pub(crate) fn text(dice: &mut SmallRng, largest: usize) -> String {
    let size = match dice.random_range(0..100) {
        0..70 => 40,
        70..90 => 2_000,
        90..97 => 60_000,
        _ => largest,
    };
    let size = size.min(largest);
    let unit: String = match dice.random_range(0..12) {
        0 => return String::new(),
        1 => "\u{7f}".into(),
        2 => "x".into(),
        3 => "\u{1f600}".into(),
        4 => "\u{202e}\u{200b}e\u{301}".into(),
        5 => "\n2026-01-01T00:00:00Z ERROR forged\r\t\u{1b}[2J\u{0}".into(),
        6 => "192.0.2.200,".into(),
        7 => "\"\\'{}%s{0}$(x)".into(),
        8 => "10.99.0.7".into(),
        9 => "::ffff:10.99.0.7,".into(),
        10 => format!("{:x}-", dice.next_u64()),
        _ => "10.50.0.0/33,fe80::1%eth0,0.0.0.0".into(),
    };
    let times = if dice.random_bool(0.3) { 1 } else { (size / unit.len()).max(1) };
    unit.repeat(times)
}

/// Returns a time, in most cases an unusual one, or none.
fn time(dice: &mut SmallRng) -> Value {
    json!(pick(
        dice,
        &[
            "9999-12-31T23:59:59-12:00",
            "0000-01-01T00:00:00+12:00",
            "2026-01-01T00:00:00.1234567890123Z",
            "0001-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2262-04-12T00:00:00Z",
            "2026-01-01T00:00:00Z",
            "2026-06-30T23:59:60Z",
            "tomorrow",
        ]
    ))
}

/// Returns a list of conditions in the shapes that other controllers write.
pub(crate) fn conditions(dice: &mut SmallRng, largest: usize) -> Value {
    let count = if dice.random_bool(0.05) { 200 } else { dice.random_range(0..4) };
    let largest = largest / (count + 1);
    let mut conditions = Vec::new();
    for number in 0..count {
        let kind = match dice.random_range(0..6) {
            0 => "fairlead.dev/Allocated".to_owned(),
            1 => "fairlead.dev/Covered".to_owned(),
            2 => "Accepted".to_owned(),
            _ => format!("example.com/{number}"),
        };
        let mut condition =
            json!({ "type": kind, "status": pick(dice, &["True", "False", "Unknown", "Maybe"]) });
        match dice.random_range(0..4) {
            0 => {}
            1 => condition["lastTransitionTime"] = Value::Null,
            _ => condition["lastTransitionTime"] = time(dice),
        }
        if dice.random_bool(0.5) {
            condition["reason"] = json!(text(dice, 1000));
            condition["message"] = json!(text(dice, largest));
        }
        if dice.random_bool(0.2) {
            condition["observedGeneration"] = json!(i64::MAX);
        }
        conditions.push(condition);
    }
    Value::Array(conditions)
}

/// Changes one random place of a value.
pub(crate) fn mutate(dice: &mut SmallRng, value: &mut Value) {
    let place = match value {
        Value::Object(fields) if !fields.is_empty() && dice.random_bool(0.85) => {
            let at = dice.random_range(0..fields.len());
            fields.values_mut().nth(at)
        }
        Value::Array(items) if !items.is_empty() && dice.random_bool(0.85) => {
            let at = dice.random_range(0..items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    if let Some(place) = place {
        return mutate(dice, place);
    }
    *value = match dice.random_range(0..10) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(*pick(dice, &[0, -1, 1, i64::MAX, i64::MIN, 65_536])),
        3 => json!(1e308),
        4 => json!([]),
        5 => json!({}),
        6 => json!([value.clone(), value.clone(), Value::Null]),
        7 => json!({ "unknown": value.clone(), "": text(dice, 100) }),
        _ => json!(text(dice, 20_000)),
    };
}
