#!/bin/sh
# Installs the Debian or Ubuntu packages that the lab and the tests need, those that are missing, and the
# tools of tests/tools.sh; with the argument `bench`, what the benchmarks need instead of the tools; with
# `demo`, only the packages. Starts no service.
set -eu

# program:package — the program tells whether the package is there.
NEEDED="
cc:gcc
make:make
ip:iproute2
bridge:iproute2
nft:nftables
tcpdump:tcpdump
tshark:tshark
curl:curl
/usr/lib/frr/bgpd:frr
vtysh:frr
bird:bird2
gobgpd:gobgpd
exabgp:exabgp
pip3:python3-pip
"
if [ "${1:-}" = bench ]; then
    NEEDED="$NEEDED
valgrind:valgrind
"
fi
# Daemons that the lab starts by itself in its own namespaces; their packages would start them on the host.
SERVICES="frr bird bird6 gobgpd exabgp"

PATH=$PATH:/usr/sbin:/sbin

missing=
for entry in $NEEDED; do
    program=${entry%%:*} package=${entry##*:}
    command -v "$program" >/dev/null 2>&1 && continue
    case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
done
install_tools() {
    [ -n "${1:-}" ] || "$(dirname "$0")/tools.sh" kubectl lint
}
if [ -z "$missing" ]; then
    install_tools "$@"
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: missing:$missing; install them with your system's packages (apt-get is not here)" >&2
    exit 1
fi
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

echo "setup: installing$missing"

# invoke-rc.d asks this file before a package starts or restarts a service. Only ours are refused, only for
# the time of the installation, and a policy that the machine already has stays in force.
POLICY=/usr/sbin/policy-rc.d
placed=
if [ ! -e "$POLICY" ]; then
    tmp=$(mktemp)
    {
        echo '#!/bin/sh'
        echo "case \" $SERVICES \" in *\" \$1 \"*) exit 101 ;; esac"
        echo 'exit 0'
    } >"$tmp"
    as_root install -m 755 "$tmp" "$POLICY"
    rm -f "$tmp"
    placed=yes
fi
cleanup() {
    if [ -n "$placed" ]; then as_root rm -f "$POLICY"; fi
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# shellcheck disable=SC2086 # a list of words
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null

# With systemd a freshly installed service is also enabled for the next boot: not wanted either.
if command -v systemctl >/dev/null 2>&1; then
    for service in $SERVICES; do
        case " $missing " in
        *" $service "* | *" ${service}2 "*) as_root systemctl disable -q "$service" 2>/dev/null || true ;;
        esac
    done
fi
install_tools "$@"
