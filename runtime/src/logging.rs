//! Logging to standard error.

mod json;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Stderr, Write, stderr};

use fairlead_crds::text::is_printable;
use tracing_subscriber::EnvFilter;

use crate::flags::{Common, LogFormat};

/// The maximum length of a line of the text format, in octets. A line may contain several messages, each of
/// at most [`fairlead_crds::text::MAX_MESSAGE`].
const MAX_LINE: usize = 4096;

/// Initializes logging as the flags define. Must be called once, before the first log event.
pub fn init(flags: &Common) {
    // The flag parser has validated the level: an invalid filter would log only errors.
    let filter = EnvFilter::new(filter(&flags.log_level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match flags.log_format {
        LogFormat::Text => {
            let colored = stderr().is_terminal();
            let format = Format::Text { colored };
            builder.with_ansi(colored).with_writer(move || LineWriter { format, inner: stderr() }).init();
        }
        LogFormat::Json => {
            let writer = || LineWriter { format: Format::Json, inner: stderr() };
            builder.with_writer(writer).json().flatten_event(true).init();
        }
    }
}

/// Writes each event on one line, whatever its fields contain: a text from outside must not forge a line.
struct LineWriter<W = Stderr> {
    format: Format,
    inner: W,
}

#[derive(Clone, Copy)]
enum Format {
    Text {
        /// Colors are escape sequences. The formatter has escaped those in fields.
        colored: bool,
    },
    Json,
}

impl<W: Write> Write for LineWriter<W> {
    /// Writes one event, which the formatter passes as a whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = match self.format {
            Format::Text { colored } => line(&text, colored),
            Format::Json => json::line(&text),
        };
        self.inner.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Returns an event as one line that ends with a line feed.
fn line(event: &str, colored: bool) -> Cow<'_, str> {
    let text = event.strip_suffix('\n').unwrap_or(event);
    let is_allowed = |character| is_printable(character) || (colored && character == '\u{1b}');
    if event.len() <= MAX_LINE && text.len() < event.len() && text.chars().all(is_allowed) {
        return Cow::Borrowed(event);
    }
    let mut line = String::new();
    for character in text.chars() {
        let before = line.len();
        if is_allowed(character) {
            line.push(character);
        } else {
            line.extend(character.escape_debug());
        }
        if line.len() + "…\n".len() > MAX_LINE {
            line.truncate(before);
            line.push('…');
            break;
        }
    }
    line.push('\n');
    Cow::Owned(line)
}

/// Returns the directives for a log level. kube logs each request that fails, as an error; all of these
/// failures are logged again where they are handled, once per outage. So the lines of kube are left out
/// unless the directives mention it or show everything.
fn filter(directives: &str) -> String {
    let is_verbose =
        |directive: &str| ["debug", "trace"].iter().any(|level| directive.trim().eq_ignore_ascii_case(level));
    if directives.contains("kube_client") || directives.split(',').any(is_verbose) {
        directives.to_owned()
    } else {
        format!("{directives},kube_client=off")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(colored: bool, event: &str) -> String {
        let mut writer = LineWriter { format: Format::Text { colored }, inner: Vec::new() };
        writer.write_all(event.as_bytes()).unwrap();
        String::from_utf8(writer.inner).unwrap()
    }

    #[test]
    fn event_is_written_as_one_line() {
        for (event, expected) in [
            ("INFO ready\n", "INFO ready\n"),
            ("INFO pool=a\nERROR forged\r\n", "INFO pool=a\\nERROR forged\\r\n"),
            ("no line feed", "no line feed\n"),
            ("\u{1b}[2J\u{202e}\n", "\\u{1b}[2J\\u{202e}\n"),
        ] {
            assert_eq!(written(false, event), expected);
        }
        assert_eq!(written(true, "\u{1b}[32mINFO\u{1b}[0m a\nb\n"), "\u{1b}[32mINFO\u{1b}[0m a\\nb\n");
    }

    #[test]
    fn long_line_is_cut() {
        for text in ["x", "\n", "😀"] {
            let line = written(false, &format!("{}\n", text.repeat(256 * 1024)));
            assert!(line.len() <= MAX_LINE && line.ends_with("…\n"), "{text:?}: {}", line.len());
        }
    }

    #[test]
    fn lines_of_kube_are_left_out_by_default() {
        for (directives, expected) in [
            ("info", "info,kube_client=off"),
            ("warn,fairlead_bgp=debug", "warn,fairlead_bgp=debug,kube_client=off"),
            ("info,kube_client=warn", "info,kube_client=warn"),
            ("DEBUG", "DEBUG"),
            ("trace,hyper=info", "trace,hyper=info"),
        ] {
            assert_eq!(filter(directives), expected);
            assert!(expected.parse::<EnvFilter>().is_ok());
        }
    }
}
