//! Reading of objects from files, directories and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::yaml::{self, Node};

/// An object and the file that contains it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// The file; `-` for standard input.
    pub file: String,
    pub node: Node,
}

/// Reads all objects of all files, in order. Lists, as in the output of `kubectl get -o yaml`, are split.
/// With `recursive`, subdirectories are read too.
///
/// # Errors
/// Returns an error if a file cannot be read, or contains a document that is not a Kubernetes object.
pub(crate) fn documents(files: &[PathBuf], recursive: bool, stdin: &mut dyn Read) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            let mut text = String::new();
            stdin.read_to_string(&mut text).context("cannot read standard input")?;
            parse("-", &text, &mut documents)?;
        } else if file.is_dir() {
            let mut manifests = Vec::new();
            add_manifests(file, recursive, &mut manifests)?;
            if manifests.is_empty() {
                let hint = if recursive { "" } else { "; use -R to read its subdirectories" };
                bail!("{} contains no .yaml, .yml or .json files{hint}", file.display());
            }
            for file in manifests {
                read(&file, &mut documents)?;
            }
        } else {
            read(file, &mut documents)?;
        }
    }
    Ok(documents)
}

/// Adds the manifests in a directory, sorted by name. A symbolic link to a directory is not followed.
fn add_manifests(directory: &Path, recursive: bool, manifests: &mut Vec<PathBuf>) -> Result<()> {
    let error = || format!("cannot read {}", directory.display());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(error)? {
        let entry = entry.with_context(error)?;
        entries.push((entry.path(), entry.file_type().with_context(error)?.is_dir()));
    }
    entries.sort();
    for (path, is_directory) in entries {
        let extension = path.extension().and_then(|e| e.to_str());
        if is_directory {
            if recursive {
                add_manifests(&path, recursive, manifests)?;
            }
        } else if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            manifests.push(path);
        }
    }
    Ok(())
}

fn read(file: &Path, documents: &mut Vec<Document>) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&file.display().to_string(), &text, documents)
}

/// Parses YAML, which includes JSON.
fn parse(file: &str, text: &str, documents: &mut Vec<Document>) -> Result<()> {
    let nodes = yaml::parse(text);
    let nodes = nodes
        .map_err(|error| anyhow::anyhow!("{file}:{}: not valid YAML: {}", error.position, error.message))?;
    nodes.into_iter().try_for_each(|node| add(file, node, documents))
}

fn add(file: &str, node: Node, documents: &mut Vec<Document>) -> Result<()> {
    if node.is_null() {
        return Ok(());
    }
    let Some(kind) = node.get("kind").and_then(Node::as_str) else {
        bail!("{file}:{}: the document is not a Kubernetes object: kind is not set", node.position);
    };
    if kind.ends_with("List")
        && let Some(items) = node.get("items").and_then(Node::items)
    {
        return items.iter().try_for_each(|item| add(file, item.clone(), documents));
    }
    documents.push(Document { file: file.to_owned(), node });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let mut stdin = text.as_bytes();
        let documents = documents(&["-".into()], false, &mut stdin).unwrap();
        documents.iter().map(|d| d.node.value()["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn documents_lists_and_json_are_read() {
        assert_eq!(
            names("kind: A\nmetadata: {name: a}\n---\n# nothing\n---\nkind: A\nmetadata: {name: b}\n"),
            ["a", "b"]
        );
        assert_eq!(names(r#"{"kind": "A", "metadata": {"name": "a"}}"#), ["a"]);
        let list = "kind: List\nitems:\n- kind: A\n  metadata: {name: a}\n- kind: B\n  metadata: {name: b}\n";
        assert_eq!(names(list), ["a", "b"]);
        assert!(names("").is_empty());
    }

    #[test]
    fn document_without_kind_is_an_error() {
        for text in ["a: [", "text", "{}", "- kind: A", "kind: A\n---\n: :\n  - ]"] {
            assert!(documents(&["-".into()], false, &mut text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn error_names_the_missing_file() {
        let error = documents(&["/nonexistent/pools.yaml".into()], false, &mut std::io::empty()).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/pools.yaml"));
    }
}
