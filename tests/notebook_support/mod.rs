//! A notebook of the series as a reader runs it: the built binary executes it, and what it leaves can be asked for.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Where the series lies.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("notebooks")
}

/// `glassbox run FILE ARGUMENTS…`, leaving the executed notebook and its page in `out`.
pub fn execute(
    file: &Path,
    out: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("run")
        .arg(file)
        .args(["--html", "--timeout", "900", "--output"])
        .arg(out)
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// Everything that the command said.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// An executed notebook.
pub struct Executed {
    notebook: Value,
    page: String,
}

impl Executed {
    /// Runs a notebook of the series to its end, or fails with what the command said.
    pub fn of(name: &str, arguments: &[&str]) -> Self {
        Self::run(&folder().join(name), arguments)
    }

    /// As [`Executed::of`], with every answer to an exercise (a hidden block of Rust) as a cell of its own, right behind
    /// the exercise.
    pub fn with_answers(name: &str, arguments: &[&str]) -> Self {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        let mut notebook: Value = serde_json::from_str(&text).unwrap();
        let mut cells = Vec::new();
        let mut answers = 0;
        for cell in notebook["cells"].as_array().unwrap() {
            cells.push(cell.clone());
            if cell["cell_type"] != "markdown" {
                continue;
            }
            for block in text_of(&cell["source"]).split("```rust\n").skip(1) {
                answers += 1;
                cells.push(json!({
                    "cell_type": "code", "id": format!("answer-{answers}"), "metadata": {},
                    "execution_count": null, "outputs": [],
                    "source": block.split("```").next().unwrap(),
                }));
            }
        }
        assert!(answers >= 3, "{name} has {answers} exercises with answers");
        notebook["cells"] = cells.into();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, notebook.to_string()).unwrap();
        Self::run(&file, arguments)
    }

    fn run(file: &Path, arguments: &[&str]) -> Self {
        let out = tempfile::tempdir().unwrap();
        let output = execute(file, out.path(), arguments, &[]);
        assert!(
            output.status.success(),
            "{} failed:\n{}",
            file.display(),
            said(&output)
        );
        let left = out.path().join(file.file_name().unwrap());
        let text = std::fs::read_to_string(&left).unwrap();
        Self {
            notebook: serde_json::from_str(&text).unwrap(),
            page: std::fs::read_to_string(left.with_extension("html")).unwrap(),
        }
    }

    /// The page of its own that the run left.
    pub fn page(&self) -> &str {
        &self.page
    }

    fn outputs(&self) -> impl Iterator<Item = &Value> {
        let cells = self.notebook["cells"].as_array().unwrap();
        cells
            .iter()
            .filter_map(|cell| cell["outputs"].as_array())
            .flatten()
    }

    /// Every output under this MIME type, in order.
    pub fn shown(&self, mime: &str) -> Vec<String> {
        self.outputs()
            .filter_map(|output| output["data"].get(mime))
            .map(text_of)
            .collect()
    }

    /// Whether one display has all of these pieces in its HTML.
    pub fn shows(&self, pieces: &[&str]) -> bool {
        let pages = self.shown("text/html");
        pages
            .iter()
            .any(|page| pieces.iter().all(|piece| page.contains(piece)))
    }

    /// What the cells printed.
    pub fn printed(&self) -> String {
        self.outputs()
            .map(|output| text_of(&output["text"]))
            .collect()
    }

    /// The first printed line that begins like this.
    pub fn line(&self, start: &str) -> String {
        let printed = self.printed();
        let line = printed.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no line begins with “{start}” in:\n{printed}"))
            .to_owned()
    }

    /// The numbers of [`Executed::line`] behind its start, in order.
    pub fn numbers(&self, start: &str) -> Vec<f64> {
        let line = self.line(start);
        let rest = &line[start.len()..];
        rest.split(|c: char| !(c.is_ascii_digit() || ".e-".contains(c)))
            .filter_map(|word| word.trim_end_matches(['.', '-']).parse().ok())
            .collect()
    }

    /// Fails if the page takes anything from elsewhere.
    pub fn assert_self_contained(&self) {
        for outside in ["src=\"http", "href=\"http://", "<script src", "@import"] {
            assert!(
                !self.page.contains(outside),
                "the page is not self-contained: {outside}"
            );
        }
    }
}

/// A text of a notebook: one string, or a list of lines.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}
