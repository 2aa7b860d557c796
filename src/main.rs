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
