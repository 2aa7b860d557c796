//! Names that both sides must spell alike: variables of the child's environment, files in the session's folder.

/// The secret that the session's frames carry. Only a Glassbox session sets it.
pub const NONCE_VARIABLE: &str = "GLASSBOX_NONCE";
/// The session's folder.
pub const FOLDER_VARIABLE: &str = "GLASSBOX_SESSION_DIR";
/// The session's pipes, each as `name=path`, by what is there also when the folder is not.
pub const PIPES_VARIABLE: &str = "GLASSBOX_PIPES";
/// The prelude's shared library.
pub const PRELUDE_VARIABLE: &str = "GLASSBOX_PRELUDE_LIBRARY";
/// Set if the session's front end passes on what controls say.
pub const COMMS_VARIABLE: &str = "GLASSBOX_COMMS";
/// `LD_LIBRARY_PATH` as it was before the session added its own folders.
pub const LIBRARY_PATH_BEFORE_VARIABLE: &str = "GLASSBOX_LIBRARY_PATH_BEFORE";
/// The descriptor for control lines, for a process that is told in no other way.
pub const CONTROL_VARIABLE: &str = "GLASSBOX_CONTROL_FD";

/// The pipe of the child's stdout.
pub const STDOUT_PIPE: &str = "stdout";
/// The pipe of the child's stderr.
pub const STDERR_PIPE: &str = "stderr";
/// The pipe with the answers to questions.
pub const INPUT_PIPE: &str = "input";
/// The pipe with what is read from standard input.
pub const STDIN_PIPE: &str = "stdin";
/// Exists while an interrupt waits for a cell that has not begun yet.
pub const INTERRUPT_FILE: &str = "interrupt";
