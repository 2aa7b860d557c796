//! What happens while a session starts, and the words for it.

use std::fmt;

use super::AnalystProgress;

/// What happens while a session starts, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartEvent {
    /// Looking for Rust and the prelude.
    Checking,
    /// This file asks for another toolchain, and is not obeyed.
    ToolchainPassedOver(std::path::PathBuf),
    /// rustup adds the source of the standard library, which the toolchain lacks.
    AddingRustSource,
    /// Another session builds the prelude; this one waits for it.
    WaitingForOtherBuild,
    /// The prelude is being built: only for the first session, and after changes.
    BuildingPrelude {
        /// Crates finished.
        done: usize,
        /// Crates in all, if known.
        total: Option<usize>,
        /// The crate just finished.
        krate: String,
    },
    /// The analyst is being built, for who needs it to go on; see [`super::analyst_status`].
    BuildingAnalyst(AnalystProgress),
    /// The process that runs cells is being started.
    StartingChild,
    /// The first cell brings the prelude in.
    LoadingPrelude,
    /// Cells can be run.
    Ready,
}

impl StartEvent {
    /// Whether it may last so long that a person should be told, also where there is no line that changes in place.
    pub fn takes_long(&self) -> bool {
        matches!(
            self,
            StartEvent::AddingRustSource
                | StartEvent::ToolchainPassedOver(_)
                | StartEvent::WaitingForOtherBuild
                | StartEvent::BuildingPrelude { .. }
                | StartEvent::BuildingAnalyst(_)
        )
    }
}

impl fmt::Display for StartEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartEvent::Checking => f.write_str("looking for the compiler and the prelude"),
            StartEvent::ToolchainPassedOver(file) => write!(
                f,
                "{} is not obeyed: a notebook's folder does not choose the compiler; set RUSTUP_TOOLCHAIN if you want another one",
                file.display()
            ),
            StartEvent::AddingRustSource => f.write_str(
                "adding the source of Rust's standard library, which this toolchain lacks (rustup component add rust-src)",
            ),
            StartEvent::WaitingForOtherBuild => {
                f.write_str("another session is building the prelude; waiting for it")
            }
            StartEvent::BuildingPrelude { done, total, krate } => {
                let of = total.map_or_else(String::new, |total| format!(" of {total}"));
                write!(f, "building the prelude: {done}{of} crates done")?;
                match krate.as_str() {
                    "" => Ok(()),
                    krate => write!(f, ", the last {krate}"),
                }
            }
            StartEvent::BuildingAnalyst(step) => {
                write!(f, "building the analyst, rust-analyzer and evcxr: {step}")
            }
            StartEvent::StartingChild => f.write_str("starting the session"),
            StartEvent::LoadingPrelude => f.write_str("loading the prelude"),
            StartEvent::Ready => f.write_str("ready"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_says_how_far_it_is() {
        let building = |total, krate: &str| {
            StartEvent::BuildingPrelude {
                done: 3,
                total,
                krate: krate.to_owned(),
            }
            .to_string()
        };
        assert_eq!(
            building(Some(40), "rand"),
            "building the prelude: 3 of 40 crates done, the last rand"
        );
        assert_eq!(building(None, ""), "building the prelude: 3 crates done");
    }
}
