//! The Python with other libraries that read what we save, shared by the tests that want it.
//!
//! It is looked for in `GLASSBOX_PEER_VENV`, else in `target/peer-venv`, which `scripts/compare_with_torch.sh` uses too. With `CI=true` a
//! missing one is made, and failing to is a failure; elsewhere `None`, and the test says that it was not run.
//!
//! ```text
//! requirements.txt (torch, PEFT, transformers 4: the names of the hub's ViT) ─► peer-venv
//! requirements-transformers5.txt (the families and layouts of today)         ─► peer-venv/transformers5, in front of it
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

type Found<T> = Result<Option<T>, Box<dyn std::error::Error>>;

/// What a test says where there is none.
pub const MISSING: &str =
    "needs PyTorch and PEFT (5.4 GB); with CI=true they are installed into target/peer-venv";

/// Scripts and lists of packages.
pub fn peer_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/peer")
}

/// The Python with the packages of `requirements.txt`.
pub fn environment() -> Found<PathBuf> {
    // Tests of one program run side by side: the first makes it.
    static MADE: OnceLock<Result<Option<PathBuf>, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| make().map_err(|error| error.to_string()));
    Ok(made.clone()?)
}

/// A call of that Python with transformers 5, which GLASSBOX_PEER_VENV may hold itself.
#[allow(dead_code)] // not every program that shares this file has files for it
pub fn transformers_5() -> Found<Command> {
    let Some(python) = environment()? else {
        return Ok(None);
    };
    let mut command = Command::new(&python);
    let beside = python.with_file_name("../transformers5");
    if beside.is_dir() {
        let given = std::env::var_os("PYTHONPATH").unwrap_or_default();
        let folders = std::iter::once(beside).chain(std::env::split_paths(&given));
        command.env("PYTHONPATH", std::env::join_paths(folders)?);
    }
    // One thread, as many tests run at once.
    command.env("OMP_NUM_THREADS", "1");
    Ok(Some(command))
}

fn make() -> Found<PathBuf> {
    let ci = std::env::var("CI").as_deref() == Ok("true");
    let folder = match std::env::var_os("GLASSBOX_PEER_VENV") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peer-venv"),
    };
    let python = folder.join("bin/python");
    let ready = Command::new(&python)
        .args([
            "-c",
            "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ('torch', 'transformers', 'peft'))))",
        ])
        .status()
        .is_ok_and(|status| status.success());
    if ready || !ci {
        return Ok(ready.then_some(python));
    }
    succeed(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    // The larger list last: that the program finds torch says that all is there.
    let beside = folder.join("transformers5");
    let first = ["--target".as_ref(), beside.as_os_str()];
    install(&python, &first, "requirements-transformers5.txt")?;
    install(&python, &[], "requirements.txt")?;
    Ok(Some(python))
}

fn install(python: &Path, options: &[&std::ffi::OsStr], list: &str) -> Result<(), String> {
    // Without byte code: compiling all of torch's Python takes longer than importing what is used.
    succeed(
        Command::new(python)
            .args(["-m", "pip", "install", "--quiet", "--no-compile"])
            .args(options)
            .arg("--requirement")
            .arg(peer_folder().join(list)),
    )
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let failed = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{command:?} ended with {}:\n{failed}",
        output.status
    ))
}
