//! Comparison of exported metrics with their documentation.

use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

/// Exported by the watches, once they have read a kind.
const UNREADABLE: &str = "_unreadable_objects";

/// Compares the metrics with a prefix in an exposition (OpenMetrics) with docs/metrics.md, and checks the
/// names and help texts by the rules of `promtool check metrics`.
///
/// # Panics
/// Panics if a metric is missing on either side, has another type there, or violates a rule.
pub fn check_documented(prefix: &str, exposition: &str) {
    let exported: BTreeSet<(String, &str)> = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        // OpenMetrics names a counter without the suffix of its samples.
        .map(|(name, kind)| (format!("{name}{}", if kind == "counter" { "_total" } else { "" }), kind))
        .filter(|(name, _)| !name.ends_with(UNREADABLE))
        .collect();
    let documented: BTreeSet<(String, &str)> = DOCUMENT
        .lines()
        .filter(|line| line.starts_with(&format!("| `{prefix}")))
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            Some((cells.next()?.trim_matches('`').to_owned(), cells.next()?))
        })
        .filter(|(name, _)| !name.ends_with(UNREADABLE))
        .collect();
    for (name, kind) in &exported {
        assert_eq!(violated_rule(name, kind), None, "{name}");
    }
    let help = exposition.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    help.for_each(|(name, text)| assert!(text.len() > 5, "{name} needs a help text: {text}"));
    assert_eq!(exported, documented, "docs/metrics.md and the metrics of {prefix} differ");
}

/// Rules of `promtool check metrics` for the name of a metric and its type.
fn violated_rule(name: &str, kind: &str) -> Option<&'static str> {
    let suffix = |list: &[&str]| list.iter().any(|suffix| name.ends_with(suffix));
    let abbreviated = ["_ms", "_sec", "_secs", "_milliseconds", "_microseconds", "_kb", "_mb", "_minutes"];
    if name.chars().any(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')) {
        Some("a name consists of lower case letters, digits and underscores")
    } else if (kind == "counter") != suffix(&["_total"]) {
        Some("counters, and no other metrics, end in _total")
    } else if suffix(&["_count", "_sum", "_bucket", "_info"]) {
        Some("the suffixes of samples are reserved")
    } else if suffix(&abbreviated) {
        Some("times are in seconds, sizes in bytes or octets, without abbreviation")
    } else if name.contains(kind) {
        Some("a name does not contain its type")
    } else {
        None
    }
}
