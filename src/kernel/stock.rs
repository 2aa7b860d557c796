//! Plain evcxr_jupyter with the prelude preloaded, for those who want evcxr's own behaviour.
//!
//! evcxr is configured from outside, by the files and variables that it knows, and links cells to the same shared library
//! as our own sessions do:
//! ```text
//! init.evcxr   :build_env CARGO_ENCODED_RUSTFLAGS=…    rustc finds the library under the name `prelude_library`
//!              :dep glassbox-stock = { path = … }      a package whose library is called `glassbox_prelude`
//! prelude.rs   use glassbox_prelude::prelude::*;
//! ```
//! That package is one line. Compiled with the flags it passes the shared library on; for rust-analyzer, which does not get
//! the flags, it passes on the prelude's source.
//!
//! evcxr answers no client before its start-up cells ran; therefore [`prepare`] does the first, longest start at install
//! time. A working folder serves one session at a time: `slot-0`, `slot-1`, … are locked by the sessions that use them.
//! evcxr itself is in the analyst's program: `glassbox stock-kernel --control_file F`, which the kernelspec names, becomes
//! `glassbox-analyst --control_file F`.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use glassbox_analyst_wire::PREPARE_STOCK;
pub(super) use glassbox_analyst_wire::SERVE_STOCK as SERVE;

use super::wire::log;
use crate::session::{SharedPrelude, StartEvent, analyst_ready, shared_prelude};
use crate::{private, programs};

/// The subcommand in the kernelspec.
pub(super) const SUBCOMMAND: &str = "stock-kernel";
/// More sessions than this at once is taken for an error.
const SLOTS: usize = 16;
/// The name under which the flags show the shared library to rustc.
const LIBRARY: &str = "prelude_library";
/// Set for rustc by the flags, and by nothing else.
const COMPILED: &str = "glassbox_compiled";

/// Plays this process's part in a stock kernel if it was started for one; `None` for every other command line.
/// `main` calls this before it parses the command line.
pub fn role() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first()? != SUBCOMMAND {
        return None;
    }
    let result = match arguments.get(1..) {
        Some([serve, file]) if serve == SERVE => run(Path::new(file)),
        _ => Err(anyhow::anyhow!(
            "usage: glassbox {SUBCOMMAND} {SERVE} FILE (Jupyter runs this)"
        )),
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
    let mut command = configured(&mut |_| {})?;
    // Returns only if it fails.
    Err(command.arg(SERVE).arg(control_file).exec()).context("the stock kernel does not start")
}

