//! Output: tables, JSON and YAML, colors, and the text of durations.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use fairlead_crds::text::{MAX_MESSAGE, printable};
use jiff::Timestamp;
use serde::Serialize;

/// The format of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text and tables
    #[default]
    Table,
    /// Tables with more columns
    Wide,
    /// JSON in the shape that docs/cli.md documents
    Json,
    /// YAML of the same shape
    Yaml,
}

/// A result that can be printed.
pub(crate) trait Report: Serialize {
    /// The value of `kind` in JSON and YAML.
    const KIND: &'static str;

    /// Returns the text for a person. Texts from the cluster in it are printable and bounded.
    fn text(&self, wide: bool) -> String;

    /// Returns true if nothing is wrong: the exit status is 0.
    fn succeeds(&self) -> bool;
}

/// The version of the shape of JSON and YAML output.
const API_VERSION: &str = "cli.fairlead.dev/v1beta1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a, T> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    report: &'a T,
}

/// Returns a report in a format.
///
/// # Errors
/// Returns an error if the report cannot be encoded.
pub(crate) fn render<T: Report>(report: &T, format: Format) -> Result<String> {
    let document = Document { api_version: API_VERSION, kind: T::KIND, report };
    Ok(match format {
        Format::Table => report.text(false),
        Format::Wide => report.text(true),
        Format::Json => serde_json::to_string_pretty(&document)? + "\n",
        Format::Yaml => serde_saphyr::to_string(&document)?,
    })
}

/// Prints text on the standard output, with colors if that is a terminal.
pub(crate) fn print(text: &str, format: Format) {
    let mut out = std::io::stdout().lock();
    let is_text = matches!(format, Format::Table | Format::Wide);
    let text = if is_text && has_colors() { colored(text) } else { text.to_owned() };
    // If the reader closes the pipe, the exit status still reports the result.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Returns true if colors are wanted: <https://no-color.org>.
fn has_colors() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// Colors the severities of problems.
fn colored(text: &str) -> String {
    let color = |line: &str| {
        for (word, code) in [("ERROR", "31;1"), ("WARNING", "33;1"), ("No problems.", "32")] {
            let start = line.trim_start();
            if let Some(rest) = start.strip_prefix(word) {
                let indent = &line[..line.len() - start.len()];
                return format!("{indent}\u{1b}[{code}m{word}\u{1b}[0m{rest}\n");
            }
        }
        format!("{line}\n")
    };
    text.lines().map(color).collect()
}

/// Returns a table in the style of kubectl, with a newline at the end.
pub(crate) fn table(headers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers);
    for row in rows {
        table.add_row(row.into_iter().map(|cell| cell_text(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.trim_fmt() + "\n"
}

/// Returns the text of a cell: `-` if it is empty.
fn cell_text(cell: &str) -> String {
    if cell.is_empty() { "-".to_owned() } else { printable(cell, MAX_MESSAGE).into_owned() }
}

/// Returns the lines of a text, each indented by two spaces.
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}

/// Returns the time since `since` as kubectl writes ages; empty if it is unknown.
pub(crate) fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    let Some(since) = since else { return String::new() };
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..10_800 => format!("{}m", seconds / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Returns `1 name` or `2 names`.
pub(crate) fn count(number: usize, name: &str) -> String {
    if number == 1 { format!("1 {name}") } else { format!("{number} {name}s") }
}

/// Returns at most `max` names, and how many more there are.
pub(crate) fn list<S: AsRef<str>>(names: &[S], max: usize) -> String {
    let mut text = names.iter().take(max).map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
    if names.len() > max {
        text += &format!(" and {} more", names.len() - max);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (seconds, text) in
            [(0, "0s"), (119, "119s"), (250, "4m"), (10_800, "3h"), (180_000, "2d"), (-5, "0s")]
        {
            assert_eq!(age(Timestamp::from_second(1_000_000 - seconds).ok(), now), text);
        }
        assert_eq!(age(None, now), "");
    }

    #[test]
    fn table_has_no_borders_and_no_trailing_spaces() {
        let rows = [vec!["a".to_owned(), String::new()], vec!["long-name".to_owned(), "x\ny".to_owned()]];
        assert_eq!(table(&["NAME", "STATE"], rows), "NAME        STATE\na           -\nlong-name   x\\ny\n");
    }

    #[test]
    fn severities_are_colored() {
        assert_eq!(colored("  ERROR  x\ny\n"), "  \u{1b}[31;1mERROR\u{1b}[0m  x\ny\n");
    }
}
