//! The program as an operator runs it: what it prints and how it exits.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn fairlead(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fairlead"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have gone already, having no use for it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn exit(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples")
}

const BAD: &str = "{apiVersion: fairlead.dev/v1beta1, kind: BGPPeer, metadata: {name: p}, spec: {myASN: 1, peerAddress: 192.0.2.1}}";

#[test]
fn the_samples_are_accepted() {
    let output = fairlead(&["validate", "-f", samples().to_str().unwrap()], "");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(exit(&output), 0, "{text}");
    assert_eq!(text.lines().filter(|line| line.ends_with(" accepted")).count(), 8, "{text}");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_refused_object_is_shown_with_its_reason_and_makes_the_exit_code_1() {
    let output = fairlead(&["validate", "-f", "-", "-f", samples().to_str().unwrap()], BAD);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(exit(&output), 1, "{text}");
    assert!(text.starts_with("-: BGPPeer/p REFUSED: MissingPeerASN: "), "{text}");
}

#[test]
fn what_cannot_be_used_makes_the_exit_code_2_and_says_why() {
    let table: [(&[&str], &str, &str); 6] = [
        (&["validate", "-f", "/nonexistent.yaml"], "", "/nonexistent.yaml"),
        (&["validate", "-f", "-"], "a: [", "not YAML"),
        (&["validate", "-f", "-"], "", "no configuration objects"),
        (&["validate"], "", "--filename"),
        (&["validate", "--no-such-flag"], "", "--no-such-flag"),
        (&["no-such-command"], "", "no-such-command"),
    ];
    for (arguments, stdin, text) in table {
        let output = fairlead(arguments, stdin);
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(exit(&output), 2, "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
}
