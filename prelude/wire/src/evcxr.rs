//! evcxr's words: its kernel understands them, and crates made for it write them.

/// Set by evcxr in the process that runs its cells.
pub const RUNTIME_VARIABLE: &str = "EVCXR_IS_RUNTIME";
/// Begins the line above something shown: its MIME type follows.
pub const BEGIN_CONTENT: &str = "EVCXR_BEGIN_CONTENT ";
/// The line below something shown.
pub const END_CONTENT: &str = "EVCXR_END_CONTENT";
/// Begins a line that asks for a line of text: the question follows.
pub const QUESTION: &str = "EVCXR_INPUT_REQUEST:";
/// The same for a password.
pub const SECRET_QUESTION: &str = "EVCXR_INPUT_REQUEST_PASSWORD:";
