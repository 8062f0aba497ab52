//! `kubectl get`, with what differs between two runs replaced.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `tests/tools.sh` installs kubectl.
pub(crate) const PLACE: &str = "target/tools/bin";

/// The columns with random values or ages, and what is shown instead.
const REPLACED: [(&str, &str); 3] = [("CLUSTER-IP", "<ip>"), ("PORT(S)", "80:<port>/TCP"), ("AGE", "<age>")];

/// Returns the program, if it is installed.
pub(crate) fn path() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Some(repository.join(PLACE).join("kubectl")).filter(|path| path.exists())
}

/// Runs `kubectl get` with these arguments.
pub(crate) fn get(kubectl: &Path, kubeconfig: &Path, arguments: &str) -> String {
    let output = Command::new(kubectl)
        .arg("get")
        .args(arguments.split(' '))
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECACHEDIR", kubeconfig.with_extension("cache"))
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(kubeconfig.with_extension("cache"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, error) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success() && !out.is_empty() || error.starts_with("No resources"), "{out}{error}");
    normalized(&out) + &error
}

/// Replaces the values of some columns of a table, and aligns it again.
fn normalized(table: &str) -> String {
    let Some(header) = table.lines().next() else { return String::new() };
    let starts: Vec<usize> = header
        .char_indices()
        .filter(|(at, c)| *c != ' ' && (*at == 0 || header[..*at].ends_with(' ')))
        .map(|(at, _)| at)
        .collect();
    let cells = |line: &str| -> Vec<String> {
        let ends = starts.iter().skip(1).copied().chain([line.len()]);
        let columns = starts.iter().copied().zip(ends);
        columns.map(|(start, end)| line.get(start..end).unwrap_or_default().trim().to_owned()).collect()
    };
    let names = cells(header);
    let mut rows: Vec<Vec<String>> = table.lines().map(cells).collect();
    for row in rows.iter_mut().skip(1) {
        for (cell, name) in row.iter_mut().zip(&names) {
            // The port 443 of the Service `kubernetes` is not random.
            let is_random = *name != "PORT(S)" || cell.starts_with("80:");
            if let Some((_, shown)) = REPLACED.iter().find(|(column, _)| column == name)
                && is_random
            {
                *cell = (*shown).to_owned();
            }
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[test]
fn random_columns_are_replaced_and_the_table_stays_aligned() {
    let table = "NAME   CLUSTER-IP     EXTERNAL-IP   AGE\na      10.96.1.2      <pending>     3s\n\
                 bc     10.96.111.12   192.0.2.1     3s\n";
    let expected = "NAME   CLUSTER-IP   EXTERNAL-IP   AGE\na      <ip>         <pending>     <age>\n\
                    bc     <ip>         192.0.2.1     <age>\n";
    assert_eq!(normalized(table), expected);
}
