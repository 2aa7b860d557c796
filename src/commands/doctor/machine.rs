//! The machine: disk space, the GPU and its driver, and the weights that were downloaded.

use std::path::PathBuf;

use super::{Check, State, folder_from, output, size_of_tree};
use crate::figures::size;
use crate::programs;
use crate::session::{free_bytes, sessions_place};

/// Below this a build of the prelude does not fit.
const LEAST_SPACE: u64 = 500_000_000;
/// Below this it gets tight.
const SPACE: u64 = 3_000_000_000;

pub fn checks(features: &[String]) -> Vec<Check> {
    let cache = folder_from("GLASSBOX_CACHE_DIR")
        .or_else(dirs::cache_dir)
        .unwrap_or_else(std::env::temp_dir);
    let mut checks = vec![
        space(
            "disk: cache",
            cache,
            "free some, or set GLASSBOX_CACHE_DIR to another disk",
        ),
        match sessions_place() {
            Ok(place) => space(
                "disk: sessions",
                place,
                "free some, or set TMPDIR to a folder of your own on another disk",
            ),
            Err(error) => Check::other(
                "disk: sessions",
                State::Missing,
                error.to_string(),
                "see the message",
            ),
        },
        gpu(features.iter().any(|feature| feature == "cuda")),
    ];
    checks.push(weights());
    checks
}

fn space(name: &'static str, folder: PathBuf, advice: &str) -> Check {
    let existing = folder
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(&folder);
    match free_bytes(existing) {
        Ok(bytes) => {
            let found = format!("{} free in {}", size(bytes), folder.display());
            match bytes {
                b if b >= SPACE => Check::ok(name, found),
                b if b >= LEAST_SPACE => Check::other(name, State::Warning, found, advice),
                _ => Check::other(name, State::Missing, found, advice),
            }
        }
        Err(error) => Check::other(
            name,
            State::Warning,
            format!("{}: {error}", folder.display()),
            advice,
        ),
    }
}

fn gpu(wanted: bool) -> Check {
    let name = "GPU";
    let query = [
        "--query-gpu=name,driver_version,memory.total,compute_cap",
        "--format=csv,noheader",
    ];
    let listed = programs::find("nvidia-smi").and_then(|program| output(&program, &query));
    let toolkit = programs::find("nvcc").and_then(|program| output(&program, &["--version"]));
    let toolkit = toolkit
        .as_deref()
        .and_then(|text| text.lines().find(|line| line.contains("release")));
    match listed.filter(|text| !text.is_empty()) {
        Some(gpus) => {
            let gpus = gpus.lines().collect::<Vec<_>>().join("; ");
            match toolkit {
                Some(toolkit) => {
                    Check::ok(name, format!("{gpus}; CUDA toolkit: {}", toolkit.trim()))
                }
                None => Check::other(
                    name,
                    if wanted {
                        State::Missing
                    } else {
                        State::Warning
                    },
                    format!("{gpus}; no nvcc on PATH"),
                    "to use it, put the CUDA toolkit's nvcc on PATH (where none is installed, scripts/cuda.sh fetches it: \
                     eval \"$(scripts/cuda.sh env)\") and start with --features cuda",
                ),
            }
        }
        None => {
            let found = match driver() {
                true => "the NVIDIA driver library is there, but nvidia-smi lists no GPU",
                false => "no NVIDIA GPU found (no nvidia-smi, no libcuda)",
            };
            let state = if wanted {
                State::Missing
            } else {
                State::Absent
            };
            Check::other(
                name,
                state,
                found,
                "nothing: everything runs on the CPU; --features cuda needs an NVIDIA GPU",
            )
        }
    }
}

/// Whether the driver's library can be loaded.
fn driver() -> bool {
    // SAFETY: libcuda's initialisers do nothing but set up the library itself.
    unsafe { libloading::Library::new("libcuda.so.1") }.is_ok()
}

fn weights() -> Check {
    let name = "weights";
    let home = folder_from("HF_HOME")
        .or_else(|| dirs::home_dir().map(|home| home.join(".cache/huggingface")));
    let Some(hub) = folder_from("HF_HUB_CACHE").or_else(|| home.map(|home| home.join("hub")))
    else {
        return Check::other(
            name,
            State::Warning,
            "the home folder is not known",
            "set HF_HOME",
        );
    };
    let entries = std::fs::read_dir(&hub)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut models: Vec<String> = entries
        .filter_map(|entry| {
            let model = entry
                .file_name()
                .to_str()?
                .strip_prefix("models--")?
                .replace("--", "/");
            Some(format!("{model} ({})", size(size_of_tree(&entry.path()))))
        })
        .collect();
    models.sort();
    if models.is_empty() {
        return Check::other(
            name,
            State::Absent,
            format!("no models in {}", hub.display()),
            "nothing for the tiny model, which is built in; a cell that names a model on Hugging Face downloads it here",
        );
    }
    Check::ok(name, format!("{} in {}", models.join(", "), hub.display()))
}
