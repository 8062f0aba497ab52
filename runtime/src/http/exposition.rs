//! The formats of `/metrics`: OpenMetrics for clients that ask for it, else the text format of Prometheus.

use axum::http::HeaderValue;
use prometheus_client::registry::Registry;

/// The format of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

impl Format {
    /// Returns the format for the value of the header `Accept`. Without a preference it is the text format,
    /// as in the client libraries of Prometheus.
    pub(super) fn accepted(accept: Option<&HeaderValue>) -> Self {
        let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let quality = |types: &[&str]| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_wanted = parts.next().is_some_and(|name| types.contains(&name));
                let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
                is_wanted.then_some(quality.unwrap_or(1.0))
            });
            ranges.fold(0.0, f32::max)
        };
        let open_metrics = quality(&["application/openmetrics-text"]);
        if open_metrics > 0.0 && open_metrics >= quality(&["text/plain"]) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Returns the value of the header `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns all metrics in this format.
    ///
    /// # Errors
    /// Returns an error if a metric cannot be encoded.
    pub fn encode(self, registry: &Registry) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry)?;
        Ok(match self {
            Self::OpenMetrics => text,
            Self::Text => to_text_format(&text),
        })
    }
}

/// Converts OpenMetrics to the text format, in which the name of a counter includes `_total`.
fn to_text_format(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The type follows, and with it the name.
            help = rest.split_once(' ').map(|(_, help)| help);
        } else if let Some((name, type_)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if type_ == "counter" { "_total" } else { "" };
            let type_ = if type_ == "unknown" { "untyped" } else { type_ };
            if let Some(help) = help.take() {
                text += &format!("# HELP {name}{suffix} {help}\n");
            }
            text += &format!("# TYPE {name}{suffix} {type_}\n");
        } else if !line.starts_with('#') {
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
    use prometheus_client::registry::Unit;

    use super::*;

    #[test]
    fn text_format_is_the_default() {
        for (accept, format) in [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/plain"), Format::Text),
            (Some("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.5"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text; version=1.0.0"), Format::OpenMetrics),
            (
                // Prometheus 3.
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     text/plain;version=0.0.4;q=0.4,*/*;q=0.2",
                ),
                Format::OpenMetrics,
            ),
        ] {
            let header = accept.map(HeaderValue::from_static);
            assert_eq!(Format::accepted(header.as_ref()), format, "{accept:?}");
        }
    }

    #[test]
    fn text_format_names_counters_with_suffix() {
        let mut registry = Registry::default();
        let (counter, gauge) = (Counter::<u64>::default(), Gauge::<i64>::default());
        counter.inc_by(3);
        let histogram = Histogram::new(exponential_buckets(1.0, 2.0, 1));
        histogram.observe(0.5);
        registry.register("writes", "Writes to the API server", counter);
        registry.register("services", "Services", gauge);
        registry.register_with_unit("write_duration", "Time of a write", Unit::Seconds, histogram);
        assert_eq!(
            Format::Text.encode(&registry).unwrap(),
            "# HELP writes_total Writes to the API server.\n\
             # TYPE writes_total counter\n\
             writes_total 3\n\
             # HELP services Services.\n\
             # TYPE services gauge\n\
             services 0\n\
             # HELP write_duration_seconds Time of a write.\n\
             # TYPE write_duration_seconds histogram\n\
             write_duration_seconds_sum 0.5\n\
             write_duration_seconds_count 1\n\
             write_duration_seconds_bucket{le=\"1.0\"} 1\n\
             write_duration_seconds_bucket{le=\"+Inf\"} 1\n"
        );
        assert!(Format::OpenMetrics.encode(&registry).unwrap().ends_with("# EOF\n"));
    }
}
