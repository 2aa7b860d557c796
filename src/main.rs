//! The `glassbox` binary: roles of the same executable, then the command line.

use std::process::ExitCode;

/// The prelude's source, for machines without the checkout; see `build.rs`.
static PRELUDE_SOURCE: glassbox::session::EmbeddedSource =
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

fn main() -> ExitCode {
    if let Some(code) = glassbox::session::role(std::env::args_os().skip(1)) {
        std::process::exit(code);
    }
    if let Some(code) = glassbox::kernel::stock::role() {
        return code;
    }
    glassbox::session::embed_prelude_source(PRELUDE_SOURCE);
    glassbox::commands::main()
}

#[cfg(test)]
mod tests {
    use super::PRELUDE_SOURCE;

    /// What an installed binary unpacks on a machine without the checkout is a package that cargo takes, with all of its files.
    #[test]
    fn the_embedded_source_is_a_package_of_its_own() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        for (name, content) in PRELUDE_SOURCE {
            let file = folder.path().join(name);
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(file, content)?;
        }
        let manifest = folder.path().join("prelude/Cargo.toml");
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
        assert!(told.status.success(), "{complaint}");
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
        assert!(sources.len() >= 2, "{sources:?}");
        for source in sources {
            assert!(
                std::path::Path::new(source).is_file(),
                "{source} is not carried"
            );
        }
        Ok(())
    }
}
