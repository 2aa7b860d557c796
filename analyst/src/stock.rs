//! evcxr's roles: its child process, its wrapper of rustc, and the kernel of evcxr_jupyter. How it is configured, and why it is started, is
//! Glassbox's affair.

use anyhow::Result;

/// Plays this process's part if evcxr started it: as its child without arguments, or as a wrapper of rustc with rustc's.
pub fn hook() {
    if std::env::args_os().len() <= 1 || std::env::var_os("EVCXR_RUSTC_WRAPPER").is_some() {
        evcxr::runtime_hook();
    }
}

/// Serves the connection file that the command line names.
pub fn serve() -> Result<()> {
    evcxr_jupyter::main()
}

/// What a new session does before it answers.
pub fn load_once() -> Result<()> {
    let (mut context, _outputs) = evcxr::CommandContext::new()?;
    context.execute(":load_config --quiet")?;
    Ok(())
}
