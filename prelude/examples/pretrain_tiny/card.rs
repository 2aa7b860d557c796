//! The numbers of a pretraining run, beside the weights: `pretraining.json` in each half's folder.

use std::path::Path;

use glassbox_prelude::Result;
use glassbox_prelude::serde_json::{Map, json};

use super::{Outcome, Plan, say, write_json};

/// Writes and prints what came out of one half, one entry for each run of its training.
pub fn write(out: &Path, half: &str, runs: &[(Plan, Outcome)]) -> Result<()> {
    let round = |value: f64| (value * 10_000.0).round() / 10_000.0;
    let mut card = Vec::new();
    for (plan, outcome) in runs {
        let losses = outcome.losses.iter();
        let losses: Map<_, _> = losses
            .map(|(name, loss)| (name.clone(), json!(round(*loss))))
            .collect();
        let (what, right) = &outcome.score;
        card.push(json!({
            "seed": plan.seed, "steps": plan.steps, "batch_size": plan.batch, "learning_rate": plan.rate,
            "seconds": outcome.seconds.round(), "final losses": losses, (what.as_str()): round(*right),
        }));
        say(&format!(
            "{half}: {:.1}% of {what}, {:.0} s",
            100.0 * right,
            outcome.seconds
        ));
    }
    write_json(&out.join(half).join("pretraining.json"), &card.into())
}
