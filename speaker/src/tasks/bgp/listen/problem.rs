//! Why the port cannot be opened, in words for the operator. Contains no I/O.

use std::io::ErrorKind;
use std::net::SocketAddr;

use fairlead_net::tcp::ListenError;

/// Returns what is wrong and what to do. `device` is the VRF.
pub(super) fn open_problem(error: &ListenError, address: SocketAddr, device: Option<&str>) -> String {
    let place = match address.ip() {
        ip if !ip.is_unspecified() => ip.to_string(),
        ip if ip.is_ipv4() => "IPv4".to_owned(),
        _ => "IPv6".to_owned(),
    };
    let vrf = device.map(|device| format!(" in VRF {device}")).unwrap_or_default();
    let place = format!("{place} port {}{vrf}", address.port());
    let ListenError::Bind { source, .. } = error else {
        return format!("cannot listen for the router on {place}: {error}");
    };
    let advice = match source.kind() {
        ErrorKind::AddrInUse => {
            "another process of the node listens on it, such as the BGP daemon of the network plugin or the \
             speaker of another instance: stop it, or run the speakers with another --bgp-listen-port and \
             let the router connect to that port"
                .to_owned()
        }
        ErrorKind::AddrNotAvailable => {
            "this node does not have the address: assign it, or correct sourceAddress of the BGPPeer".to_owned()
        }
        ErrorKind::PermissionDenied => {
            "the speaker may not open a port below 1024: give its container the capability NET_BIND_SERVICE, or \
             set --bgp-listen-port to a port above 1023 and let the router connect to that port"
                .to_owned()
        }
        _ => source.to_string(),
    };
    format!("cannot listen for the router on {place}: {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_says_what_to_do() {
        for (address, kind, device, words) in [
            (
                "0.0.0.0",
                ErrorKind::AddrInUse,
                None,
                ["on IPv4 port 179: another process", "--bgp-listen-port"],
            ),
            ("::", ErrorKind::PermissionDenied, None, ["on IPv6 port 179: ", "NET_BIND_SERVICE"]),
            ("192.0.2.11", ErrorKind::AddrNotAvailable, None, ["on 192.0.2.11 port 179: ", "sourceAddress"]),
            ("0.0.0.0", ErrorKind::OutOfMemory, Some("red"), ["port 179 in VRF red: ", "out of memory"]),
        ] {
            let address = SocketAddr::new(address.parse().unwrap(), 179);
            let error = ListenError::Bind { address, source: kind.into() };
            let problem = open_problem(&error, address, device);
            assert!(words.iter().all(|word| problem.contains(word)), "{problem}");
        }
    }
}
