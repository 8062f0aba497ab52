//! The version and the commit of this build, for `--version` and for the metric `fairlead_build_info`.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built: the variable `FAIRLEAD_COMMIT` of the build, which images and releases set.
pub const COMMIT: &str = match option_env!("FAIRLEAD_COMMIT") {
    Some(commit) if !commit.is_empty() => commit,
    _ => "unknown",
};

/// Returns what `--version` prints after the name of the program.
pub fn long_version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{VERSION} (commit {COMMIT})"));
    &TEXT
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

/// Registers the metric `fairlead_build_info`.
pub(crate) fn register(registry: &mut Registry) {
    let info = Family::<BuildLabels, Gauge>::default();
    info.get_or_create(&BuildLabels { version: VERSION, commit: COMMIT }).set(1);
    registry.register(
        "fairlead_build_info",
        "1, with the version and the commit of this build as labels",
        info,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_contains_version_and_commit() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let sample = format!("fairlead_build_info{{version=\"{VERSION}\",commit=\"{COMMIT}\"}} 1");
        assert!(text.lines().any(|line| line == sample), "{text}");
        assert_eq!(long_version(), format!("{VERSION} (commit {COMMIT})"));
    }
}
