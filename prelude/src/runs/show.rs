//! How runs and sweeps show themselves.

use super::sweep::{Best, Scores, Sweep, SweepReport, Trial, TrialRecord};
use super::{AboutRun, DataFacts, Difference, Run, RunState, Runs};
use crate::display::facts::{debug_by_first_line, shown_by_facts, shown_by_fields};
use crate::display::{Facts, MimeBundle, Render, containers, number};

impl Run {
    fn facts(&self) -> Facts {
        let last = self.records().last();
        Facts::new(format!("Run {} ({})", self.name(), self.about.state.name()))
            .fact("folder", self.folder.display())
            .fact(
                "steps",
                format!("{} of {}", self.records().len(), self.about.steps),
            )
            .fact_if("last loss", last.map(|record| number::float(record.loss)))
            .fact_if("validation loss", self.validation_loss().map(number::float))
            .fact("seed", self.about.seed)
            .fact("begun", &self.about.begun)
            .fact_if(
                "result",
                Some(&self.about.result).filter(|text| !text.is_empty()),
            )
            .hint("`LinePlot::new(\"\").run(\"label\", &run)` draws it; `.captions()`, `.records()` and `.config` have the rest")
    }
}

impl Sweep {
    fn facts(&self) -> Facts {
        self.axes()
            .iter()
            .fold(
                Facts::new(format!(
                    "Sweep of {}",
                    containers::plural(self.trials().len(), "trial")
                ))
                .fact("folder", self.folder().display()),
                |facts, (name, values)| facts.fact(name, values.join(", ")),
            )
            .hint("`.run(|trial| …)` tries them")
    }
}

impl Trial {
    fn facts(&self) -> Facts {
        self.values().fold(
            Facts::new("Trial").fact("seed", self.seed()),
            |facts, (name, value)| facts.fact(name, value),
        )
    }
}

shown_by_facts!(Run, Sweep, Trial);
shown_by_fields!(AboutRun, DataFacts, RunState, TrialRecord, Best, Scores);
debug_by_first_line!(Runs, Difference, SweepReport);

impl Render for Runs {
    fn render(&self) -> MimeBundle {
        self.table().render()
    }
}

impl Render for Difference {
    fn render(&self) -> MimeBundle {
        self.table().render()
    }
}

impl Render for SweepReport {
    fn render(&self) -> MimeBundle {
        self.table().render()
    }
}
