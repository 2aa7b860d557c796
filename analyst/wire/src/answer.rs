//! What front ends show of code: proposals for a cursor, and what is known of a name.

use serde::{Deserialize, Deserializer, Serialize, de};

/// What the analyst says to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`crate::Question::Complete`].
    Completions(Completions),
    /// To [`crate::Question::Inspect`]: `None` if nothing is known.
    Inspection(Option<Inspection>),
    /// To [`crate::Question::TypeOf`]: `None` if it is not known.
    Type(Option<String>),
    /// rust-analyzer cannot be had: why.
    Refused(String),
}

/// What can stand at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completions {
    /// First byte to be replaced.
    pub start: usize,
    /// One past the last byte to be replaced.
    pub end: usize,
    /// The proposals, best first.
    pub items: Vec<Completion>,
}

/// One proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// What to insert.
    pub text: String,
    /// What to show: the name with its type or signature, in one line.
    pub label: String,
    /// Jupyter's word for what it is, one of [`KINDS`].
    #[serde(deserialize_with = "kind")]
    pub kind: Kind,
    /// The type of a value, the declaration of a function; `None` for what has neither.
    pub detail: Option<String>,
    /// What the documentation begins with, in one line.
    pub documentation: Option<String>,
    /// Its documentation advises against it.
    pub deprecated: bool,
}

/// A word of [`KINDS`].
pub type Kind = &'static str;

/// What a proposal can be, in Jupyter's words.
pub const KINDS: [Kind; 6] = [
    "function", "class", "module", "instance", "keyword", "magic",
];

fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<Kind, D::Error> {
    let word = String::deserialize(from)?;
    let known = KINDS.into_iter().find(|kind| *kind == word);
    known.ok_or_else(|| de::Error::unknown_variant(&word, &KINDS))
}

impl Completion {
    /// What stands behind the name in the label: `(&self, number: u8) -> u8` of a function, `Vec<String>` of a value.
    pub fn signature(&self) -> &str {
        let rest = self.label.strip_prefix(&self.text).unwrap_or_default();
        rest.strip_prefix(':').unwrap_or(rest).trim()
    }
}

/// What is known of the name at the cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Declaration and documentation as text.
    pub plain: String,
    /// The same as Markdown.
    pub markdown: String,
    /// The same as HTML.
    pub html: String,
}
