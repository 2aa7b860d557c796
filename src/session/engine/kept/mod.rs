//! What was compiled before, in this session or an earlier one: a source that rustc has seen is not given to it again.
//!
//! ```text
//! source, flags, compiler, prelude, crates ─ SHA-256 ─▶ key ─▶ in the store, and whole: what rustc made of it, or said of it
//!                                                        └─▶ else rustc, and kept if it read nothing but the source
//! ```
//! The key covers all that a cell is made of: the text that rustc gets, with the items of earlier cells in it; its options; its version; the
//! checksums of the prelude and of the libraries of `:dep` that the cell names. A cell that reads files or variables of the environment while
//! it compiles (`include_str!`, `env!`, `mod a;`), or that links native libraries, is not kept: what they say may be otherwise next time. rustc
//! tells what it read; of what a macro of a crate reads without rustc's knowledge nobody knows, as with cargo.
//!
//! What the compiler objected to in generated lines on the way to a cell that runs is kept with the cell, so that nothing of it is
//! compiled again; errors that the user gets to see are not.
//!
//! # Layout
//! - [`store`]: the files, their checksums, how many there may be
//! - [`status`]: what of it there is, for who asks
//! - [`renamed`]: symbols of statics, which differ from run to run

pub(super) mod renamed;
pub(crate) mod status;
mod store;

use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::compiler::Goal;
use super::linkage::Linkage;
use crate::session::prelude::cache::CachedPrelude;
use crate::session::prelude::source::hex;
use crate::session::prelude::toolchain::Toolchain;
use store::Store;

/// Raised when something changes that the rest of the key does not show.
const LAYOUT: &str = "1";
/// Words by which a source asks for files or for variables of the environment.
const READS: [&str; 6] = [
    "include",
    "include_str",
    "include_bytes",
    "env",
    "option_env",
    "path",
];

/// What a source is to be made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What [`Goal`] says. `direct`: by the linker alone.
    Compiled { goal: Goal, direct: bool },
    /// The types of its variables.
    Types,
    /// Itself, with all macros expanded.
    Expanded,
}

/// What is kept of a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A library to load.
    Library(Vec<u8>),
    /// An object file to link, with symbols to be renamed (see [`renamed`]).
    Object(Vec<u8>),
    /// It compiles.
    Fine,
    /// What rustc said of it: it does not compile as it stands, and the cell was written otherwise.
    Said(String),
    /// What rustc listed or printed.
    Text(String),
}

/// The name under which something is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

/// What is kept, as one session sees it.
#[derive(Debug)]
pub(super) struct Kept {
    store: Option<Store>,
    /// What all keys of the session begin with.
    beginning: Sha256,
    /// What rustc said of sources since the cell began.
    said: Vec<(Key, String)>,
    /// What is to be told, once.
    untold: Option<String>,
}

impl Kept {
    pub(super) fn open(toolchain: &Toolchain, prelude: &CachedPrelude, session: &Path) -> Kept {
        let mut beginning = Sha256::new();
        for part in [LAYOUT, &toolchain.version, &prelude.sum] {
            add(&mut beginning, part.as_bytes());
        }
        let (store, untold) = Store::open(&prelude.cells, session);
        Kept {
            store,
            beginning,
            said: Vec::new(),
            untold,
        }
    }

    /// A cell begins.
    pub(super) fn begin(&mut self) {
        self.said.clear();
    }

    /// What is to be told of the store, once a session.
    pub(super) fn untold(&mut self) -> Option<String> {
        self.untold.take()
    }

    /// The key of a source that `rustc`, a call as far as it is the same for all cells, is to be given; `None` if nothing is kept.
    pub(super) fn key(
        &self,
        rustc: &Command,
        linkage: &Linkage,
        source: &str,
        wanted: Wanted,
    ) -> Option<Key> {
        self.store.as_ref()?;
        let mut digest = self.beginning.clone();
        add(&mut digest, format!("{wanted:?}").as_bytes());
        for argument in rustc.get_args() {
            add(&mut digest, argument.as_encoded_bytes());
        }
        add(&mut digest, b"");
        for library in &linkage.libraries {
            add(&mut digest, library.dir().as_os_str().as_encoded_bytes());
            add(&mut digest, library.sum.as_bytes());
        }
        add(&mut digest, b"");
        add(&mut digest, source.as_bytes());
        Some(Key(hex(&digest.finalize())))
    }

