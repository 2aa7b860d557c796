//! Perplexity: between how many tokens the model hesitates at each token of the references, on average.
//!
//! e to the mean cross-entropy over all tokens of all references that carry loss. It depends on the tokenizer: only models with
//! the same one can be compared.

use super::metric::{Answered, Metric, Needs, Score};
use crate::{Error, Result};

/// Perplexity of the references.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![(Image::filled(64, 64, [200, 30, 40])?, vec!["a red square".to_string()])];
/// let found = Evaluator::new().metric(Perplexity).without_baselines().max_new_tokens(1).run(&vlm, &set)?;
/// let perplexity = found.score("perplexity").unwrap().value;
/// assert!(perplexity >= 1.0); // 1 would be a model that knows every token
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Perplexity;

impl Metric for Perplexity {
    fn name(&self) -> String {
        "perplexity".into()
    }

    fn needs(&self) -> Needs {
        Needs {
            surprise: true,
            ..Needs::default()
        }
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        let mut sums = Vec::with_capacity(answers.len());
        for answer in answers {
            let Some(surprise) = answer.surprise else {
                return Err(Error::Input(
                    "perplexity: the answers have no loss of their references (`surprise`): a model gives it"
                        .into(),
                ));
            };
            sums.push(vec![surprise.nats, surprise.tokens as f64]);
        }
        let perplexity = |sums: &[f64]| (sums[0] / sums[1]).exp();
        let each = sums.iter().map(|sums| perplexity(sums)).collect();
        Ok(vec![Score::of_sums("perplexity", each, sums, perplexity)])
    }
}
