//! The `glassbox` binary: roles of the same executable, then the command line.

use std::process::ExitCode;

/// The prelude's source, for machines without the checkout; see `build.rs`.
static PRELUDE_SOURCE: glassbox::session::EmbeddedSource =
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The same of the analyst's, which is built from it where no program came along.
static ANALYST_SOURCE: glassbox::session::EmbeddedSource =
    include!(concat!(env!("OUT_DIR"), "/embedded_analyst.rs"));

fn main() -> ExitCode {
    glassbox::session::embed_prelude_source(PRELUDE_SOURCE);
    glassbox::session::embed_analyst_source(ANALYST_SOURCE);
    if let Some(code) = glassbox::session::role(std::env::args_os().skip(1)) {
        std::process::exit(code);
    }
    if let Some(code) = glassbox::kernel::stock::role() {
        return code;
    }
    glassbox::commands::main()
}

#[cfg(test)]
mod tests {
    use super::{ANALYST_SOURCE, PRELUDE_SOURCE};

    /// What an installed binary unpacks on a machine without the checkout is a package that cargo takes, with all of its files.
    #[test]
    fn the_embedded_sources_are_packages_of_their_own() -> anyhow::Result<()> {
        for (source, package) in [(PRELUDE_SOURCE, "prelude"), (ANALYST_SOURCE, "analyst")] {
            let folder = tempfile::tempdir()?;
            for (name, content) in source {
                let file = folder.path().join(name);
                if let Some(parent) = file.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                std::fs::write(file, content)?;
            }
            let manifest = folder.path().join(package).join("Cargo.toml");
            let told = std::process::Command::new(env!("CARGO"))
                .args([
                    "metadata",
                    "--no-deps",
                    "--offline",
                    "--format-version",
                    "1",
                ])
                .arg("--manifest-path")
                .arg(&manifest)
                .output()?;
            let complaint = String::from_utf8_lossy(&told.stderr);
            assert!(told.status.success(), "{package}: {complaint}");
            let metadata: serde_json::Value = serde_json::from_slice(&told.stdout)?;
            let packages = metadata["packages"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let targets = packages
                .iter()
                .filter_map(|package| package["targets"].as_array())
                .flatten();
            let sources: Vec<&str> = targets
                .filter_map(|target| target["src_path"].as_str())
                .collect();
            assert!(sources.len() >= 2, "{package}: {sources:?}");
            for source in sources {
                assert!(
                    std::path::Path::new(source).is_file(),
                    "{source} is not carried"
                );
            }
            let part = |name: &str, word: &str| {
                source.iter().any(|(path, content)| {
                    *path == name && String::from_utf8_lossy(content).contains(word)
                })
            };
            assert!(part("Cargo.lock", "ra_ap_ide"), "{package}");
        }
        Ok(())
    }
}
