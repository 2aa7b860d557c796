//! Our binary in the role `cargo`, which evcxr calls for each cell.
//!
//! `build` and `check` become one call of rustc against the prelude's shared library, everything else goes to the real
//! cargo. Crates that the user adds with `:dep` are built once by the real cargo in a package of their own, next to the
//! cell's, and linked from there.
//!
//! ```text
//! evcxr: cargo build ──▶ src/lib.rs ─ rewrite ─▶ glassbox/lib.rs ─ rustc ─▶ target/…/libctx.so
//! ```

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::child::INTERRUPT_FILE;
use super::{rewrite, streams};

/// First argument of the binary in this role; the session's folder is the second.
pub const ROLE: &str = "__cargo";

/// In the session's folder: the id of the process that compiles, for the interrupt.
pub(crate) const PROCESS_FILE: &str = "compiler";
/// In the package that evcxr writes: what we compile.
pub(crate) const SOURCE_DIR: &str = "glassbox";
const SETTINGS_FILE: &str = "stand-in.json";
/// In the package that evcxr writes: where crates of `:dep` are built.
pub(crate) const EXTRA_DIR: &str = "glassbox-deps";
/// The package that needs them.
pub(crate) const EXTRA_PACKAGE: &str = "glassbox_extra";

/// What the stand-in needs to know of its session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub rustc: PathBuf,
    pub cargo: PathBuf,
    /// The prelude's shared library.
    pub prelude: PathBuf,
    /// Where the metadata of the crates in it is.
    pub dependencies: PathBuf,
}

impl Settings {
    pub(crate) fn save(&self, folder: &Path) -> std::io::Result<()> {
        fs::write(folder.join(SETTINGS_FILE), serde_json::to_vec(self)?)
    }

    fn load(folder: &Path) -> std::io::Result<Settings> {
        Ok(serde_json::from_slice(&fs::read(
            folder.join(SETTINGS_FILE),
        )?)?)
    }
}

