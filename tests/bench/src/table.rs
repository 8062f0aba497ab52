//! Formats figures as text. Pure.

use std::fmt;
use std::time::Duration;

/// The result of one measure: rows of cells under a title, then remarks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    title: String,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Section {
    /// Returns an empty section; `columns` are the headings of the cells after the first.
    pub(crate) fn new<const N: usize>(title: impl Into<String>, columns: [&str; N]) -> Self {
        let head = std::iter::once(String::new()).chain(columns.map(str::to_owned)).collect();
        Self { title: title.into(), rows: vec![head], notes: Vec::new() }
    }

    /// Adds a row: a label and its cells.
    pub(crate) fn row<const N: usize>(&mut self, what: impl Into<String>, cells: [String; N]) {
        self.rows.push(std::iter::once(what.into()).chain(cells).collect());
    }

    /// Adds a remark below the rows.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "== {}", self.title)?;
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Names are left-aligned, figures right-aligned.
                let cell = if i == 0 { format!("   {cell:width$}") } else { format!("  {cell:>width$}") };
                line.push_str(&cell);
            }
            if !line.trim().is_empty() {
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        for note in &self.notes {
            writeln!(f, "   - {note}")?;
        }
        Ok(())
    }
}

/// Formats a time in the most readable unit.
pub(crate) fn time(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        _ if us >= 9_999_500.0 => format!("{:.1} s", us / 1e6),
        _ if us >= 999_500.0 => format!("{:.2} s", us / 1e6),
        _ if us >= 9_995.0 => format!("{:.0} ms", us / 1e3),
        _ if us >= 999.5 => format!("{:.1} ms", us / 1e3),
        _ => format!("{us:.0} µs"),
    }
}

/// Formats a time, or a dash.
pub(crate) fn some_time(found: Option<Duration>) -> String {
    found.map_or_else(|| "-".to_owned(), time)
}

/// Formats bytes as megabytes (10⁶) with one digit.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Formats a share as percent.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 10.0 { format!("{percent:.2} %") } else { format!("{percent:.0} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_columns_are_aligned() {
        let mut section = Section::new("Latency", ["p50", "p99"]);
        section.row("route", ["3.0 ms".into(), "10 ms".into()]);
        section.row("ARP answer", ["900 µs".into(), "2.0 ms".into()]);
        section.note("idle machine");
        assert_eq!(
            section.to_string(),
            "== Latency\n\
             \x20                 p50     p99\n\
             \x20  route       3.0 ms   10 ms\n\
             \x20  ARP answer  900 µs  2.0 ms\n\
             \x20  - idle machine\n"
        );
    }

    #[test]
    fn times_are_rounded_to_leading_digits() {
        for (us, text) in [
            (4, "4 µs"),
            (999, "999 µs"),
            (1_240, "1.2 ms"),
            (12_400, "12 ms"),
            (999_400, "999 ms"),
            (1_234_000, "1.23 s"),
            (61_000_000, "61.0 s"),
        ] {
            assert_eq!(time(Duration::from_micros(us)), text);
        }
    }

    #[test]
    fn sizes_and_shares_are_formatted() {
        assert_eq!(megabytes(12_345_678), "12.3 MB");
        assert_eq!((percent(0.874), percent(0.0123)), ("87 %".into(), "1.23 %".into()));
    }
}
