//! Durations in the format of Go, as in other Kubernetes objects: `90s`, `1m30s`, `1.5h`.

use std::time::Duration;

/// Units in nanoseconds. A suffix that is a prefix of another one comes after it.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a duration. Returns `None` for texts that Go's `time.ParseDuration` rejects, for negative durations
/// and for those beyond its range of 292 years.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (suffix, unit) = UNITS.iter().find(|(suffix, _)| after.starts_with(suffix))?;
        // Further digits are less than a nanosecond, even in hours.
        let fraction = &fraction[..fraction.len().min(18)];
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        total = total.checked_add(whole.checked_mul(*unit)?)?.checked_add(part * unit / scale)?;
        rest = &after[suffix.len()..];
    }
    let nanoseconds = i64::try_from(total).ok()?;
    Some(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_parsed() {
        let table = [
            ("0", 0),
            ("0s", 0),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("5.s", 5_000),
            ("250ms", 250),
            ("1h2m3.004s", 3_723_004),
            ("+3s", 3_000),
            ("1000000us", 1_000),
            ("1000\u{b5}s", 1),
        ];
        for (text, milliseconds) in table {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "",
            "+",
            "90",
            "s",
            "-3s",
            "3 s",
            " 3s",
            "3s ",
            "1d",
            "1e3s",
            ".s",
            "3s5",
            "9223372036855s",
            "1..5s",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(&"9".repeat(400)), None);
        assert_eq!(parse(&format!("{}s", "9".repeat(400))), None);
    }

    proptest::proptest! {
        #[test]
        fn parse_of_any_text_does_not_panic(text in "[0-9.+µnumsh-]{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_seconds_round_trip(seconds in 0u64..9_000_000_000) {
            proptest::prop_assert_eq!(parse(&format!("{seconds}s")), Some(Duration::from_secs(seconds)));
        }
    }
}
