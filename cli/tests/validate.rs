//! `fairlead validate`: output and exit status.
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
    // The process may exit without reading its input.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn exit(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples")
}

const BAD: &str = "{apiVersion: fairlead.dev/v1beta1, kind: BGPPeer, metadata: {name: p}, spec: {myASN: 1, \
    peerAddress: 192.0.2.1}}";

#[test]
fn samples_are_accepted() {
    let output = fairlead(&["validate", "-f", samples().to_str().unwrap()], "");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(exit(&output), 0, "{text}");
    assert_eq!(text.lines().filter(|line| line.ends_with(" accepted")).count(), 8, "{text}");
    assert!(output.stderr.is_empty());
}

#[test]
fn refused_object_exits_with_1() {
    let output = fairlead(&["validate", "-f", "-", "-f", samples().to_str().unwrap()], BAD);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(exit(&output), 1, "{text}");
    assert!(text.starts_with("-:1:") && text.contains(": BGPPeer/p REFUSED: "), "{text}");
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(note.lines().count() == 1 && note.contains("accepted last"), "{note}");
    let pool =
        "{apiVersion: fairlead.dev/v1beta1, kind: IPAddressPool, metadata: {name: p}, spec: {addresses: []}}";
    let output = fairlead(&["validate", "-f", "-"], pool);
    assert_eq!((exit(&output), output.stderr.len()), (1, 0));
}

#[test]
fn unusable_input_exits_with_2() {
    let table: [(&[&str], &str, &str); 6] = [
        (&["validate", "-f", "/nonexistent.yaml"], "", "/nonexistent.yaml"),
        (&["validate", "-f", "-"], "a: [", "not valid YAML"),
        (&["validate", "-f", "-"], "", "no configuration objects"),
        (&["validate"], "", "--filename"),
        (&["validate", "--no-such-flag"], "", "--no-such-flag"),
        (&["no-such-command"], "", "no-such-command"),
    ];
    for (arguments, stdin, text) in table {
        let output = fairlead(arguments, stdin);
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(exit(&output), 2, "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
}

#[test]
fn subdirectories_are_read_with_recursive() {
    let directory = std::env::temp_dir().join(format!("fairlead-validate-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("pools")).unwrap();
    // A byte order mark is no error.
    std::fs::write(directory.join("pools/peer.yaml"), format!("\u{feff}{BAD}")).unwrap();
    let path = directory.to_str().unwrap();
    let plain = fairlead(&["validate", "-f", path], "");
    let recursive = fairlead(&["validate", "-R", "-f", path], "");
    std::fs::remove_dir_all(&directory).unwrap();
    let error = String::from_utf8(plain.stderr.clone()).unwrap();
    assert!(exit(&plain) == 2 && error.contains("use -R"), "{error}");
    let text = String::from_utf8(recursive.stdout.clone()).unwrap();
    assert_eq!(exit(&recursive), 1, "{text}");
    assert!(text.contains("pools/peer.yaml:1:") && text.contains("BGPPeer/p REFUSED: "), "{text}");
}

#[test]
fn texts_of_files_forge_no_line_and_are_cut() {
    let forged = "a\\n-:1:1: IPAddressPool/b accepted";
    let long = "x".repeat(255 * 1024);
    let object = |kind: &str, name: &str, spec: &str| {
        format!(
            "{{apiVersion: fairlead.dev/v1beta1, kind: \"{kind}\", metadata: {{name: \"{name}\"}}, \
             spec: {spec}}}"
        )
    };
    let pool = |address: &str| object("IPAddressPool", "a", &format!("{{addresses: [\"{address}\"]}}"));
    let table = [
        object("IPAddressPool", forged, "{addresses: [192.0.2.0/24]}"),
        object("IPAddressPool", &long, "{addresses: [192.0.2.0/24]}"),
        object(forged, "a", "{}"),
        object(&long, "a", "{}"),
        pool(forged),
        pool(&long),
        object("IPAddressPool", "a", &format!("{{addresses: [192.0.2.0/24], \"{forged}\": 1}}")),
        object("IPAddressPool", "a", &format!("{{addresses: [192.0.2.0/24], ? {long} : 1}}")),
    ];
    for text in table {
        let start: String = text.chars().take(100).collect();
        let output = fairlead(&["validate", "-f", "-"], &text);
        let lines = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(exit(&output), 1, "{start}: {lines}");
        for line in lines.lines() {
            assert!(line.contains(" REFUSED: ") && line.len() < 2048, "{start}: {line}");
        }
    }
    // Errors on standard error too.
    for text in [format!("kind: A\n\"{forged}\": [a"), format!("kind: A\n{long}: [a")] {
        let output = fairlead(&["validate", "-f", "-"], &text);
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(exit(&output), 2, "{error}");
        assert!(error.lines().count() == 1 && error.len() < 2048, "{error}");
    }
}
