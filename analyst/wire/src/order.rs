//! What the analyst is told and asked: crates to read, a page with a cell on it, and what is to be found out about it.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The function around a cell. Not for users to see.
pub const FUNCTION: &str = "__glassbox_cell";

/// The standard library's crates, in the order in which they need each other.
pub const STANDARD: [&str; 4] = ["core", "alloc", "std", "proc_macro"];

/// One line to the analyst. Each [`Order::Ask`] has one answer, the others none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Read these crates; what was read before is forgotten.
    Read(Crates),
    /// Find something out about a page.
    Ask(Page, Question),
    /// Throw away what only answers of the past needed.
    Tidy,
}

/// What is to be found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// What can stand at the cursor.
    Complete,
    /// What is known of what the cursor is on.
    Inspect(Subject),
    /// The type of the code, which is one expression.
    TypeOf,
}

/// Where what an inspection is about stands in the code, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The name that the cursor touches.
    pub name: Option<Range<usize>>,
    /// The name of the function in whose arguments the cursor stands.
    pub callee: Option<Range<usize>>,
}

/// A file to be shown, and where the cell and the cursor are in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The file: what the session knows, then the cell inside of [`FUNCTION`].
    pub text: String,
    /// Where the cell begins.
    pub start: usize,
    /// The cell's code.
    pub code: String,
    /// The cursor, an offset into the cell's code.
    pub cursor: usize,
}

/// Where a crate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// One of [`STANDARD`].
    Standard,
    /// The prelude.
    Prelude,
    /// Any other.
    Library,
}

/// One crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Krate {
    /// The name of its package.
    pub name: String,
    /// Its version, if it has one.
    pub version: Option<String>,
    /// The file that it begins with.
    pub root: PathBuf,
    /// The edition of Rust that it is written in.
    pub edition: String,
    /// The features that it is built with.
    pub features: Vec<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it holds procedural macros.
    pub makes_macros: bool,
    /// What it needs: the name in its code, and the place among all crates.
    pub needs: Vec<(String, usize)>,
}

/// All crates, those that cells can name, and what they are compiled for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crates {
    /// Each after those that it needs.
    pub all: Vec<Krate>,
    /// Names in cells, and places among all.
    pub named: Vec<(String, usize)>,
    /// Lines as `rustc --print cfg` writes them.
    pub settings: String,
    /// How the target lays out data, in LLVM's words, if the compiler says it.
    pub layout: Option<String>,
    /// The compiler's version.
    pub release: String,
}
