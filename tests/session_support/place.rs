//! A place with a small prelude and a cache of its own, so that a test can build, damage and attack them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use glassbox::session::SessionConfig;

use super::TestSession;

/// A folder with the source of the small prelude and an empty cache.
pub struct Place {
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let place = Place {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(place.source().join("src")).unwrap();
        fs::write(
            place.source().join("Cargo.toml"),
            "[package]\nname = \"glassbox-prelude\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"dylib\", \"rlib\"]\n\n[workspace]\n",
        )
        .unwrap();
        fs::write(
            place.source().join("src/lib.rs"),
            include_str!("small_prelude.rs"),
        )
        .unwrap();
        place
    }

    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub fn start(&self) -> Result<(TestSession, String), String> {
        let config = SessionConfig {
            prelude_source: Some(self.source()),
            cache_dir: Some(self.cache()),
            ..SessionConfig::default()
        };
        TestSession::try_with(config)
    }

    pub fn library(&self) -> PathBuf {
        let entries = fs::read_dir(self.cache().join("prelude")).unwrap();
        let mut libraries = entries
            .map(|entry| entry.unwrap().path().join("libglassbox_prelude.so"))
            .filter(|path| path.exists());
        libraries.next().expect("a library is in the cache")
    }

    /// The built program with this prelude and cache, and nothing of the caller's own places.
    pub fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        command.env_remove("TMPDIR").env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// The variables that name this prelude and cache, and a home.
    pub fn environment(&self) -> [(&'static str, PathBuf); 5] {
        [
            ("GLASSBOX_PRELUDE_SRC", self.source()),
            ("GLASSBOX_CACHE_DIR", self.cache()),
            ("GLASSBOX_HISTORY", self.folder.path().join("history.jsonl")),
            ("XDG_DATA_HOME", self.folder.path().join("data")),
            ("JUPYTER_DATA_DIR", self.folder.path().join("jupyter")),
        ]
    }
}
