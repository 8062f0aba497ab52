//! The tools of the tests, which `tests/tools.sh` installs into `target/tools`.

use std::path::{Path, PathBuf};
use std::process::Command;

use fairlead_lab::{api, netns};
use serde_json::Value;

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the command of a tool. Panics without it: a test never passes because a tool is missing.
pub(crate) fn tool(name: &str) -> Command {
    let path = repository().join("target/tools/bin").join(name);
    assert!(path.exists(), "{name} is not installed in target/tools; run: make setup");
    Command::new(path)
}

pub(crate) fn kubectl() -> Command {
    tool("kubectl")
}

/// Returns the objects of a rendered kustomization.
pub(crate) fn rendered(folder: &str) -> Vec<Value> {
    let text = netns::output(kubectl().arg("kustomize").arg(repository().join(folder))).unwrap();
    api::documents(&text).unwrap()
}

/// Renders the chart with these values, in YAML. Returns the error of helm if it refuses them.
pub(crate) fn try_chart(namespace: &str, values: &str) -> Result<String, String> {
    let file = tempfile(values);
    let output = tool("helm")
        .args(["template", "fairlead", "deploy/helm/fairlead", "--namespace", namespace, "--values"])
        .arg(file.path())
        .current_dir(repository())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Fails if a document violates the schemas of the oldest supported Kubernetes. Kinds of other API groups
/// than Kubernetes' own have no schema.
pub(crate) fn validate(what: &str, manifests: &str) {
    let file = tempfile(manifests);
    let output = tool("kubernetes-validate")
        .args(["--strict", "--kubernetes-version", "1.33"])
        .arg(file.path())
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {text}");
    let unknown = |line: &&str| line.starts_with("WARN") && !line.contains("monitoring.coreos.com/v1");
    assert_eq!(text.lines().find(unknown), None, "{what}");
}

/// A file that is removed when the value is dropped.
pub(crate) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // What remains in the folder for temporary files harms nothing.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn tempfile(text: &str) -> TemporaryFile {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("fairlead-manifests-{}-{number}.yaml", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    TemporaryFile(path)
}
