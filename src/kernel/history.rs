//! What was run, for `history_request`: kept in memory and appended to one file of JSON lines.
//!
//! The file is `glassbox/history.jsonl` in the user's data folder, or `$GLASSBOX_HISTORY` (an empty value keeps nothing
//! on disk), which only the user can read. Each cell is one line written at once, so kernels that run side by side do not mix theirs.
//! A session is named by the second it started: later sessions have larger numbers.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::wire::{Request, log};
use crate::{private, regular};

/// Beyond this size the older half of the file is dropped when a kernel starts.
const LARGEST_FILE: u64 = 8 << 20;
/// Longest output kept with a cell, in bytes.
const LONGEST_OUTPUT: usize = 4096;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    session: u64,
    line: usize,
    input: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

/// The cells of this session and of those before.
#[derive(Debug)]
pub struct History {
    session: u64,
    entries: Vec<Entry>,
    file: Option<PathBuf>,
    /// How many of the last entries are not in the file yet, because it could not be written.
    unsaved: usize,
}

impl History {
    /// Opens the user's history; without a usable file the history lasts as long as the kernel.
    pub fn open() -> History {
        let session = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let file = match std::env::var_os("GLASSBOX_HISTORY") {
            Some(path) if path.is_empty() => None,
            Some(path) => Some(PathBuf::from(path)),
            None => dirs::data_dir().map(|data| data.join("glassbox").join("history.jsonl")),
        };
        History::with_file(session, file)
    }

    fn with_file(session: u64, file: Option<PathBuf>) -> History {
        let mut history = History {
            session,
            entries: Vec::new(),
            file,
            unsaved: 0,
        };
        if let Some(path) = &history.file {
            history.entries = load(path);
        }
        history
    }

    /// Remembers a cell that was run as `In [line]`.
    pub fn add(&mut self, line: usize, input: &str, output: Option<&str>) {
        let output = output.map(|text| text[..text.floor_char_boundary(LONGEST_OUTPUT)].to_owned());
        self.entries.push(Entry {
            session: self.session,
            line,
            input: input.to_owned(),
            output,
        });
        self.unsaved += 1;
        let Some(path) = &self.file else { return };
        let unsaved = self.entries.len().saturating_sub(self.unsaved);
        let again = self.unsaved > 1;
        match append(path, &self.entries[unsaved..], again) {
            Ok(()) => self.unsaved = 0,
            // Said once: a disk that is full may have room again later.
            Err(error) if !again => log(&format!(
                "{}: {error}; the history stays in memory until it can be written",
                path.display()
            )),
            Err(_) => {}
        }
    }

    /// The content of `history_reply`.
    pub fn answer(&self, request: &Request) -> Value {
        let found: Vec<&Entry> = match request.text("hist_access_type") {
            "range" => self.range(request),
            "search" => self.search(request),
            _ => last(self.entries.iter().collect(), request.integer("n")),
        };
        let with_output = request.flag("output", false);
        let rows = found.into_iter().map(|entry| {
            if with_output {
                json!([entry.session, entry.line, [entry.input, entry.output]])
            } else {
                json!([entry.session, entry.line, entry.input])
            }
        });
        json!({ "status": "ok", "history": rows.collect::<Vec<_>>() })
    }

    /// Lines `start..stop` of one session: 0 or none is this one, −1 the one before.
    fn range(&self, request: &Request) -> Vec<&Entry> {
        let session = match request.integer("session").unwrap_or(0) {
            0 => Some(self.session),
            back if back < 0 => self.session_before(back.unsigned_abs()),
            number => u64::try_from(number).ok(),
        };
        let start = request.integer("start").unwrap_or(1);
        let stop = request.integer("stop").unwrap_or(i64::MAX);
        let inside =
            |line: usize| i64::try_from(line).is_ok_and(|line| (start..stop).contains(&line));
        self.entries
            .iter()
            .filter(|e| Some(e.session) == session && inside(e.line))
            .collect()
    }

    fn session_before(&self, back: u64) -> Option<u64> {
        let mut earlier: Vec<u64> = self
            .entries
            .iter()
            .map(|e| e.session)
            .filter(|s| *s < self.session)
            .collect();
        earlier.sort_unstable();
        earlier.dedup();
        let index = earlier.len().checked_sub(usize::try_from(back).ok()?)?;
        earlier.get(index).copied()
    }

