//! The vision half against numbers of the reference (transformers 4.57 and Pillow).
//!
//! Fixtures: `tests/fixtures` in the repository, or another folder of the same layout in `GLASSBOX_FIXTURES`.

#[path = "parity/images.rs"]
mod images;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// One comparison: the worst difference and what is allowed.
pub struct Row {
    group: &'static str,
    name: String,
    worst: f64,
    limit: f64,
}

impl Row {
    pub fn new(group: &'static str, name: &str, worst: f64, limit: f64) -> Row {
        Row {
            group,
            name: name.to_string(),
            worst,
            limit,
        }
    }

    fn passes(&self) -> bool {
        self.worst <= self.limit // false for NaN
    }
}

pub fn read_json(path: &Path) -> Result<Value, Box<dyn std::error::Error>> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn fixtures() -> PathBuf {
    match std::env::var_os("GLASSBOX_FIXTURES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures"),
    }
}

#[allow(clippy::print_stdout)] // the table is the test's product
fn settle(rows: &[Row]) -> Outcome {
    for row in rows {
        let mark = if row.passes() { "ok" } else { "FAIL" };
        println!(
            "{:8} {:48} {:>12.3e}  limit {:.1e}  {mark}",
            row.group, row.name, row.worst, row.limit
        );
    }
    let failed: Vec<&str> = rows
        .iter()
        .filter(|row| !row.passes())
        .map(|row| row.name.as_str())
        .collect();
    if rows.is_empty() || !failed.is_empty() {
        return Err(format!("{} comparisons, failed: {failed:?}", rows.len()).into());
    }
    Ok(())
}

#[test]
fn images_equal_pillow() -> Outcome {
    let mut rows = Vec::new();
    images::check(&fixtures(), &mut rows)?;
    settle(&rows)
}
