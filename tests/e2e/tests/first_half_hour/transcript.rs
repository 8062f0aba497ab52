//! A shell of the user: runs commands and records what they print, without what differs between two runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use fairlead_e2e::SOON;
use fairlead_lab::{Lab, binaries, wait_for};

/// The begin of the names of the pods of the controller.
const CONTROLLER: &str = "fairlead-controller-";

/// The recorded commands.
pub(crate) struct Transcript<'a> {
    lab: &'a Lab,
    /// The current folder of the user.
    folder: PathBuf,
    text: String,
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl<'a> Transcript<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        let folder = lab.dir().join("user");
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(repository().join("dist/install.yaml"), folder.join("install.yaml")).unwrap();
        Self { lab, folder, text: String::new() }
    }

    pub(crate) fn title(&mut self, title: &str) {
        self.text += &format!("\n## {title}\n");
    }

    /// Writes a file.
    pub(crate) fn file(&mut self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
        self.text += &format!("\n$ cat {name}\n{text}");
    }

    /// Writes a file and applies it.
    pub(crate) fn apply(&mut self, name: &str, text: &str) {
        self.file(name, text);
        self.once(&format!("kubectl apply -f {name}"), 0);
    }

    /// Runs a command once. It must exit with `status`.
    pub(crate) fn once(&mut self, line: &str, status: i32) {
        let (code, printed) = self.run(line);
        assert_eq!(code, Some(status), "{line}\n{printed}");
        self.record(line, &printed);
    }

    /// Runs a command until it exits with `status`, and prints all texts of `shown` and none of `absent`,
    /// twice in a row.
    pub(crate) fn until(&mut self, line: &str, status: i32, shown: &[&str], absent: &[&str]) {
        let mut before = String::new();
        let printed = wait_for(format!("{line} to print {shown:?}"), 2 * SOON, || {
            let (code, printed) = self.run(line);
            let is_shown = shown.iter().all(|text| printed.contains(text));
            let is_good =
                code == Some(status) && is_shown && !absent.iter().any(|text| printed.contains(text));
            let is_stable = std::mem::replace(&mut before, printed.clone()) == printed;
            if is_good && is_stable { Ok(printed) } else { Err(format!("exit status {code:?}\n{printed}")) }
        });
        let printed = printed.unwrap();
        self.record(line, &printed);
    }

    /// Fetches from a pod, as the client on the LAN.
    pub(crate) fn curl(&mut self, url: &str) {
        let netns = self.lab.client();
        let answer = wait_for(format!("an answer of {url}"), SOON, || {
            netns.netns().output(Command::new("curl").args(["-sS", "--max-time", "2", url]))
        });
        let answer = answer.unwrap();
        assert!(answer.starts_with("web-n"), "{answer}");
        self.record(&format!("curl {url}"), "<the answer of a pod>\n");
    }

    /// Compares what was recorded with `expected.txt`.
    pub(crate) fn compare(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/first_half_hour/expected.txt");
        let text = self.text.trim_start();
        if std::env::var_os("FAIRLEAD_UPDATE_EXPECTED").is_some() {
            std::fs::write(&file, text).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        let differing = text.lines().zip(expected.lines()).find(|(printed, expected)| printed != expected);
        assert!(text == expected, "{} differs, first {differing:#?}; all of it:\n{text}", file.display());
    }

    fn record(&mut self, line: &str, printed: &str) {
        self.text += &format!("\n$ {line}\n{printed}");
    }

    /// Returns the exit status, and what the command prints.
    fn run(&self, line: &str) -> (Option<i32>, String) {
        let mut words = line.split(' ');
        let program = match words.next().unwrap() {
            "kubectl" => {
                let path = repository().join("target/tools/bin/kubectl");
                assert!(path.exists(), "kubectl is not installed in target/tools; run: make setup");
                path
            }
            name => binaries::find(name).unwrap(),
        };
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(&self.folder)
            .env("KUBECONFIG", self.lab.api_server().unwrap().kubeconfig())
            .env("KUBECACHEDIR", self.lab.dir().join("kubectl-cache"))
            .env_remove("FAIRLEAD_NAMESPACE");
        let output = self.lab.network().control_plane.run(|| command.output()).unwrap().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), normalized(&String::from_utf8_lossy(&printed)))
    }
}

/// Replaces ages and random values, and aligns columns by two spaces. Leaves out the type of an invalid
/// value, which not every version of kube-apiserver prints.
fn normalized(text: &str) -> String {
    let text = text.replace("Invalid value: \"array\": ", "Invalid value: ");
    text.lines().map(|line| normalized_line(line) + "\n").collect()
}

fn normalized_line(line: &str) -> String {
    let content = line.trim_start();
    let mut result = line[..line.len() - content.len()].to_owned();
    let mut is_first = true;
    for cell in content.split("  ").map(str::trim).filter(|cell| !cell.is_empty()) {
        if !std::mem::take(&mut is_first) {
            result += "  ";
        }
        let words: Vec<String> = cell.split(' ').map(normalized_word).collect();
        result += &words.join(" ");
    }
    result
}

fn normalized_word(word: &str) -> String {
    let end = word.trim_end_matches([',', ';', ':', '.']);
    let rest = &word[end.len()..];
    if is_age(end) {
        format!("<age>{rest}")
    } else if let Some((name, _)) = end.split_once('_').filter(|(name, _)| name.starts_with(CONTROLLER)) {
        // The identity of a controller: its pod and a random part.
        format!("{name}_<id>{rest}")
    } else if end.starts_with("10.96.") {
        format!("<cluster-ip>{rest}")
    } else if let Some(port) = end.strip_prefix("80:").and_then(|port| port.strip_suffix("/TCP"))
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        format!("80:<port>/TCP{rest}")
    } else {
        word.to_owned()
    }
}

/// Returns true for `3h`, `2m10s`, …
fn is_age(word: &str) -> bool {
    let mut digits = 0;
    let mut units = 0;
    for byte in word.bytes() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b's' | b'm' | b'h' | b'd' if digits > 0 => (digits, units) = (0, units + 1),
            _ => return false,
        }
    }
    digits == 0 && units > 0
}

#[test]
fn ages_and_random_values_are_replaced() {
    for (line, expected) in [
        (
            "web   LoadBalancer   10.96.7.31   <pending>   80:30123/TCP   3m12s",
            "web  LoadBalancer  <cluster-ip>  <pending>  80:<port>/TCP  <age>",
        ),
        ("  leads for 3s; 2 of 2 pods", "  leads for <age>; 2 of 2 pods"),
        ("192.0.2.200 by n1 (L2)", "192.0.2.200 by n1 (L2)"),
    ] {
        assert_eq!(normalized_line(line), expected);
    }
}