    /// What is kept under a key.
    pub(super) fn find(&mut self, key: Option<&Key>) -> Option<Found> {
        let found = self.store.as_ref()?.get(&key?.0)?;
        let (kind, body) = found;
        let text = |body| String::from_utf8(body).ok();
        let found = match kind {
            b'l' => Found::Library(body),
            b'o' => Found::Object(body),
            b'f' => Found::Fine,
            b's' => Found::Said(text(body)?),
            b't' => Found::Text(text(body)?),
            _ => return None,
        };
        // It was made of what rustc said before of the same cell.
        if !matches!(found, Found::Said(_) | Found::Text(_)) {
            self.keep_said();
        }
        Some(found)
    }

    /// Notes what rustc said of a source: it is kept once the cell compiles.
    pub(super) fn note_said(&mut self, key: Option<Key>, said: &str) {
        self.said.extend(key.map(|key| (key, said.to_owned())));
    }

    /// Keeps what was made of a source. `dependencies`: the file in which rustc says what it read.
    pub(super) fn keep(&mut self, key: Option<Key>, made: &Found, dependencies: &Path) {
        let Some(key) = key else { return };
        if reads_more(dependencies) {
            return;
        }
        self.put(&key, made);
        if !matches!(made, Found::Text(_)) {
            self.keep_said();
        }
    }

    /// The same where rustc does not say what it read.
    pub(super) fn keep_text(&mut self, key: Option<Key>, source: &str, text: &str) {
        let mut words = super::items::words(source);
        if let Some(key) = key
            && !words.any(|word| READS.contains(&word))
        {
            self.put(&key, &Found::Text(text.to_owned()));
        }
    }

    fn keep_said(&mut self) {
        for (key, said) in std::mem::take(&mut self.said) {
            self.put(&key, &Found::Said(said));
        }
    }

    fn put(&mut self, key: &Key, made: &Found) {
        let (kind, body) = match made {
            Found::Library(bytes) => (b'l', bytes.as_slice()),
            Found::Object(bytes) => (b'o', bytes.as_slice()),
            Found::Fine => (b'f', &[][..]),
            Found::Said(text) => (b's', text.as_bytes()),
            Found::Text(text) => (b't', text.as_bytes()),
        };
        if let Some(store) = &mut self.store
            && let Err(words) = store.put(&key.0, kind, body)
        {
            self.untold.get_or_insert(words);
        }
    }
}

fn add(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_le_bytes());
    digest.update(part);
}

/// Whether rustc read more than the cell's source, by the file in which it says so for make:
///
/// ```text
/// cell.o: src/lib.rs /home/me/words.txt
/// src/lib.rs:
/// # env-dep:HOME=/home/me
/// ```
fn reads_more(dependencies: &Path) -> bool {
    let Ok(text) = fs::read_to_string(dependencies) else {
        return true;
    };
    // Each file that was read has a line of its own, with nothing behind the colon.
    let files = text.lines().filter(|line| line.ends_with(':')).count();
    let asks = text.lines().any(|line| line.starts_with("# env-dep:"));
    files != 1 || asks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_reads_files_or_the_environment_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cell.d");
        let reads = |text: &str| {
            fs::write(&file, text).unwrap();
            reads_more(&file)
        };
        assert!(!reads(
            "cell.o: src/lib.rs\n\ncell.d: src/lib.rs\n\nsrc/lib.rs:\n"
        ));
        assert!(reads(
            "cell.o: src/lib.rs words.txt\n\nsrc/lib.rs:\nwords.txt:\n"
        ));
        assert!(reads(
            "cell.o: src/lib.rs src/a.rs\n\nsrc/lib.rs:\nsrc/a.rs:\n"
        ));
        assert!(reads(
            "cell.o: src/lib.rs\n\nsrc/lib.rs:\n\n# env-dep:HOME=/root\n"
        ));
        assert!(reads(
            "cell.o: src/lib.rs\n\nsrc/lib.rs:\n\n# env-dep:NOT_THERE\n"
        ));
        assert!(reads(""));
        fs::remove_file(&file).unwrap();
        assert!(reads_more(&file));
    }
}