    /// Cells that a glob pattern (`*`, `?`) matches as a whole; with `unique` the last of equal ones.
    fn search(&self, request: &Request) -> Vec<&Entry> {
        let pattern: Vec<char> = request.text("pattern").chars().collect();
        let matches = |e: &&Entry| glob(&pattern, &e.input.chars().collect::<Vec<_>>());
        let mut found: Vec<&Entry> = self.entries.iter().filter(matches).collect();
        if request.flag("unique", false) {
            let mut seen = std::collections::HashSet::new();
            found.reverse();
            found.retain(|e| seen.insert(e.input.as_str()));
            found.reverse();
        }
        last(found, request.integer("n"))
    }
}

fn last(mut entries: Vec<&Entry>, n: Option<i64>) -> Vec<&Entry> {
    let n = n
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX);
    entries.drain(..entries.len().saturating_sub(n));
    entries
}

/// Whether `pattern` covers all of `text`; linear in practice, at worst their product.
fn glob(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None; // the last `*` and how far it reaches
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, reach)) => {
                    star = Some((at, reach + 1));
                    p = at + 1;
                    t = reach + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Appends entries; `again` if the attempt before this one failed and may have left the beginning of a line.
fn append(path: &std::path::Path, entries: &[Entry], again: bool) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        private::make_folders(folder)?;
    }
    let mut lines = String::new();
    if again {
        lines.push('\n');
    }
    for entry in entries {
        lines += &serde_json::to_string(entry)?;
        lines.push('\n');
    }
    private::append(path)?.write_all(lines.as_bytes())
}

/// Reads what can be read; a line cut short by a crash or a full disk is skipped.
fn load(path: &std::path::Path) -> Vec<Entry> {
    // A pipe would hold the kernel up, and some devices have no end.
    let Ok(bytes) = regular::read(path, u64::MAX) else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if bytes.len() as u64 > LARGEST_FILE {
        lines.drain(..lines.len() / 2);
        // A failure leaves the file long, which the next start sees again.
        let shorter = path.with_extension("jsonl.new");
        let _ = fs::remove_file(&shorter);
        let _ = private::append(&shorter)
            .and_then(|mut file| file.write_all((lines.join("\n") + "\n").as_bytes()))
            .and_then(|()| fs::rename(&shorter, path));
    }
    lines
        .into_iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Entry, History, glob};

    fn matches(pattern: &str, text: &str) -> bool {
        glob(
            &pattern.chars().collect::<Vec<_>>(),
            &text.chars().collect::<Vec<_>>(),
        )
    }

    #[test]
    fn globs_cover_the_whole_text() {
        assert!(matches("1?+?1", "1 + 1"));
        assert!(matches("let*é*;", "let x = \"é\";"));
        assert!(matches("*", ""));
        assert!(!matches("1+1", "1+1;"));
        assert!(!matches("?", ""));
    }

    #[test]
    fn what_could_not_be_written_is_written_later() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("below").join("history.jsonl");
        // A file where the folder should be.
        std::fs::write(folder.path().join("below"), "")?;
        let mut first = History::with_file(7, Some(file.clone()));
        first.add(1, "a", None);
        first.add(2, "b", None);
        std::fs::remove_file(folder.path().join("below"))?;
        first.add(3, "c", None);
        first.add(4, "d", None);
        let second = History::with_file(9, Some(file));
        let inputs: Vec<&str> = second.entries.iter().map(|e| e.input.as_str()).collect();
        assert_eq!(inputs, ["a", "b", "c", "d"]);
        Ok(())
    }

    #[test]
    fn a_later_session_reads_what_an_earlier_one_wrote_and_skips_a_torn_line() -> std::io::Result<()>
    {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("below").join("history.jsonl");
        let mut first = History::with_file(7, Some(file.clone()));
        first.add(1, "let a = \"zwei\nZeilen\";", None);
        first.add(2, "a", Some("\"zwei\\nZeilen\""));
        let torn = std::fs::read_to_string(&file)? + "{\"session\":7,\"li\n";
        std::fs::write(&file, torn)?;
        let second = History::with_file(9, Some(file));
        let inputs: Vec<&str> = second
            .entries
            .iter()
            .map(|e: &Entry| e.input.as_str())
            .collect();
        assert_eq!(inputs, ["let a = \"zwei\nZeilen\";", "a"]);
        assert_eq!(second.session_before(1), Some(7));
        assert_eq!(second.session_before(2), None);
        Ok(())
    }
}
