//! Prints the CustomResourceDefinitions, or writes them into a directory, one file for each kind.

use std::process::ExitCode;

use fairlead_crds::manifests;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [] => print(),
        [folder] if !folder.starts_with('-') => write(folder),
        _ => {
            eprintln!("usage: fairlead-crdgen [FOLDER]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fairlead-crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print() -> Result<(), Box<dyn std::error::Error>> {
    for (name, text) in manifests::files()? {
        if name != "kustomization.yaml" {
            println!("---\n{}", text.trim_end());
        }
    }
    Ok(())
}

fn write(folder: &str) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in manifests::files()? {
        std::fs::write(std::path::Path::new(folder).join(name), text)?;
    }
    Ok(())
}
