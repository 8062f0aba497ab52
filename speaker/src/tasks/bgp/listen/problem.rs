//! Why the port cannot be opened, in words for the operator. Contains no I/O.

use std::io::ErrorKind;

use fairlead_net::tcp::ListenError;

use super::Place;

/// Returns what is wrong and what to do.
pub(super) fn open_problem(error: &ListenError, place: &Place, port: u16) -> String {
    let family = if place.ipv4 { "IPv4" } else { "IPv6" };
    let vrf = place.device.as_ref().map(|device| format!(" in VRF {device}")).unwrap_or_default();
    let ListenError::Bind { source, .. } = error else {
        return format!("cannot listen for the router on {family} port {port}{vrf}: {error}");
    };
    let advice = match source.kind() {
        ErrorKind::AddrInUse => {
            "another process of the node listens on it, such as the BGP daemon of the network plugin or the \
             speaker of another instance: stop it, or run the speakers with another --bgp-listen-port and \
             let the router connect to that port"
                .to_owned()
        }
        ErrorKind::PermissionDenied => {
            "the speaker may not open a port below 1024: give its container the capability NET_BIND_SERVICE, or \
             set --bgp-listen-port to a port above 1023 and let the router connect to that port"
                .to_owned()
        }
        _ => source.to_string(),
    };
    format!("cannot listen for the router on {family} port {port}{vrf}: {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_says_what_to_do() {
        let place = |device: Option<&str>| Place { ipv4: true, device: device.map(str::to_owned) };
        for (kind, device, words) in [
            (ErrorKind::AddrInUse, None, ["IPv4 port 179: another process", "--bgp-listen-port"]),
            (ErrorKind::PermissionDenied, None, ["NET_BIND_SERVICE", "--bgp-listen-port"]),
            (ErrorKind::OutOfMemory, Some("red"), ["in VRF red", "out of memory"]),
        ] {
            let error = ListenError::Bind { port: 179, source: kind.into() };
            let problem = open_problem(&error, &place(device), 179);
            assert!(words.iter().all(|word| problem.contains(word)), "{problem}");
        }
    }
}
