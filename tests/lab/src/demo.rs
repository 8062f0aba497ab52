//! The demo: shows the main job step by step, with real packets.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::addresses::Mac;
use crate::api;
use crate::binaries;
use crate::lab::{Carrier, Lab};
use crate::probe::{Client, Stream, Transport};
use crate::router::Family;
use crate::wait::wait_for;

const SECOND: Duration = Duration::from_secs(1);
/// Limit for one step on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// Port of the sample Services.
const PORT: u16 = 80;

/// A sample Service and its addresses.
struct Service {
    name: String,
    addresses: Vec<IpAddr>,
}

impl Service {
    fn is_l2(&self) -> bool {
        self.addresses.iter().any(|ip| matches!(ip, IpAddr::V4(ip) if ip.octets().starts_with(&[192, 0, 2])))
    }
}

/// Starts a lab, applies the samples, and leaves the lab running.
pub fn up(nodes: usize) -> Result<()> {
    let lab = Lab::builder().nodes(nodes).start()?;
    let services = apply_samples(&lab)?;
    lab.keep()?;
    print_commands(&lab, &services);
    Ok(())
}

/// Shows the main job. With `keep` the lab continues to run.
pub fn demo(nodes: usize, keep: bool) -> Result<()> {
    let start = Instant::now();
    heading("A cluster made of network namespaces");
    let lab = Lab::builder().nodes(nodes).start()?;
    print_picture(&lab);
    say(format_args!("up after {:.1} s", start.elapsed().as_secs_f64()));
    match show(&lab) {
        Ok(services) if keep => {
            lab.keep()?;
            print_commands(&lab, &services);
            Ok(())
        }
        Ok(_) => {
            let id = lab.id().to_owned();
            drop(lab);
            heading("Done");
            say(format_args!(
                "lab {id} is removed, the machine is unchanged; KEEP=1 make demo leaves the lab running ({:.0} s in all)",
                start.elapsed().as_secs_f64()
            ));
            Ok(())
        }
        Err(error) => {
            let logs = lab.keep_logs()?;
            Err(error.context(format!("the demo failed; logs of the lab will be in {}", logs.display())))
        }
    }
}

fn show(lab: &Lab) -> Result<Vec<Service>> {
    heading("Samples: pools, advertisements, the router as a BGP peer, two Services");
    let services = apply_samples(lab)?;

    heading("Allocated addresses");
    for service in &services {
        let (_, reason, message) =
            lab.api()?.condition(&service.name, "fairlead.dev/Allocated")?.context("no condition")?;
        let addresses: Vec<_> = service.addresses.iter().map(ToString::to_string).collect();
        say(format_args!("{:10} {:45} {reason}: {message}", service.name, addresses.join(", ")));
    }

    if let Some(service) = services.first() {
        heading(&format!(
            "Why {} has these addresses: fairlead explain service {}",
            service.name, service.name
        ));
        explain(lab, service)?;
    }

    heading("L2: the node that answers ARP and NDP requests of the LAN client");
    show_owners(lab, &services)?;

    heading("BGP: the router's table");
    show_routes(lab, &services)?;

    heading("Both clients fetch from a pod");
    for service in &services {
        fetch(lab, service)?;
    }

    if let Some(service) = services.iter().find(|service| service.is_l2()) {
        heading("The cable of the owner is cut");
        cut_cable(lab, service)?;
    }
    if let Some(service) = services.iter().find(|service| !service.is_l2()) {
        heading("A speaker is stopped (SIGTERM)");
        leave(lab, service)?;
    }
    Ok(services)
}

