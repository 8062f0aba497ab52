#!/bin/bash
# Asserts from outside: the Services of config/samples have addresses, the router has their routes, and the
# client behind the router reaches a pod through each. Needs the lab of topology.clab.yaml to be up.
set -euo pipefail

deadline=$((SECONDS + 180))
until_true() { # what command...
    local what=$1
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > deadline)); then
            echo "FAILED: $what" >&2
            "$@" || true
            exit 1
        fi
        sleep 1
    done
    echo "ok: $what"
}

ingress() { kubectl get service "$1" -o 'jsonpath={.status.loadBalancer.ingress[*].ip}'; }
has_address() { [ -n "$(ingress "$1")" ]; }
router() { docker exec clab-fairlead-router "$@"; }
in_router() { router vtysh -c "show bgp $1 unicast $2" | grep -q 'Paths:'; }
fetches() { docker exec clab-fairlead-client wget -q -T 2 -O - "http://$1/"; }

for service in "$@"; do
    until_true "$service has an address" has_address "$service"
    for ip in $(ingress "$service"); do
        case $ip in
        198.51.100.*) until_true "the router has a route to $ip" in_router ipv4 "$ip/32" ;;
        2001:db8:100:*) until_true "the router has a route to $ip" in_router ipv6 "$ip/128" ;;
        esac
        case $ip in *:*) url="[$ip]" ;; *) url=$ip ;; esac
        until_true "the client behind the router reaches $service at $ip" fetches "$url"
    done
done
