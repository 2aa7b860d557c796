//! Crates that cells add with `:dep`: the real cargo builds them in a package of their own, and cells are linked with what it made.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::prelude_source::hex;
use super::toolchain::Toolchain;
use glassbox_wire::names::STDERR_PIPE;

/// In the folder where cells are compiled: where the crates are built.
pub(crate) const EXTRA_DIR: &str = "glassbox-deps";
/// The package that needs them.
pub(crate) const EXTRA_PACKAGE: &str = "glassbox_extra";

/// Builds the crates of `:dep` if they changed, and returns the arguments with which rustc finds them.
///
/// `dependencies` are the lines of a manifest; the crates are built in a folder below `package`.
pub(crate) fn extra_crates(
    folder: &Path,
    toolchain: &Toolchain,
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
        .open(folder.join(STDERR_PIPE))
        .map_err(text)?;
    let output = Command::new(&toolchain.cargo)
        .args([
            "build",
            "--release",
            "--lib",
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(&extra)
        .env("CARGO_TARGET_DIR", "target")
        .env("RUSTC", &toolchain.rustc)
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
    let resolved = Command::new(&toolchain.cargo)
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
