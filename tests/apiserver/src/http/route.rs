//! Parses request paths.

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/healthz`, `/livez`, `/readyz`.
    Health,
    Version,
    /// `/`.
    Paths,
    /// `/api`.
    Legacy,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`; the core group is empty.
    GroupVersion(String, String),
    OpenApiV2,
    OpenApiV3,
    OpenApiV3Group(String, String),
    /// `/faults` and the rest of the path.
    Faults(String),
    Resource(ResourcePath),
    Unknown,
}

/// `…/namespaces/NAMESPACE/PLURAL/NAME/SUBRESOURCE`; absent parts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub plural: String,
    pub name: String,
    pub subresource: String,
}

impl Route {
    /// Parses a path.
    pub(crate) fn of(path: &str) -> Route {
        let decoded: Vec<String> =
            path.split('/').filter(|step| !step.is_empty()).map(percent_decoded).collect();
        let steps: Vec<&str> = decoded.iter().map(String::as_str).collect();
        match steps[..] {
            [] => Route::Paths,
            ["healthz" | "livez" | "readyz", ..] => Route::Health,
            ["version"] => Route::Version,
            ["api"] => Route::Legacy,
            ["api", version] => Route::GroupVersion(String::new(), version.into()),
            ["api", version, ref rest @ ..] => Route::resource("", version, rest),
            ["apis"] => Route::Groups,
            ["apis", group] => Route::Group(group.into()),
            ["apis", group, version] => Route::GroupVersion(group.into(), version.into()),
            ["apis", group, version, ref rest @ ..] => Route::resource(group, version, rest),
            ["openapi", "v2"] => Route::OpenApiV2,
            ["openapi", "v3"] => Route::OpenApiV3,
            ["openapi", "v3", "api", version] => Route::OpenApiV3Group(String::new(), version.into()),
            ["openapi", "v3", "apis", group, version] => Route::OpenApiV3Group(group.into(), version.into()),
            ["faults", ref rest @ ..] => Route::Faults(rest.join("/")),
            _ => Route::Unknown,
        }
    }

    fn resource(group: &str, version: &str, rest: &[&str]) -> Route {
        let path = |namespace: &str, plural: &str, name: &str, subresource: &str| {
            Route::Resource(ResourcePath {
                group: group.into(),
                version: version.into(),
                namespace: namespace.into(),
                plural: plural.into(),
                name: name.into(),
                subresource: subresource.into(),
            })
        };
        match *rest {
            // Namespaces are a resource with subresources.
            ["namespaces", name, sub @ ("status" | "finalize")] => path("", "namespaces", name, sub),
            ["namespaces", namespace, plural] => path(namespace, plural, "", ""),
            ["namespaces", namespace, plural, name] => path(namespace, plural, name, ""),
            ["namespaces", namespace, plural, name, sub] => path(namespace, plural, name, sub),
            [plural] => path("", plural, "", ""),
            [plural, name] => path("", plural, name, ""),
            [plural, name, sub] => path("", plural, name, sub),
            _ => Route::Unknown,
        }
    }
}

fn percent_decoded(step: &str) -> String {
    let mut bytes = Vec::with_capacity(step.len());
    let raw = step.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        let hex = (raw[at] == b'%').then(|| step.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                at += 3;
            }
            None => {
                bytes.push(raw[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(parts: [&str; 6]) -> Route {
        let [group, version, namespace, plural, name, subresource] = parts.map(str::to_owned);
        Route::Resource(ResourcePath { group, version, namespace, plural, name, subresource })
    }

    #[test]
    fn paths_are_parsed() {
        for (path, route) in [
            ("/api/v1/services", resource(["", "v1", "", "services", "", ""])),
            ("/api/v1/namespaces/a/services/b/status", resource(["", "v1", "a", "services", "b", "status"])),
            ("/api/v1/namespaces", resource(["", "v1", "", "namespaces", "", ""])),
            ("/api/v1/namespaces/a", resource(["", "v1", "", "namespaces", "a", ""])),
            ("/api/v1/namespaces/a/status", resource(["", "v1", "", "namespaces", "a", "status"])),
            ("/apis/x.y/v1/things/a%3Ab/status", resource(["x.y", "v1", "", "things", "a:b", "status"])),
            ("/api/v1", Route::GroupVersion(String::new(), "v1".into())),
            ("/apis/x.y", Route::Group("x.y".into())),
            ("/readyz", Route::Health),
            ("/faults/outage", Route::Faults("outage".into())),
            ("/openapi/v3/apis/x.y/v1", Route::OpenApiV3Group("x.y".into(), "v1".into())),
            ("/nonsense", Route::Unknown),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
