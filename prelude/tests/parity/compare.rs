//! Reading fixtures and keeping score.

use candle_core::{DType, Device, Tensor};
use glassbox_prelude::candle_core;
use glassbox_prelude::prelude::DeviceChoice;
use glassbox_prelude::serde_json::{self, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What a group ends with: an error means that it could not run, which counts as a failure.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Where the models compute: `GLASSBOX_DEVICE`, by default the CPU.
pub fn device() -> glassbox_prelude::Result<Device> {
    Device::chosen()
}

/// The fixture folder.
pub struct Fixtures(PathBuf);

impl Fixtures {
    /// `GLASSBOX_FIXTURES`, or the folder in the repository.
    pub fn find() -> Self {
        Self(match std::env::var_os("GLASSBOX_FIXTURES") {
            Some(dir) => dir.into(),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures"),
        })
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn tensors(&self, name: &str) -> Result<Tensors, Box<dyn std::error::Error>> {
        let path = self.path(name);
        let map = candle_core::safetensors::load(&path, &device()?)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Tensors {
            name: name.to_string(),
            map,
        })
    }

    pub fn json(&self, name: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let path = self.path(name);
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?)
    }
}

/// The tensors of one file.
pub struct Tensors {
    name: String,
    pub map: HashMap<String, Tensor>,
}

impl Tensors {
    pub fn get(&self, key: &str) -> Result<&Tensor, String> {
        self.map
            .get(key)
            .ok_or_else(|| format!("{} holds no {key}", self.name))
    }
}

/// Unsigned numbers of a JSON list.
pub fn numbers(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .map(|n| n as usize)
        .collect()
}

/// A number in JSON.
pub fn number(value: &Value) -> Result<f64, String> {
    value
        .as_f64()
        .ok_or_else(|| format!("expected a number, found {value}"))
}

/// Largest absolute difference; infinite for other shapes, for values that are not numbers and for those that can't be read. It is the CPU that
/// compares: a device that computes nothing must not find its own zeros alike.
pub fn difference(got: &Tensor, want: &Tensor) -> f64 {
    if got.dims() != want.dims() {
        return f64::INFINITY;
    }
    let values = |t: &Tensor| {
        t.to_device(&Device::Cpu)?
            .to_dtype(DType::F64)?
            .flatten_all()?
            .to_vec1::<f64>()
    };
    let (Ok(got), Ok(want)) = (values(got), values(want)) else {
        return f64::INFINITY;
    };
    let apart = got.iter().zip(&want).map(|(g, w)| (g - w).abs());
    let worst = apart.fold(0.0, |m: f64, d| if d > m || d.is_nan() { d } else { m });
    if worst.is_nan() { f64::INFINITY } else { worst }
}

/// The checks of one group.
pub struct Group {
    name: String,
    lines: Vec<Line>,
    not_run: Option<String>,
}

struct Line {
    what: String,
    worst: f64,
    tolerance: f64,
    note: String,
}

impl Group {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_string(),
            lines: Vec::new(),
            not_run: None,
        }
    }

    /// The group needs something that this machine lacks; it neither passes nor fails, and the table says so.
    pub fn not_run(&mut self, why: &str) {
        self.not_run = Some(why.to_string());
    }

    pub fn was_run(&self) -> bool {
        self.not_run.is_none()
    }

    /// A tensor must equal another within `tolerance`.
    pub fn close(&mut self, what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
        let worst = difference(got, want);
        let note = if got.dims() == want.dims() {
            String::new()
        } else {
            format!("shape {:?} instead of {:?}", got.dims(), want.dims())
        };
        self.push(what, worst, tolerance, note);
    }

    /// A measured difference must be at most `tolerance`.
    pub fn within(&mut self, what: &str, difference: f64, tolerance: f64) {
        self.push(what, difference, tolerance, String::new());
    }

    /// Two values must be equal.
    pub fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: &T, want: &T) {
        let note = if got == want {
            String::new()
        } else {
            format!("{got:?} instead of {want:?}")
        };
        self.push(
            what,
            if got == want { 0.0 } else { f64::INFINITY },
            0.0,
            note,
        );
    }

    /// A fact must hold.
    pub fn holds(&mut self, what: &str, fact: bool) {
        self.equal(what, &fact, &true);
    }

    pub fn fail(&mut self, why: &str) {
        self.push(why, f64::INFINITY, 0.0, String::new());
    }

    fn push(&mut self, what: &str, worst: f64, tolerance: f64, note: String) {
        self.lines.push(Line {
            what: what.to_string(),
            worst,
            tolerance,
            note,
        });
    }

    pub fn passed(&self) -> bool {
        self.was_run() && !self.lines.is_empty() && self.lines.iter().all(Line::passed)
    }

    pub fn print(&self) {
        println!("{}", self.name);
        if let Some(why) = &self.not_run {
            println!("  NOT RUN: {why}");
        }
        for line in &self.lines {
            let mark = if line.passed() { "ok" } else { "DIFFERS" };
            println!(
                "  {:<58} {:>10.2e} of {:>8.1e}  {mark} {}",
                line.what, line.worst, line.tolerance, line.note
            );
        }
        println!();
    }

    /// The line of the final table: the check that comes nearest to its tolerance.
    pub fn summary(&self) -> String {
        if let Some(why) = &self.not_run {
            return format!("{:<26} NOT RUN: {why}", self.name);
        }
        let share = |line: &Line| {
            if line.tolerance > 0.0 {
                line.worst / line.tolerance
            } else {
                line.worst
            }
        };
        let nearest = self
            .lines
            .iter()
            .max_by(|a, b| share(a).total_cmp(&share(b)));
        let (worst, tolerance) =
            nearest.map_or((f64::NAN, f64::NAN), |line| (line.worst, line.tolerance));
        let result = if self.passed() { "agrees" } else { "DIFFERS" };
        format!(
            "{:<26} {:>7} {worst:>12.2e} {tolerance:>12.1e}  {result}",
            self.name,
            self.lines.len()
        )
    }
}

impl Line {
    fn passed(&self) -> bool {
        self.worst <= self.tolerance
    }
}
