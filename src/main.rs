//! The `glassbox` binary: roles of the same executable, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = glassbox::session::role(std::env::args_os().skip(1)) {
        std::process::exit(code);
    }
    if let Some(code) = glassbox::kernel::stock::role() {
        return code;
    }
    glassbox::commands::main()
}
