//! Rules for names (Kubernetes: "Object Names and IDs").

/// RFC 1123 label.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label_text(text)
}

/// RFC 1035 label: it begins with a letter.
pub fn is_1035_label(text: &str) -> bool {
    is_dns_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// RFC 1123 subdomain.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_text)
}

/// A name that is usable as a path segment.
pub fn is_path_segment(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '%'])
}

/// `[prefix/]name` of labels, annotations and classes.
pub fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label_value(name) && !name.is_empty(),
        None => is_label_value(text) && !text.is_empty(),
    }
}

/// The value of a label.
pub fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && edge(text.chars().next())
        && edge(text.chars().last())
}

/// IANA service name (RFC 6335), as for named target ports.
pub fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && is_label_text(text)
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.contains("--")
}

fn is_label_text(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kubernetes_rules() {
        assert!(is_dns_label("8080-a") && !is_dns_label("a.b") && !is_dns_label("-a") && !is_dns_label(""));
        assert!(is_1035_label("a8") && !is_1035_label("8a"));
        assert!(is_subdomain("a.b-c.9") && !is_subdomain("a..b") && !is_subdomain("A"));
        assert!(
            is_qualified_name("fairlead.dev/x_Y.z")
                && !is_qualified_name("a/b/c")
                && !is_qualified_name("/b")
        );
        assert!(is_label_value("") && is_label_value("A-b_c.d") && !is_label_value("-a"));
        assert!(is_path_segment("system:node") && !is_path_segment("a/b") && !is_path_segment(".."));
        assert!(is_port_name("http-web") && !is_port_name("8080") && !is_port_name("a-very-long-port-name"));
    }
}
