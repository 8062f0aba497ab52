//! Reading of objects from files, directories and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// An object and the file that contains it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// The file; `-` for standard input.
    pub file: String,
    pub value: Value,
}

/// Reads all objects of all files, in order. Lists, as in the output of `kubectl get -o yaml`, are split.
///
/// # Errors
/// Returns an error if a file cannot be read, or contains a document that is not a Kubernetes object.
pub(crate) fn documents(files: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            let mut text = String::new();
            stdin.read_to_string(&mut text).context("cannot read standard input")?;
            parse("-", &text, &mut documents)?;
        } else if file.is_dir() {
            for file in manifests_in(file)? {
                read(&file, &mut documents)?;
            }
        } else {
            read(file, &mut documents)?;
        }
    }
    Ok(documents)
}

/// Returns the manifests in a directory, without subdirectories, sorted by name.
fn manifests_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let error = || format!("cannot read {}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(error)? {
        let path = entry.with_context(error)?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} contains no .yaml, .yml or .json files", directory.display());
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path, documents: &mut Vec<Document>) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&file.display().to_string(), &text, documents)
}

/// Parses YAML, which includes JSON.
fn parse(file: &str, text: &str, documents: &mut Vec<Document>) -> Result<()> {
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).with_context(|| format!("{file} is not valid YAML"))?;
        add(file, value, documents)?;
    }
    Ok(())
}

fn add(file: &str, mut value: Value, documents: &mut Vec<Document>) -> Result<()> {
    if value.is_null() {
        return Ok(());
    }
    let Some(kind) = value["kind"].as_str() else {
        bail!("{file} contains a document that is not a Kubernetes object: kind is not set");
    };
    if kind.ends_with("List")
        && let Some(Value::Array(items)) = value.get_mut("items").map(Value::take)
    {
        return items.into_iter().try_for_each(|item| add(file, item, documents));
    }
    documents.push(Document { file: file.to_owned(), value });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let mut stdin = text.as_bytes();
        let documents = documents(&["-".into()], &mut stdin).unwrap();
        documents.iter().map(|d| d.value["metadata"]["name"].as_str().unwrap().to_owned()).collect()
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
            assert!(documents(&["-".into()], &mut text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn error_names_the_missing_file() {
        let error = documents(&["/nonexistent/pools.yaml".into()], &mut std::io::empty()).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/pools.yaml"));
    }
}
