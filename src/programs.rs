//! Programs that Glassbox calls by itself: found where the user put them, and run where nobody else lies in wait.
//!
//! ```text
//! name ─ the absolute folders of PATH ─▶ program ─ from `/` ─▶ a call that sees no file of the notebook's folder
//!                                                 └─ cargo, rustc, rustup: without what would make them run something else
//! ```
//! cargo reads `.cargo/config.toml` and rustup `rust-toolchain.toml` in the folder that they are called from and in its parents, and both files
//! name programs to run. So they are called from the root, whose files are the system's, or from a folder of the session's own.
//!
//! What stays of the environment is the user's own choice and runs nothing else than they expect: `CARGO_HOME` with its configuration,
//! `RUSTUP_HOME`, `RUSTUP_TOOLCHAIN`, `CARGO_BUILD_JOBS`, registries, proxies and how the network is used, `CC` and what else compilers of C
//! look at, `LD_PRELOAD`. What goes stands in [`GONE`] and [`GONE_BEGINNINGS`].

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::private;

/// Where programs are called from.
const ROOT: &str = "/";
/// Variables that put another program in the place of the compiler, or change what it makes: sessions share what is built.
const GONE: [&str; 11] = [
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_BOOTSTRAP",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "CARGO_INCREMENTAL",
    "CARGO",
];
/// The same, by how they begin: settings of cargo that name wrappers, linkers, runners, flags, profiles, folders.
const GONE_BEGINNINGS: [&str; 6] = [
    "CARGO_BUILD_",
    "CARGO_TARGET_",
    "CARGO_PROFILE_",
    "CARGO_UNSTABLE_",
    "CARGO_ALIAS_",
    "__CARGO",
];
/// Of these, what stays.
const STAYS: [&str; 1] = ["CARGO_BUILD_JOBS"];

/// A program on PATH. Folders that are not absolute are passed over: they would lie in the notebook's folder.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    which::which_in(name, Some(path()), ROOT).ok()
}

/// A call of a program that sees nothing of the folder that this one works in.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(ROOT).env("PATH", path());
    command
}

/// A call of rustc or rustup.
pub(crate) fn rust(program: &Path) -> Command {
    let mut command = command(program);
    for (name, _) in std::env::vars_os() {
        if goes(&name) {
            command.env_remove(name);
        }
    }
    command
}

/// A call of cargo. What it makes, also in the user's own folder of cargo, has the modes that it has without us, but nobody else may write to it.
pub(crate) fn cargo(program: &Path) -> Command {
    let mut command = rust(program);
    with_umask(&mut command, private::umask() | 0o022);
    command
}

/// Gives a program that is the user's own affair their own umask.
pub(crate) fn with_users_umask(command: &mut Command) -> &mut Command {
    with_umask(command, private::umask())
}

fn with_umask(command: &mut Command, umask: u32) -> &mut Command {
    // SAFETY: between fork and exec only a call that touches no memory.
    unsafe {
        command.pre_exec(move || {
            libc::umask(umask as libc::mode_t);
            Ok(())
        })
    }
}

/// Gives a program a group of its own, so that what is typed at the terminal, and what stops cells, does not end it.
pub(crate) fn apart(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// Has a program work beside what the user does, and after everybody else.
pub(crate) fn aside(command: &mut Command) -> &mut Command {
    apart(command);
    // SAFETY: between fork and exec only a call that touches no memory.
    unsafe {
        command.pre_exec(|| {
            // What it answers is the new priority, or an error that leaves the old one: it works either way.
            libc::nice(10);
            Ok(())
        })
    }
}

/// Has a program end with the thread that starts it, however that ends, where the system can see to it.
pub(crate) fn until_we_end(command: &mut Command) -> &mut Command {
    #[cfg(target_os = "linux")]
    // SAFETY: between fork and exec only a call that touches no memory.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            },
        );
    }
    command
}

fn goes(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let begins = GONE_BEGINNINGS.iter().any(|start| name.starts_with(start));
    GONE.contains(&&*name) || (begins && !STAYS.contains(&&*name))
}

/// PATH without what is not absolute.
fn path() -> OsString {
    absolute(&std::env::var_os("PATH").unwrap_or_default())
}

/// The absolute folders of a list of folders: one that is empty means the folder that the program works in.
fn absolute(list: &OsStr) -> OsString {
    let folders = std::env::split_paths(list).filter(|folder| folder.is_absolute());
    // They come from such a list, so they fit into one.
    std::env::join_paths(folders).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replaces_the_compiler_goes_and_what_is_the_users_stays() {
        for name in [
            "RUSTC_WRAPPER",
            "CARGO_BUILD_RUSTC_WRAPPER",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
            "CARGO_TARGET_DIR",
            "CARGO_PROFILE_RELEASE_LTO",
            "RUSTFLAGS",
        ] {
            assert!(goes(OsStr::new(name)), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "CARGO_BUILD_JOBS",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CC",
            "PATH",
        ] {
            assert!(!goes(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_list_keeps_absolute_folders_alone() {
        assert_eq!(absolute(OsStr::new(".:/a::b/c:/d:")), OsStr::new("/a:/d"));
        assert_eq!(absolute(OsStr::new("")), OsStr::new(""));
    }
}