/// Plays cargo with the arguments after the role's name. The exit code is for [`std::process::exit`].
pub fn main(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> i32 {
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        return fail("this role is for sessions to start");
    };
    let settings = match Settings::load(&folder) {
        Ok(settings) => settings,
        Err(error) => {
            return fail(&format!(
                "cannot read {SETTINGS_FILE} in {}: {error}",
                folder.display()
            ));
        }
    };
    let arguments: Vec<_> = arguments.collect();
    let kind = match arguments.first().and_then(|argument| argument.to_str()) {
        Some("build") => Kind::Build,
        Some("check") => Kind::Check,
        _ => {
            let error = Command::new(&settings.cargo).args(&arguments).exec();
            return fail(&format!(
                "cannot start {}: {error}",
                settings.cargo.display()
            ));
        }
    };
    match compile(&folder, &settings, kind, &target_of(&arguments)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(message: &str) -> i32 {
    // evcxr shows the text of a failed build that holds no message of rustc.
    let _ = writeln!(std::io::stderr(), "error: {message}");
    101
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Build,
    Check,
}

fn target_of(arguments: &[std::ffi::OsString]) -> String {
    let mut rest = arguments
        .iter()
        .skip_while(|argument| *argument != "--target");
    rest.nth(1)
        .map(|target| target.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Becomes rustc; returns only if that failed, or if there is nothing to do.
fn compile(folder: &Path, settings: &Settings, kind: Kind, target: &str) -> Result<i32, String> {
    let text = |error: std::io::Error| error.to_string();
    fs::write(folder.join(PROCESS_FILE), std::process::id().to_string()).map_err(text)?;
    if folder.join(INTERRUPT_FILE).exists() {
        return Err("interrupted".to_owned());
    }
    let package = std::env::current_dir().map_err(text)?;
    let manifest = Manifest::read(&package.join("Cargo.toml")).map_err(text)?;
    let source = fs::read_to_string(package.join("src/lib.rs")).map_err(text)?;
    fs::create_dir_all(package.join(SOURCE_DIR)).map_err(text)?;
    fs::write(
        package.join(SOURCE_DIR).join("lib.rs"),
        rewrite::rewrite(&source),
    )
    .map_err(text)?;

    let mut rustc = Command::new(&settings.rustc);
    rustc
        .args([
            "--crate-name",
            "ctx",
            "--edition",
            "2024",
            "--crate-type",
            "cdylib",
        ])
        .arg(Path::new(SOURCE_DIR).join("lib.rs"))
        .args(["--error-format=json", "--json=diagnostic-rendered-ansi"])
        .args([
            "-Cprefer-dynamic",
            "-Cdebuginfo=0",
            "-Cdebug-assertions=on",
            "-Coverflow-checks=on",
        ])
        .arg(format!("-Copt-level={}", manifest.opt_level))
        .arg("--extern")
        .arg(assignment("glassbox_prelude", &settings.prelude))
        .arg("-L")
        .arg(assignment("dependency", &settings.dependencies));
    if !manifest.dependencies.trim().is_empty() {
        for argument in extra_crates(folder, settings, &package, &manifest.dependencies)? {
            rustc.arg(argument);
        }
    }
    match kind {
        Kind::Check => {
            rustc.args(["--emit=metadata", "--out-dir"]).arg(SOURCE_DIR);
        }
        Kind::Build => {
            let out_dir = package.join("target").join(target).join("debug");
            fs::create_dir_all(&out_dir).map_err(text)?;
            rustc.args(["--emit=link", "--out-dir"]).arg(&out_dir);
            if let Some(report) = std::env::var_os("EVCXR_EXECUTION_SO_PATH") {
                let library = out_dir.join("libctx.so");
                fs::write(report, library.to_string_lossy().as_bytes()).map_err(text)?;
            }
        }
    }
    Err(format!(
        "cannot start {}: {}",
        settings.rustc.display(),
        rustc.exec()
    ))
}

fn assignment(name: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(name);
    text.push("=");
    text.push(path);
    text
}

/// What we need of the `Cargo.toml` that evcxr writes.
struct Manifest {
    opt_level: String,
    /// The lines of `[dependencies]`, without the prelude.
    dependencies: String,
}

impl Manifest {
    fn read(path: &Path) -> std::io::Result<Manifest> {
        let text = fs::read_to_string(path)?;
        let opt_level = text
            .lines()
            .find_map(|line| line.strip_prefix("opt-level = "))
            .map(|level| level.trim().trim_matches('"').to_owned())
            .unwrap_or_else(|| "0".to_owned());
        let dependencies = text
            .split_once("\n[dependencies]\n")
            .map(|(_, after)| after)
            .unwrap_or_default();
        // evcxr keeps them in a hash map: the order changes, the crates don't.
        let mut lines: Vec<&str> = dependencies
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with("glassbox-prelude "))
            .collect();
        lines.sort_unstable();
        Ok(Manifest {
            opt_level,
            dependencies: lines.join("\n"),
        })
    }
}

/// Builds the crates of `:dep` if they changed, and returns the arguments with which rustc finds them.
///
/// `dependencies` are the lines of a manifest; the crates are built in a folder below `package`.
pub(crate) fn extra_crates(
    folder: &Path,
    settings: &Settings,
    package: &Path,
    dependencies: &str,
) -> Result<Vec<String>, String> {
    let text = |error: std::io::Error| error.to_string();
    let extra = package.join(EXTRA_DIR);
    let digest = hex(&Sha256::digest(dependencies.as_bytes()));
    let arguments_file = extra.join(format!("{digest}.json"));
    if let Ok(saved) = fs::read(&arguments_file)
        && let Ok(saved) = serde_json::from_slice::<Vec<String>>(&saved)
    {
        return Ok(saved);
    }
    fs::create_dir_all(extra.join("src")).map_err(text)?;
    fs::write(extra.join("src/lib.rs"), "").map_err(text)?;
    fs::write(
        extra.join("Cargo.toml"),
        format!(
            "[package]\nname = \"{EXTRA_PACKAGE}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [profile.release]\nopt-level = 3\n\n[dependencies]\n{dependencies}\n"
        ),
    )
    .map_err(text)?;
    // Progress goes to the cell's stderr while the crates are built; the result comes as JSON.
    let progress = fs::OpenOptions::new()
        .write(true)
        .open(folder.join(streams::STDERR))
        .map_err(text)?;
    let output = Command::new(&settings.cargo)
        .args([
            "build",
            "--release",
            "--lib",
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(&extra)
        .env("CARGO_TARGET_DIR", "target")
        .env("RUSTC", &settings.rustc)
        .env("RUSTFLAGS", "-Cprefer-dynamic")
        .env_remove("RUSTC_WRAPPER")
        .stdin(Stdio::null())
        .stderr(progress)
        .output()
        .map_err(text)?;
    if !output.status.success() {
        return Err(
            "the crates added with :dep do not build; the messages above say why".to_owned(),
        );
    }
    let resolved = Command::new(&settings.cargo)
        .args(["metadata", "--format-version=1", "--offline"])
        .current_dir(&extra)
        .output()
        .map_err(text)?;
    let arguments = extern_arguments(
        &String::from_utf8_lossy(&output.stdout),
        &String::from_utf8_lossy(&resolved.stdout),
    );
    let target = extra.join("target/release/deps");
    let all: Vec<String> = arguments
        .into_iter()
        .chain(["-L".to_owned(), format!("dependency={}", target.display())])
        .collect();
    fs::write(
        &arguments_file,
        serde_json::to_vec(&all).map_err(|error| error.to_string())?,
    )
    .map_err(text)?;
    Ok(all)
}

/// `--extern` for each direct dependency: `metadata` says which packages these are, `messages` where their libraries are.
fn extern_arguments(messages: &str, metadata: &str) -> Vec<String> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap_or_default();
    let root = &metadata["resolve"]["root"];
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten();
    let direct = nodes
        .filter(|node| node["id"] == *root)
        .filter_map(|node| node["deps"].as_array())
        .flatten();
    let artifacts: Vec<serde_json::Value> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let mut arguments = Vec::new();
    for dependency in direct {
        let Some(name) = dependency["name"].as_str() else {
            continue;
        };
        let library = artifacts
            .iter()
            .filter(|message| {
                message["reason"] == "compiler-artifact"
                    && message["package_id"] == dependency["pkg"]
            })
            .filter_map(|message| message["filenames"].as_array())
            .flatten()
            .filter_map(|file| file.as_str())
            .find(|file| file.ends_with(".rlib") || file.ends_with(".so"));
        if let Some(library) = library {
            arguments.extend(["--extern".to_owned(), format!("{name}={library}")]);
        }
    }
    arguments
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_dependencies_become_externs_under_the_name_the_user_gave() {
        let metadata = r#"{"resolve":{"root":"me","nodes":[
            {"id":"me","deps":[{"name":"renamed","pkg":"r#rand@0.9.0"}]},
            {"id":"r#rand@0.9.0","deps":[{"name":"rand_core","pkg":"r#rand_core@0.9.0"}]}]}}"#;
        let messages = r#"{"reason":"compiler-artifact","package_id":"r#rand@0.8.0","filenames":["/t/librand-8.rlib"]}
{"reason":"compiler-artifact","package_id":"r#rand@0.9.0","filenames":["/t/librand-9.rlib","/t/librand-9.rmeta"]}
{"reason":"compiler-artifact","package_id":"r#rand_core@0.9.0","filenames":["/t/librand_core-9.rlib"]}"#;
        assert_eq!(
            extern_arguments(messages, metadata),
            ["--extern", "renamed=/t/librand-9.rlib"]
        );
    }
}
