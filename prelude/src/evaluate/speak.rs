//! What a model says of what it is asked, how sure it is, and how much the references surprise it.

use candle_core::{DType, Tensor};

use super::metric::{Answered, Needs, Surprise};
use crate::Result;
use crate::nn::log_softmax;
use crate::vlm::{Generation, Prompt, Vlm};

/// One thing that is asked.
pub(super) struct Asking<'a> {
    /// Ends where the answer begins.
    pub(super) prompt: Prompt,
    /// What is right.
    pub(super) references: &'a [String],
    /// What kind of question it is.
    pub(super) kind: Option<&'a String>,
}

/// Answers a batch.
pub(super) fn answer(
    vlm: &Vlm,
    asked: &[Asking<'_>],
    needs: Needs,
    max_new_tokens: usize,
) -> Result<Vec<Answered>> {
    let prompts: Vec<Prompt> = asked.iter().map(|asking| asking.prompt.clone()).collect();
    let mut generate = vlm
        .generate_prompts(&prompts)?
        .max_new_tokens(max_new_tokens);
    if needs.confidence {
        generate = generate.keep_logits();
    }
    let answers = asked.iter().zip(generate.run_all()?).map(|(asking, made)| {
        let confidence = match needs.confidence {
            true => Some(confidence(&made)?),
            false => None,
        };
        let surprise = match needs.surprise {
            true => Some(surprise(vlm, asking)?),
            false => None,
        };
        Ok(Answered {
            prediction: made.text,
            references: asking.references.to_vec(),
            kind: asking.kind.cloned(),
            confidence,
            surprise,
        })
    });
    answers.collect()
}

/// The probability of all tokens of a text, together.
fn confidence(made: &Generation) -> Result<f64> {
    let Some(logits) = made.logits.as_ref().filter(|_| !made.ids.is_empty()) else {
        return Ok(1.0);
    };
    let logits = logits.detach().to_dtype(DType::F32)?; // [N, V]
    let log_probabilities = log_softmax(&logits)?; // [N, V]
    let ids = Tensor::new(made.ids.as_slice(), logits.device())?.unsqueeze(1)?; // [N, 1]
    let chosen: Vec<f32> = log_probabilities.gather(&ids, 1)?.squeeze(1)?.to_vec1()?; // [N]
    let sum: f64 = chosen.iter().map(|value| f64::from(*value)).sum();
    Ok(sum.exp().clamp(0.0, 1.0))
}

fn surprise(vlm: &Vlm, asking: &Asking<'_>) -> Result<Surprise> {
    let mut surprise = Surprise::default();
    let references = asking.references.iter();
    for reference in references.filter(|reference| !reference.trim().is_empty()) {
        let ids = vlm.caption_ids(reference)?;
        let loss = vlm.target_range(ids.len());
        let loss = vlm.full_sequence_loss_of(&asking.prompt.clone().answer(&ids, loss))?;
        let losses: Vec<f32> = loss.cross_entropy.to_dtype(DType::F32)?.to_vec1()?; // [N]
        surprise.nats += losses.iter().map(|value| f64::from(*value)).sum::<f64>();
        surprise.tokens += losses.len();
    }
    Ok(surprise)
}
