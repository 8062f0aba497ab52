//! Files of interesting inputs, one folder per target.

use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The inputs of one target.
#[derive(Debug)]
pub struct Corpus {
    folder: PathBuf,
    entries: Vec<(PathBuf, Vec<u8>)>,
}

/// Returns the folder of a target.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

impl Corpus {
    /// Reads the folder of a target; a folder that does not exist is an empty corpus.
    ///
    /// # Panics
    /// If a file cannot be read, or a `.hex` file is not hexadecimal.
    #[must_use]
    pub fn load(name: &str) -> Self {
        let folder = folder(name);
        let mut paths: Vec<PathBuf> =
            fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let entries = paths.into_iter().map(|path| {
            let content = fs::read(&path).unwrap();
            let input = if path.extension().is_some_and(|extension| extension == "hex") {
                parse_hex(&String::from_utf8(content).unwrap())
                    .unwrap_or_else(|| panic!("{} is not hexadecimal", path.display()))
            } else {
                content
            };
            (path, input)
        });
        Self { entries: entries.collect(), folder }
    }

    /// Returns each file with its octets, sorted by name.
    #[must_use]
    pub fn entries(&self) -> &[(PathBuf, Vec<u8>)] {
        &self.entries
    }

    /// Writes an input that fails and returns its file.
    pub(crate) fn save_failure(&self, input: &[u8]) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let path = self.folder.join(format!("failure-{:016x}.hex", hasher.finish()));
        fs::create_dir_all(&self.folder).unwrap();
        fs::write(&path, format_hex(input)).unwrap();
        path
    }
}

/// Parses pairs of hexadecimal digits; white space and `#` comments are ignored.
fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: Vec<u8> = lines
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn format_hex(input: &[u8]) -> String {
    let mut text = String::new();
    for line in input.chunks(32) {
        for octet in line {
            let _ = write!(text, "{octet:02x}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_with_comments_and_spaces_is_parsed() {
        assert_eq!(parse_hex("00 ff # header\n1A2b"), Some(vec![0, 255, 0x1a, 0x2b]));
        assert_eq!(parse_hex("0"), None);
        assert_eq!(parse_hex("zz"), None);
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(parse_hex(&format_hex(&all)), Some(all));
    }
}
