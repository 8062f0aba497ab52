//! Locates the programs and manifests of the workspace.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// Returns the path of a program of the workspace: in `$FAIRLEAD_BIN_DIR`, else beside the running
/// executable, or above it for a test (`target/debug/deps/NAME`).
pub fn find(name: &str) -> Result<PathBuf> {
    let mut tried = Vec::new();
    for dir in dirs()? {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
        tried.push(path.display().to_string());
    }
    bail!("{name} is not built: {} does not exist; run `make build` first", tried.join(", "))
}

/// Returns a program of a Kubernetes release (`kube-apiserver`, `etcd`, `kube-proxy`) in
/// `$KUBEBUILDER_ASSETS`, if that is set and contains it.
pub fn kubernetes(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("KUBEBUILDER_ASSETS")?).join(name);
    path.is_file().then_some(path)
}

/// Returns the folder `config` of the repository: `$FAIRLEAD_CONFIG_DIR`, else the one of the sources of this
/// build.
pub fn config_dir() -> PathBuf {
    match env::var_os("FAIRLEAD_CONFIG_DIR") {
        Some(dir) => dir.into(),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config")),
    }
}

fn dirs() -> Result<Vec<PathBuf>> {
    if let Some(dir) = env::var_os("FAIRLEAD_BIN_DIR") {
        return Ok(vec![dir.into()]);
    }
    let exe = env::current_exe()?;
    let dir = exe.parent().context("the running executable has no folder")?;
    let mut dirs = vec![dir.to_path_buf()];
    if dir.ends_with("deps") {
        dirs.extend(dir.parent().map(Into::into));
    }
    Ok(dirs)
}