/// Starts a session once, so that the next one finds everything done: minutes if the prelude has to be built, else seconds.
///
/// # Errors
/// What cargo said, if the prelude does not build, and what evcxr said, if it does not start with it.
pub fn prepare(progress: &mut dyn FnMut(StartEvent)) -> Result<()> {
    let mut command = configured(progress)?;
    progress(StartEvent::LoadingPrelude);
    let output = command
        .arg(PREPARE_STOCK)
        .stdin(Stdio::null())
        .output()
        .context("the stock kernel does not start")?;
    if !output.status.success() {
        bail!(
            "evcxr does not start with the prelude:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

/// The analyst with evcxr's environment, holding the lock of a free slot for as long as it lives.
fn configured(progress: &mut dyn FnMut(StartEvent)) -> Result<Command> {
    let analyst = analyst_ready(progress)
        .map_err(anyhow::Error::msg)
        .context("the program with evcxr cannot be built")?;
    let prelude = shared_prelude(progress)?;
    let base = prelude.cache.with_file_name("stock");
    let (slot, lock) = free_slot(&base)?;
    let configuration = slot.join("configuration");
    write_configuration(&configuration, &slot.join("package"), &prelude).with_context(|| {
        format!(
            "the stock kernel's configuration cannot be written to {}",
            slot.display()
        )
    })?;
    keep_across_exec(&lock)?;
    // The lock is the descriptor's, which this process and the one it starts keep open until they end.
    std::mem::forget(lock);
    let mut command = Command::new(analyst);
    // evcxr asks rustup in the notebook's folder, whose files it would obey.
    if let Some(sysroot) = prelude.rustc.parent().and_then(Path::parent) {
        // Those that rustup installed it knows by name, others by path.
        let named = sysroot
            .parent()
            .is_some_and(|folder| folder.ends_with("toolchains"));
        let name = sysroot.file_name().filter(|_| named);
        command.env("RUSTUP_TOOLCHAIN", name.unwrap_or(sysroot.as_os_str()));
    }
    programs::with_users_umask(&mut command);
    command
        .env("EVCXR_CONFIG_DIR", configuration)
        .env("EVCXR_TMPDIR", slot.join("cells"))
        .env(prelude.standard_library_variable, &prelude.standard_library)
        .env("LD_LIBRARY_PATH", library_path(&prelude))
        // evcxr_jupyter renews the kernelspec `rust` of an older installation by itself: not with our program in it.
        .env("JUPYTER_PATH", slot.join("no-kernels"));
    Ok(command)
}

/// Where the process that runs cells finds the prelude and the standard library.
fn library_path(prelude: &SharedPrelude) -> OsString {
    let before = std::env::var_os("LD_LIBRARY_PATH");
    let own = prelude.library.parent().map(Path::to_owned);
    let folders = own
        .into_iter()
        .chain([prelude.libdir.clone()])
        .chain(before.iter().flat_map(std::env::split_paths));
    std::env::join_paths(folders).unwrap_or_default()
}

fn free_slot(base: &Path) -> Result<(PathBuf, File)> {
    if let Ok(Err(exposed)) = private::checked(base.parent().unwrap_or(base)) {
        bail!("{exposed}: what others put there would run as you");
    }
    private::make_folders(base).with_context(|| format!("{} cannot be made", base.display()))?;
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

/// Writes what evcxr reads at its start to `folder`, and the package that its cells depend on to `package`.
fn write_configuration(folder: &Path, package: &Path, prelude: &SharedPrelude) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::create_dir_all(package)?;
    // A TOML basic string is written like a JSON one.
    let shown = serde_json::to_string(&prelude.shown)?;
    let manifest = format!(
        "[package]\nname = \"glassbox-stock\"\nversion = \"{version}\"\nedition = \"2024\"\n\n\
         [lib]\nname = \"glassbox_prelude\"\npath = \"lib.rs\"\n\n\
         [target.'cfg(not({COMPILED}))'.dependencies]\nshown = {{ path = {shown}, package = \"glassbox-prelude\" }}\n\n\
         [lints.rust]\nunexpected_cfgs = \"allow\"\n",
        version = env!("CARGO_PKG_VERSION"),
    );
    fs::write(package.join("Cargo.toml"), manifest)?;
    let library = format!(
        "#[cfg({COMPILED})]\npub use {LIBRARY}::*;\n#[cfg(not({COMPILED}))]\npub use shown::*;\n"
    );
    fs::write(package.join("lib.rs"), library)?;

    fs::write(folder.join("evcxr.toml"), "[evcxr]\nopt_level = \"0\"\n")?;
    let init = format!(
        ":build_env CARGO_ENCODED_RUSTFLAGS={flags}\n:dep glassbox-stock = {{ path = {path} }}\n",
        flags = flags(prelude)?,
        path = serde_json::to_string(package)?,
    );
    fs::write(folder.join("init.evcxr"), init)?;
    fs::write(
        folder.join("prelude.rs"),
        "use glassbox_prelude::prelude::*;\n",
    )?;
    Ok(())
}

/// The flags with which rustc finds the shared library, as cargo wants them in one variable.
fn flags(prelude: &SharedPrelude) -> Result<String> {
    let text = |path: &Path| match path.to_str() {
        Some(text) if !text.contains(['\u{1f}', '\n']) => Ok(text.to_owned()),
        _ => bail!(
            "{} cannot be used by the stock kernel: name another folder with GLASSBOX_CACHE_DIR",
            path.display()
        ),
    };
    let folder = prelude.library.parent().unwrap_or(&prelude.library);
    Ok([
        // evcxr's own, which ours replace.
        "-Cprefer-dynamic".to_owned(),
        format!("--cfg={COMPILED}"),
        format!("--extern={LIBRARY}={}", text(&prelude.library)?),
        format!("-Ldependency={}", text(folder)?),
        format!("-Ldependency={}", text(&prelude.dependencies)?),
    ]
    .join("\u{1f}"))
}

fn keep_across_exec(lock: &File) -> std::io::Result<()> {
    // SAFETY: the descriptor is open, F_SETFD takes a flag word and touches no memory.
    match unsafe { libc::fcntl(lock.as_raw_fd(), libc::F_SETFD, 0) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}
