//! `glassbox kernel`, `install`, `uninstall`: Jupyter's side, all work done by [`crate::kernel`].

use std::path::PathBuf;

use clap::Args;

use super::failure::{Exit, Failure};
use super::terminal::{Starting, complain};
use super::{SessionArgs, say};
use crate::kernel::{self, InstallOptions, Place};
use crate::session::build_analyst_aside;

/// Serve Jupyter; this is what Jupyter itself starts
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox install && jupyter lab            the usual way: Jupyter starts the kernel
  glassbox kernel --connection-file kernel.json

GLASSBOX_FEATURES names the features to build the prelude with; `install --features` writes it into the kernelspec.
GLASSBOX_CELL_CACHE sets how many megabytes of compiled cells are kept (256; `off` for none), so that a cell that runs again starts at once.")]
pub struct KernelArgs {
    /// The connection file that Jupyter wrote
    #[arg(long, short = 'f', value_name = "FILE")]
    connection_file: PathBuf,
}

/// Tell Jupyter about the kernel
///
/// Writes a kernelspec that starts this program, and has the program with rust-analyzer built in the background, which completion and
/// inspection need. With --stock the spec starts plain evcxr_jupyter with the same prelude:
/// no live updates, no kept state after an interrupt.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox install                           for this user
  glassbox install --sys-prefix              into the active Python environment
  glassbox install --prefix /usr/local       for everybody
  glassbox install --name glassbox-dev       beside another one
  glassbox install --features cuda           with an NVIDIA GPU
  glassbox install --stock                   plain evcxr_jupyter with the prelude")]
pub struct InstallArgs {
    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    session: SessionArgs,
}

/// Remove what `install` wrote
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox uninstall
  glassbox uninstall --sys-prefix --name glassbox-dev
  glassbox uninstall --stock

`rm -r` of the folders that `glassbox doctor` names removes the prelude cache.")]
pub struct UninstallArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct Target {
    /// In the user's Jupyter folder (the default)
    #[arg(long, group = "place")]
    user: bool,

    /// In share/jupyter under this folder
    #[arg(long, value_name = "DIR", group = "place")]
    prefix: Option<PathBuf>,

    /// In the active Python environment
    #[arg(long, group = "place")]
    sys_prefix: bool,

    /// The kernel's name for Jupyter [default: glassbox, or glassbox-stock]
    #[arg(long)]
    name: Option<String>,

    /// The stock kernel: plain evcxr_jupyter with the prelude
    #[arg(long)]
    stock: bool,
}

impl Target {
    fn options(&self) -> InstallOptions {
        let place = match (&self.prefix, self.sys_prefix) {
            (Some(prefix), _) => Place::Prefix(prefix.clone()),
            (None, true) => Place::SysPrefix,
            (None, false) => Place::User,
        };
        InstallOptions {
            place,
            name: self.name.clone(),
            stock: self.stock,
            features: Vec::new(),
        }
    }
}

/// Runs `glassbox kernel`.
pub fn serve(args: &KernelArgs) -> Result<Exit, Failure> {
    kernel::run(&args.connection_file)
        .map_err(|e| Failure::new(Exit::NoSession, format!("{e:#}")))?;
    Ok(Exit::Done)
}

/// Runs `glassbox install`.
pub fn install(args: &InstallArgs) -> Result<Exit, Failure> {
    let mut options = args.target.options();
    options.features = args.session.features.clone();
    if options.stock && !options.features.is_empty() {
        let message = "the stock kernel builds the prelude without features; leave out --features (and GLASSBOX_FEATURES)";
        return Err(Failure::new(Exit::Usage, message));
    }
    if options.stock {
        let mut starting = Starting::new();
        let prepared = kernel::stock::prepare(&mut |event| starting.step(&event));
        starting.end();
        prepared.map_err(|e| Failure::new(Exit::NoSession, format!("{e:#}")))?;
    }
    let folder =
        kernel::install(&options).map_err(|e| Failure::new(Exit::NotWritten, format!("{e:#}")))?;
    say(&format!("wrote {}", folder.display()));
    match build_analyst_aside() {
        Ok(true) => say(
            "completion and inspection: their program is being built in the background, some minutes, once; `glassbox doctor` says whether it is there",
        ),
        Ok(false) => {}
        // The kernel does without, and tries again.
        Err(error) => complain(&format!("completion and inspection: {error}")),
    }
    say(&format!(
        "use it: `jupyter lab`, or `jupyter console --kernel {}`",
        options.name()
    ));
    Ok(Exit::Done)
}

/// Runs `glassbox uninstall`.
pub fn uninstall(args: &UninstallArgs) -> Result<Exit, Failure> {
    let folder = kernel::uninstall(&args.target.options())
        .map_err(|e| Failure::new(Exit::NotWritten, format!("{e:#}")))?;
    say(&format!("removed {}", folder.display()));
    Ok(Exit::Done)
}
