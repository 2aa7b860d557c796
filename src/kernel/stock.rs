//! Plain evcxr_jupyter with the prelude preloaded, for those who want evcxr's own behaviour.
//!
//! evcxr is configured from outside: a folder with `evcxr.toml` and `init.evcxr` (which adds the prelude as a path
//! dependency and imports it), and a working folder that lasts, so that the prelude is compiled once and not per session.
//! evcxr answers no client before its start-up cells ran; therefore [`prepare`] does the long build at install time.
//!
//! A working folder serves one session at a time: `slot-0`, `slot-1`, … are locked by the sessions that use them.
//! evcxr_jupyter reads its own arguments, so `glassbox stock-kernel --control_file F`, which the kernelspec names,
//! executes this program again as `glassbox --control_file F`; [`role`] recognises both.

use std::fs::{self, File, TryLockError};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use super::wire::log;

/// The subcommand in the kernelspec.
pub(super) const SUBCOMMAND: &str = "stock-kernel";
/// The argument by which evcxr_jupyter knows that it is to serve a connection file.
pub(super) const SERVE: &str = "--control_file";
/// The argument of the process that [`prepare`] starts.
const PREPARE: &str = "--prepare-stock-kernel";
/// More sessions than this at once is taken for an error.
const SLOTS: usize = 16;

/// Plays this process's part in a stock kernel if it was started for one; `None` for every other command line.
/// `main` calls this before it parses the command line.
pub fn role() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // evcxr starts its child as this program without arguments, and as a wrapper of rustc with rustc's.
    if arguments.is_empty() || std::env::var_os("EVCXR_RUSTC_WRAPPER").is_some() {
        evcxr::runtime_hook();
    }
    let result = match arguments.first()?.as_str() {
        SUBCOMMAND => match arguments.get(1..) {
            Some([serve, file]) if serve == SERVE => run(Path::new(file)),
            _ => Err(anyhow::anyhow!(
                "usage: glassbox {SUBCOMMAND} {SERVE} FILE (Jupyter runs this)"
            )),
        },
        SERVE => evcxr_jupyter::main(),
        PREPARE => load_once(),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("stock: {error:#}"));
            ExitCode::FAILURE
        }
    })
}

/// Serves `control_file` with evcxr_jupyter; replaces this process.
fn run(control_file: &Path) -> Result<()> {
    let mut command = configured()?;
    // Returns only if it fails.
    Err(command.arg(SERVE).arg(control_file).exec()).context("the stock kernel does not start")
}

/// Builds the prelude as the stock kernel will need it: minutes the first time, seconds later.
///
/// # Errors
/// What cargo said, if the prelude does not build.
pub fn prepare() -> Result<()> {
    let mut command = configured()?;
    let output = command
        .arg(PREPARE)
        .stdin(Stdio::null())
        .output()
        .context("the stock kernel does not start")?;
    if !output.status.success() {
        bail!(
            "the prelude does not build for the stock kernel:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

/// What a new session does before it answers, once, so that the next one finds it done.
fn load_once() -> Result<()> {
    let (mut context, _outputs) = evcxr::CommandContext::new()?;
    context.execute(":load_config --quiet")?;
    Ok(())
}

/// This program with evcxr's environment, holding the lock of a free slot for as long as it lives.
fn configured() -> Result<Command> {
    let (cache, prelude) = crate::session::cache_and_prelude()?;
    let base = cache.with_file_name("stock");
    let (slot, lock) = free_slot(&base)?;
    write_configuration(&base, &slot, &prelude).with_context(|| {
        format!(
            "the stock kernel's configuration cannot be written to {}",
            base.display()
        )
    })?;
    keep_across_exec(&lock)?;
    // The lock is the descriptor's, which this process and the one it starts keep open until they end.
    std::mem::forget(lock);
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env("EVCXR_CONFIG_DIR", &base)
        .env("EVCXR_TMPDIR", &slot)
        // evcxr_jupyter renews the kernelspec `rust` of an older installation by itself: not with our program in it.
        .env("JUPYTER_PATH", base.join("no-kernels"));
    Ok(command)
}

fn free_slot(base: &Path) -> Result<(PathBuf, File)> {
    fs::create_dir_all(base).with_context(|| format!("{} cannot be made", base.display()))?;
    for number in 0..SLOTS {
        let slot = base.join(format!("slot-{number}"));
        let lock = File::create(slot.with_extension("lock"))?;
        match lock.try_lock() {
            Ok(()) => return Ok((slot, lock)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).context("the slot cannot be locked");
            }
        }
    }
    bail!(
        "{SLOTS} stock kernels run already: end one, or remove {}",
        base.display()
    )
}

fn write_configuration(base: &Path, slot: &Path, prelude: &Path) -> Result<()> {
    fs::create_dir_all(slot)?;
    fs::write(base.join("evcxr.toml"), "[evcxr]\nopt_level = \"2\"\n")?;
    let path = serde_json::to_string(prelude)?; // a TOML basic string is written like a JSON one
    let init =
        format!(":dep glassbox-prelude = {{ path = {path} }}\nuse glassbox_prelude::prelude::*;\n");
    fs::write(base.join("init.evcxr"), init)?;
    // With the prelude's own lock file the same versions are built and no index has to be asked.
    let locked = slot.join("Cargo.lock");
    if !locked.exists() {
        let candidates = [
            prelude.join("Cargo.lock"),
            prelude.join("..").join("Cargo.lock"),
        ];
        if let Some(found) = candidates.iter().find(|path| path.exists()) {
            fs::copy(found, locked)?;
        }
    }
    Ok(())
}

fn keep_across_exec(lock: &File) -> std::io::Result<()> {
    // SAFETY: the descriptor is open, F_SETFD takes a flag word and touches no memory.
    match unsafe { libc::fcntl(lock.as_raw_fd(), libc::F_SETFD, 0) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}