/// Applies `config/samples` and waits until every Service has its addresses and every session is up.
fn apply_samples(lab: &Lab) -> Result<Vec<Service>> {
    let api = lab.api()?;
    let dir = binaries::config_dir().join("samples");
    let mut names = Vec::new();
    for (path, text) in api::yaml_files(&dir)? {
        let applied = api.apply(&text).with_context(|| path.display().to_string())?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        say(format_args!("config/samples/{file:14} {}", applied.join(", ")));
        names.extend(applied.into_iter().filter_map(|what| what.strip_prefix("service/").map(str::to_owned)));
    }
    let mut services = Vec::new();
    for name in names {
        let spec = api.service(&name)?.spec.unwrap_or_default();
        if spec.type_.as_deref() != Some("LoadBalancer") {
            continue;
        }
        let count = spec.cluster_ips.map_or(1, |ips| ips.len());
        services.push(Service { addresses: api.wait_for_addresses(&name, count, SOON)?, name });
    }
    Ok(services)
}

fn explain(lab: &Lab, service: &Service) -> Result<()> {
    let mut command = Command::new(binaries::find("fairlead")?);
    command.args(["explain", "service", &service.name, "--kubeconfig"]).arg(lab.dir().join("kubeconfig"));
    let output = lab.network().control_plane.run(move || command.output())?.context("fairlead explain")?;
    if !output.status.success() {
        bail!("fairlead explain: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8_lossy(&output.stdout).lines().for_each(say);
    Ok(())
}

fn show_owners(lab: &Lab, services: &[Service]) -> Result<()> {
    let capture = lab.capture_client()?;
    for service in services.iter().filter(|service| service.is_l2()) {
        for ip in &service.addresses {
            let owner = lab.wait_for_owner(*ip, SOON)?;
            say(format_args!("{ip:20} is at {owner} ({})", lab.node(owner)?.mac()));
            // Prints the client's request and its reply, not the other traffic.
            let group = |mac: Mac| mac.0[0] & 1 == 1;
            let captured = || {
                let frames = capture.frames();
                let mut newest = frames.into_iter().rev().map(|seen| seen.frame);
                let answered = newest.find(|f| f.message.claims(*ip) && !group(f.destination))?;
                let asked = newest.find(|f| f.message.asks_for(*ip) && f.source == answered.destination)?;
                Some([asked, answered])
            };
            let exchange = wait_for(format!("an answer for {ip} on the wire"), SOON, || {
                if let Some(exchange) = captured() {
                    return anyhow::Ok(exchange);
                }
                // An owner that changes meanwhile leaves no complete exchange.
                lab.wait_for_owner(*ip, SOON)?;
                captured().context("the exchange was not captured")
            });
            for frame in exchange? {
                say(format_args!("    {frame}"));
            }
        }
    }
    Ok(())
}

fn show_routes(lab: &Lab, services: &[Service]) -> Result<()> {
    for service in services.iter().filter(|service| !service.is_l2()) {
        for ip in &service.addresses {
            wait_for(format!("every node as next hop of {ip}"), SOON, || {
                let hops = hops(lab, *ip)?;
                if hops.len() == lab.nodes().len() { Ok(()) } else { Err(anyhow!("{hops:?}")) }
            })?;
        }
    }
    for (family, command) in [(Family::V4, "show bgp ipv4 unicast"), (Family::V6, "show bgp ipv6 unicast")] {
        let text = lab.router().vtysh(command)?;
        let table = text.lines().skip_while(|line| !line.trim_start().starts_with("Network"));
        say(format_args!("router# {command}"));
        table.take_while(|line| !line.is_empty()).for_each(|line| say(format_args!("    {line}")));
        for (prefix, hops) in lab.router().kernel_routes(family)? {
            say(format_args!("    in its kernel: {prefix} via {} next hops", hops.len()));
        }
    }
    Ok(())
}

fn fetch(lab: &Lab, service: &Service) -> Result<()> {
    for ip in &service.addresses {
        let to = SocketAddr::new(*ip, PORT);
        for (name, client) in clients(lab) {
            wait_for(format!("{to} to answer the {name}"), SOON, || client.ask(to, Transport::Tcp, SECOND))?;
            let url = format!("http://{}/", if ip.is_ipv4() { ip.to_string() } else { format!("[{ip}]") });
            let mut curl = Command::new("curl");
            let output = client.netns().output(curl.args(["-sS", "--globoff", "--max-time", "5", &url]))?;
            let datagram = client.ask(to, Transport::Udp, 3 * SECOND)?;
            say(format_args!(
                "{:10} {name:14} curl {url:25} {:28} UDP: {} {} {}",
                service.name,
                output.trim(),
                datagram.pod,
                datagram.node,
                datagram.client
            ));
        }
    }
    say(format_args!("(a pod answers with its name, its node, and the client's address as it sees it)"));
    Ok(())
}

fn cut_cable(lab: &Lab, service: &Service) -> Result<()> {
    let ip = *service.addresses.iter().find(|ip| ip.is_ipv4()).unwrap_or(&service.addresses[0]);
    let owner = lab.wait_for_owner(ip, SOON)?.to_owned();
    // A packet for a pod behind the cut cable is lost until Kubernetes marks the node; Fairlead does not
    // route to pods.
    lab.set_ready(&owner, 1, false)?;
    say(format_args!(
        "{ip} is at {owner}; its own pod is removed from the Service first, so that the gap is that of the address"
    ));
    wait_for(format!("the pod of {owner} to be removed"), SOON, || {
        for _ in 0..10 {
            let answer = lab.client().ask(SocketAddr::new(ip, PORT), Transport::Udp, SECOND)?;
            if answer.node == owner {
                return Err(anyhow!("{} still answers", answer.pod));
            }
        }
        Ok(())
    })?;
    let streams = streams(lab, ip);
    lab.cut(&owner, Carrier::Lost)?;
    say(format_args!("cut the cable of {owner} under a stream of 100 packets per second from each client"));
    std::thread::sleep(4 * SECOND);
    for (name, stream) in streams {
        say(format_args!("{name:14} {}", stream.stop()?));
    }
    let next = lab.wait_for_owner(ip, SOON)?;
    say(format_args!("{ip} is at {next} now"));
    lab.mend()?;
    lab.set_ready(&owner, 1, true)?;
    wait_for(format!("{ip} to be back at {owner}"), SOON, || match lab.owner(ip)? {
        Some(now) if now == owner => Ok(()),
        other => Err(anyhow!("at {other:?}")),
    })?;
    say(format_args!("the cable is restored, and {ip} is back at {owner}"));
    Ok(())
}

fn leave(lab: &Lab, service: &Service) -> Result<()> {
    let ip = *service.addresses.iter().find(|ip| ip.is_ipv4()).unwrap_or(&service.addresses[0]);
    let all = lab.nodes().len();
    wait_for(format!("every node as next hop of {ip}"), 2 * SOON, || {
        let hops = hops(lab, ip)?;
        if hops.len() == all { Ok(()) } else { Err(anyhow!("{hops:?}")) }
    })?;
    say(format_args!("the router sends {ip} to {}", join(&hops(lab, ip)?)));
    let node = &lab.nodes()[all - 1];
    let streams = streams(lab, ip);
    let start = Instant::now();
    node.speaker()?.terminate(15 * SECOND)?;
    say(format_args!("the speaker of {} stopped after {} ms", node.name(), start.elapsed().as_millis()));
    std::thread::sleep(SECOND);
    say(format_args!("the router sends {ip} to {}", join(&hops(lab, ip)?)));
    for (name, stream) in streams {
        say(format_args!("{name:14} {}", stream.stop()?));
    }
    node.speaker()?.spawn_again()?;
    wait_for(format!("{} to be a next hop again", node.name()), 2 * SOON, || {
        let hops = hops(lab, ip)?;
        if hops.len() == all { Ok(()) } else { Err(anyhow!("{hops:?}")) }
    })?;
    say(format_args!("the speaker is started again: the router sends {ip} to {}", join(&hops(lab, ip)?)));
    Ok(())
}

fn hops(lab: &Lab, ip: IpAddr) -> Result<Vec<IpAddr>> {
    let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut routes = lab.router().bgp_routes(family)?;
    Ok(routes.remove(&ip.into()).unwrap_or_default().into_iter().collect())
}

fn clients(lab: &Lab) -> [(&'static str, Client); 2] {
    [("LAN client", lab.client()), ("remote client", lab.remote())]
}

fn streams(lab: &Lab, ip: IpAddr) -> Vec<(&'static str, Stream)> {
    let to = SocketAddr::new(ip, PORT);
    let streams =
        clients(lab).map(|(name, client)| (name, client.stream(to, Duration::from_millis(10)))).into();
    std::thread::sleep(SECOND);
    streams
}

fn join(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn heading(text: &str) {
    let plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    if plain {
        println!("\n== {text}");
    } else {
        println!("\n\x1b[1m== {text}\x1b[0m");
    }
}

fn say(text: impl Display) {
    println!("   {text}");
}

fn print_picture(lab: &Lab) {
    let last = lab.nodes().len();
    say("");
    say("  remote client ── router (FRR, AS 64512) ──┐");
    say("  203.0.113.100    192.0.2.1                │");
    say("  LAN client ──────────────────────────── bridge ── n1 … nN (speakers, AS 64513) ── pods");
    say(format_args!(
        "  192.0.2.100      192.0.2.0/24             │       192.0.2.11 … 192.0.2.{}",
        10 + last
    ));
    say("  API server, controller (192.0.2.2) ───────┘       and the same in 2001:db8:1::/64");
    say("");
    say(format_args!("{last} nodes, one pod on each, in namespaces {}-*", lab.id()));
}

fn print_commands(lab: &Lab, services: &[Service]) {
    let id = lab.id();
    let kubeconfig = lab.dir().join("kubeconfig");
    let inside = |namespace: &str| format!("sudo ip netns exec {id}-{namespace}");
    heading(&format!("Lab {id} is running"));
    say(match binaries::kubernetes("kube-apiserver") {
        Some(_) => "API server   a real kube-apiserver. There is no scheduler, kubelet or other controller.",
        None => {
            "API server   in memory, for tests: it stores objects, checks schemas and serves watches as a real \
             one does. It authenticates and authorizes nobody, runs no admission policy, and there is no \
             scheduler, kubelet or other controller: a Pod or Deployment that you create does not start."
        }
    });
    say(format_args!(
        "kubectl      alias k='{} kubectl --kubeconfig {}'",
        inside("cp"),
        kubeconfig.display()
    ));
    say("             k get services,ipaddresspools,l2ad,bgpad,bgppeers,speakers");
    say("             k describe service web-l2");
    for ip in services.iter().flat_map(|service| &service.addresses) {
        let host = if ip.is_ipv4() { ip.to_string() } else { format!("[{ip}]") };
        say(format_args!("fetch        {} curl -g http://{host}/", inside("client")));
    }
    say(format_args!("             from the client behind the router: {} curl …", inside("remote")));
    say(format_args!("neighbors    {} ip neigh", inside("client")));
    let vtysh = lab.router().vtysh_command();
    say(format_args!("router       sudo {vtysh} -c 'show bgp summary' -c 'show bgp ipv4 unicast'"));
    say(format_args!("frames       {} tcpdump -eni n1 'arp or icmp6 or port 179'", inside("lan")));
    say(format_args!("cut a cable  sudo ip -n {id}-lan link set n1 down      (up restores it)"));
    say(format_args!("a shell      {} bash", inside("n1")));
    say(format_args!("logs         {}", lab.dir().join("logs").display()));
    let exe = std::env::current_exe().unwrap_or_else(|_| "fairlead-lab".into());
    say(format_args!("remove it    sudo {} down {id}", exe.display()));
}
