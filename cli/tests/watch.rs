//! `fairlead --watch` follows the cluster without reading it again.
#![allow(clippy::unwrap_used)]

mod scene;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fairlead_apiserver::Fault;
use scene::Scene;
use serde_json::{Value, json};

/// A running `fairlead … -o json --watch`. Each document is one output.
struct Watching {
    process: Child,
    outputs: Receiver<Value>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Watching {
    fn start(scene: &Scene, arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_fairlead"))
            .args(arguments)
            .args(["-o", "json", "--watch"])
            .env("KUBECONFIG", scene.kubeconfig())
            .env_remove("FAIRLEAD_NAMESPACE")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, outputs) = channel();
        std::thread::spawn(move || {
            let mut document = String::new();
            for line in lines.map_while(Result::ok) {
                document += &line;
                if line == "}" {
                    let value = serde_json::from_str(&std::mem::take(&mut document)).unwrap();
                    if sender.send(value).is_err() {
                        return;
                    }
                }
            }
        });
        Self { process, outputs }
    }

    /// Returns the next output.
    fn next(&self) -> Value {
        self.outputs.recv_timeout(Duration::from_secs(30)).unwrap()
    }
}

fn states(status: &Value) -> Vec<String> {
    let services = status["services"].as_array().unwrap().iter();
    services.map(|service| format!("{} {}", service["name"], service["state"])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_prints_each_change_and_lists_nothing_again() {
    let scene = Scene::start("watch").await;
    scene.healthy().await;
    let watching = Watching::start(&scene, &["status", "service"]);
    assert_eq!(states(&watching.next()), [r#""api" "Announced""#, r#""web" "Announced""#]);
    // The watches list each kind once when they start: they must have done so before lists fail. Each has
    // started when its change is shown.
    scene.service("first", "", "", scene::refused("PoolExhausted", "no free IPv4 address")).await;
    let expected = [r#""api" "Announced""#, r#""first" "Pending""#, r#""web" "Announced""#];
    assert_eq!(states(&watching.next()), expected);
    let faults = scene.cluster.as_built_in().unwrap().faults();
    faults.add(Fault {
        verbs: vec!["list".to_owned()],
        resources: vec!["services".to_owned()],
        status: Some(500),
        ..Fault::default()
    });
    // Nothing that the output contains: no output.
    scene.put("Node", json!({ "metadata": { "name": "n1", "labels": { "heartbeat": "1" } } })).await;
    scene.service("first", "192.0.2.11", "lan", scene::announced("192.0.2.11 by n1 (L2)")).await;
    let expected = [r#""api" "Announced""#, r#""first" "Announced""#, r#""web" "Announced""#];
    // A Service is written in two requests, so its state may be shown between them.
    let end = Instant::now() + Duration::from_secs(30);
    let mut shown = Vec::new();
    while shown != expected {
        assert!(Instant::now() < end, "{shown:?}");
        shown = states(&watching.next());
    }
    assert!(watching.outputs.try_recv().is_err(), "one output for each change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_shows_that_the_lease_expires() {
    let scene = Scene::start("watch-lease").await;
    scene.healthy().await;
    // The Lease lasts for 10 seconds.
    scene.lease("fairlead-controller-7d9f-abcde", 8).await;
    let watching = Watching::start(&scene, &["status"]);
    let end = Instant::now() + Duration::from_secs(30);
    let mut states = vec![watching.next()["leader"]["state"].clone()];
    while *states.last().unwrap() != "Expired" {
        assert!(Instant::now() < end, "{states:?}");
        states.push(watching.next()["leader"]["state"].clone());
    }
}
