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
    for sample in exposition.lines().filter(|line| line.starts_with(prefix)) {
        assert_eq!(violated_sample_rule(sample), None, "{sample}");
    }
    let help = exposition.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    help.for_each(|(name, text)| assert!(text.len() > 5, "{name} needs a help text: {text}"));
    assert_eq!(exported, documented, "docs/metrics.md and the metrics of {prefix} differ");
}

/// Abbreviations of units that `promtool check metrics` refuses, and `secs`.
const ABBREVIATIONS: &[&str] =
    &["s", "ms", "us", "ns", "sec", "secs", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];
/// Units that are not base units of Prometheus.
const OTHER_UNITS: &[&str] = &[
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "minutes",
    "hours",
    "days",
    "weeks",
    "bits",
    "kilobytes",
    "megabytes",
    "gigabytes",
    "kibibytes",
    "mebibytes",
    "gibibytes",
    "fahrenheit",
];

/// Returns the rule of `promtool check metrics` that a sample violates, for example
/// `name_total{kind="Node"} 7`.
fn violated_sample_rule(sample: &str) -> Option<&'static str> {
    let (name, rest) = sample.split_once('{')?;
    // A label value contains no quotation mark here: the names of labels precede `="`.
    let labels = rest.split("=\"").map(|text| text.rsplit(['{', ',']).next().unwrap_or_default());
    let mut labels: Vec<&str> = labels.collect();
    // The value of the last label.
    labels.pop();
    if labels.iter().any(|label| label.chars().any(|c| c.is_ascii_uppercase())) {
        Some("labels are in snake_case")
    } else if labels.contains(&"le") != name.ends_with("_bucket") || labels.contains(&"quantile") {
        Some("the labels le and quantile are reserved")
    } else {
        None
    }
}

/// Rules of `promtool check metrics` for the name of a metric and its type.
fn violated_rule(name: &str, kind: &str) -> Option<&'static str> {
    let suffix = |list: &[&str]| list.iter().any(|suffix| name.ends_with(suffix));
    let has_word = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    if name.chars().any(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')) {
        Some("a name consists of lower case letters, digits and underscores")
    } else if (kind == "counter") != suffix(&["_total"]) {
        Some("counters, and no other metrics, end in _total")
    } else if suffix(&["_count", "_sum", "_bucket", "_info"]) {
        Some("the suffixes of samples are reserved")
    } else if has_word(ABBREVIATIONS) || has_word(OTHER_UNITS) {
        Some("times are in seconds, sizes in bytes or octets, without abbreviation")
    } else if name.contains(kind) {
        Some("a name does not contain its type")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_follow_the_rules_of_promtool() {
        for (name, kind, follows) in [
            ("a_writes_total", "counter", true),
            ("a_writes", "counter", false),
            ("a_objects_total", "gauge", false),
            ("a_wait_seconds", "histogram", true),
            ("a_wait_ms", "histogram", false),
            ("a_d_objects", "gauge", false),
            ("a_size_kilobytes", "gauge", false),
            ("a_gauge", "gauge", false),
            ("a_aB", "gauge", false),
            ("a_sum", "gauge", false),
        ] {
            assert_eq!(violated_rule(name, kind).is_none(), follows, "{name} {kind}");
        }
        for (sample, follows) in [
            ("a_total 7", true),
            (r#"a_total{kind="Node",peer="x"} 7"#, true),
            (r#"a_bucket{kind="aB",le="0.1"} 7"#, true),
            (r#"a_total{le="0.1"} 7"#, false),
            (r#"a_total{peerName="x"} 7"#, false),
            (r#"a_total{quantile="0.9"} 7"#, false),
        ] {
            assert_eq!(violated_sample_rule(sample).is_none(), follows, "{sample}");
        }
    }
}
