//! The programs run with what the overlays `bgp-only` and `l2-only` leave them.

use std::process::Command;

use super::*;

/// Returns the rights that an overlay grants to the accounts, as a folder for [`Rules::of`].
fn rendered(lab: &Lab, overlay: &str) -> PathBuf {
    let repository = binaries::config_dir().join("..");
    let kubectl = repository.join("target/tools/bin/kubectl");
    assert!(kubectl.exists(), "kubectl is not installed in target/tools; run: make setup");
    let mut command = Command::new(kubectl);
    command.arg("kustomize").arg(binaries::config_dir().join("overlays").join(overlay));
    let text = fairlead_lab::netns::output(&mut command).unwrap();
    let folder = lab.dir().join(overlay);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("all.yaml"), text).unwrap();
    folder
}

/// The daemons on two nodes.
struct Daemons {
    of_controller: Guarded,
    of_speaker: Guarded,
    speakers: Vec<Process>,
    _controller: Process,
}

impl Daemons {
    fn start(lab: &Lab, overlay: &str, protocols: &str, capabilities: &'static str) -> Self {
        let folder = rendered(lab, overlay);
        let guarded = |account: &str, port, capabilities| {
            Guarded::with_rules(lab, account, port, capabilities, Rules::of(&folder, account).unwrap())
        };
        let of_controller = guarded("fairlead-controller", 6501, "-all");
        let of_speaker = guarded("fairlead-speaker", 6502, capabilities);
        let flags = ["--protocols", protocols];
        let cp = &lab.network().control_plane;
        let controller = of_controller.start(lab, "controller", "fairlead-controller", cp, &flags);
        let nodes = lab.network().nodes.iter();
        let speakers = nodes.map(|node| {
            let name = format!("speaker-{}", node.name);
            let flags =
                ["--protocols", protocols, "--node-name", &node.name, "--daemonset", "fairlead-speaker"];
            of_speaker.start(lab, &name, "fairlead-speaker", &node.netns, &flags)
        });
        let speakers = speakers.collect();
        Self { of_controller, of_speaker, speakers, _controller: controller }
    }

    fn expect_no_refused_request(&self) {
        assert_eq!(self.of_controller.gate.refused(), Vec::<String>::new());
        assert_eq!(self.of_speaker.gate.refused(), Vec::<String>::new());
    }
}

/// Waits until both nodes report that they do not announce this address because the protocol is disabled.
fn expect_disabled(lab: &Lab, ip: IpAddr, protocol: &str) {
    for node in ["n1", "n2"] {
        wait_for(format!("{node} to report {ip}"), SOON, || {
            let speaker = speaker_object(lab, node)?;
            let problems = speaker.pointer("/status/notAnnounced").and_then(Value::as_array);
            let mut problems = problems.into_iter().flatten();
            let text = ip.to_string();
            let problem =
                problems.find(|problem| problem["address"] == text && problem["protocol"] == protocol);
            ensure!(problem.is_some_and(|problem| problem["reason"] == "ProtocolDisabled"), "{speaker}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn bgp_only_daemons_need_no_key_and_no_capability() {
    let lab = Lab::builder().nodes(2).without_fairlead().start().unwrap();
    if !is_plain_http(&lab) {
        eprintln!("skipped: the gate cannot read the TLS connections of a real kube-apiserver");
        return;
    }
    let daemons = Daemons::start(&lab, "bgp-only", "bgp", "-all");
    lab.api().unwrap().apply(CONFIG).unwrap();
    expect_sessions(&lab, SOON).unwrap();
    for speaker in &daemons.speakers {
        assert_eq!(effective_capabilities(speaker), 0);
    }
    for ip in LbService::new("bgp", "bgp").up(&lab).unwrap() {
        reach(&lab, ip, 1).unwrap();
    }
    expect_disabled(&lab, LbService::new("l2", "l2").up(&lab).unwrap()[0], "L2");
    for node in ["n1", "n2"] {
        assert_eq!(speaker_object(&lab, node).unwrap()["spec"]["mesh"], Value::Null, "{node}");
    }
    daemons.expect_no_refused_request();
}

#[test]
fn l2_only_daemons_need_no_password_and_open_no_session() {
    let lab = Lab::builder().nodes(2).without_fairlead().start().unwrap();
    if !is_plain_http(&lab) {
        eprintln!("skipped: the gate cannot read the TLS connections of a real kube-apiserver");
        return;
    }
    let daemons = Daemons::start(&lab, "l2-only", "l2", "-all,+net_raw");
    lab.api().unwrap().apply(CONFIG).unwrap();
    lab.api().unwrap().apply(MORE).unwrap();
    for ip in LbService::new("l2", "l2").up(&lab).unwrap() {
        reach(&lab, ip, 1).unwrap();
    }
    expect_disabled(&lab, LbService::new("bgp", "bgp").up(&lab).unwrap()[0], "BGP");
    for node in ["n1", "n2"] {
        let sessions = speaker_object(&lab, node).unwrap()["status"]["sessions"].clone();
        assert!(sessions.as_array().is_none_or(Vec::is_empty), "{sessions}");
    }
    daemons.expect_no_refused_request();
}
