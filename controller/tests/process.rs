//! The program `fairlead-controller`.

#![allow(clippy::unwrap_used, reason = "test helpers may panic")]

use std::time::Duration;

use fairlead_apiserver::{Cluster, Outage};
use fairlead_test_support::daemon::Daemon;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, PostParams};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fairlead-controller");

#[test]
fn unreachable_api_server_is_named_in_log_and_readyz() {
    let (daemon, url) = Daemon::start_without_api_server(PROGRAM, &[]);
    daemon.assert_names_server(&url);
    daemon.wait("the election names the server", |daemon| {
        daemon.log().lines().any(|line| line.contains("leader election") && line.contains(&url))
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_namespace_and_missing_kinds_are_logged_once_with_the_remedy() {
    let cluster = Cluster::start().await.unwrap();
    let daemon = Daemon::start(PROGRAM, &[], &cluster.kubeconfig());
    let no_namespace = "the namespace of the Lease does not exist";
    daemon.wait("the log names the missing namespace", |daemon| !daemon.logged(no_namespace).is_empty());
    daemon.wait("/readyz names it", |daemon| daemon.get("/readyz").contains("namespace fairlead-system"));
    let kinds = ["ipaddresspools", "l2advertisements", "bgppeers", "communities", "ipclaims"];
    let line_of = |kind: &str| format!("the API server does not serve {kind}.fairlead.dev");
    for kind in kinds {
        daemon.wait(kind, |daemon| !daemon.logged(&line_of(kind)).is_empty());
    }
    if let Some(server) = cluster.as_built_in() {
        // The failures in between say nothing about the namespace.
        server.faults().outage(Outage::Refuse, Duration::from_secs(1));
        daemon.wait("the outage is logged", |daemon| !daemon.logged("is unavailable").is_empty());
    }
    let name = Some("fairlead-system".to_owned());
    let namespace =
        Namespace { metadata: ObjectMeta { name, ..ObjectMeta::default() }, ..Namespace::default() };
    let namespaces = Api::all(cluster.client().await.unwrap());
    let mut created = namespaces.create(&PostParams::default(), &namespace).await;
    while created.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        created = namespaces.create(&PostParams::default(), &namespace).await;
    }
    daemon.wait("the controller leads", |daemon| !daemon.logged("became leader").is_empty());
    let lines = daemon.logged(no_namespace);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("create the namespace, or set --namespace"), "{}", lines[0]);
    for kind in kinds {
        let lines = daemon.logged(&line_of(kind));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].contains("kubectl apply --server-side -k config/crd"), "{}", lines[0]);
    }
}
