//! How the file of a run and its sections show themselves.

use super::data::Task;
use super::model::{HeldAs, Place, Precision};
use super::{
    DataConfig, EvaluateConfig, ModelConfig, Resume, RunConfig, Scored, SlurmJob, SweepDraft,
    SweepFolder,
};
use crate::display::facts::{debug_by_first_line, shown_by_fields};
use crate::display::{MimeBundle, Render};

shown_by_fields!(
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    Resume,
    Scored,
    SlurmJob,
    Task,
    Place,
    Precision,
    HeldAs
);

impl Render for RunConfig {
    /// The file.
    fn render(&self) -> MimeBundle {
        match self.to_toml() {
            Ok(text) => MimeBundle::text(text.trim_end()),
            Err(error) => MimeBundle::text(error.to_string()),
        }
    }
}

debug_by_first_line!(SweepFolder);

impl Render for SweepFolder {
    /// The table of its runs.
    fn render(&self) -> MimeBundle {
        self.table().render()
    }
}

impl Render for SweepDraft {
    /// How many runs, and where they will be.
    fn render(&self) -> MimeBundle {
        MimeBundle::text(self.sentence())
    }
}
