//! Pretraining on documents, next token by next token, and what the model is asked in the end: names by family and number of carbons.

use std::io::Write;
use std::time::Instant;

use glassbox_prelude::Result;
use glassbox_prelude::candle_core::{Device, Tensor};
use glassbox_prelude::language::{Decoder, DecoderConfig, LlmInput, LlmProcessor, LogitsAt};
use glassbox_prelude::nn::{Network, cross_entropy};
use glassbox_prelude::senses::OrganicMolecule;
use glassbox_prelude::train::{AdamW, AdamWConfig, Gradients, Schedule};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::text::Chemistry;

/// Documents a step.
const BATCH: usize = 16;
/// Highest learning rate.
const RATE: f64 = 1.5e-3;
/// Longest name, in tokens.
const LONGEST: usize = 12;

/// What came out.
pub struct Learnt {
    pub seconds: f64,
    pub loss: f64,
    /// Part of names that are right, of molecules that were read about and that were not.
    pub seen: f64,
    pub unseen: f64,
}

/// The sizes of the tiny default's language model.
fn config(processor: &LlmProcessor) -> DecoderConfig {
    let mut config =
        DecoderConfig::new(processor.vocab_size().next_multiple_of(32), 128, 256, 4, 4);
    config.max_position_embeddings = 256;
    config.bos_token_id = processor.bos_id();
    config.pad_token_id = processor.pad_id();
    config.eos_token_id = processor.eos_id().map(Into::into);
    config
}

pub fn pretrain(
    chemistry: &Chemistry,
    processor: &LlmProcessor,
    seed: u64,
    steps: usize,
) -> Result<(Decoder, Learnt)> {
    let mut llm = Decoder::new_random(&config(processor), seed, &Device::Cpu)?;
    llm.set_trainable(true)?;
    let parameters = llm.named_parameters();
    let mut adamw = AdamW::new(AdamWConfig {
        learning_rate: RATE,
        weight_decay: 0.02,
        ..AdamWConfig::default()
    })?;
    let schedule = Schedule::WarmupCosine {
        warmup: 0.04,
        floor: 0.02,
    };
    let begun = Instant::now();
    let mut mean = None;
    for step in 0..steps {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step as u64);
        let documents = (0..BATCH)
            .map(|_| chemistry.document(processor, &mut rng))
            .collect::<Result<Vec<_>>>()?;
        let loss = loss(&llm, &documents)?;
        let mut gradients = Gradients::of(&loss, &parameters)?;
        gradients.clip(1.0)?;
        adamw.step_with_rate(
            &parameters,
            &gradients,
            RATE * schedule.factor(step as f64 / steps as f64),
        )?;
        let now = f64::from(loss.to_scalar::<f32>()?);
        let mean = mean.insert(mean.map_or(now, |mean: f64| mean + (now - mean) * 0.02));
        if (step + 1) % 200 == 0 || step + 1 == steps {
            println!(
                "{:>6}/{steps}  loss {mean:.4}  {:.0} s",
                step + 1,
                begun.elapsed().as_secs_f64()
            );
            std::io::stdout().flush().ok();
        }
    }
    llm.set_trainable(false)?;
    let learnt = Learnt {
        seconds: begun.elapsed().as_secs_f64(),
        loss: mean.unwrap_or(f64::NAN),
        seen: names_right(&llm, processor, &chemistry.read)?,
        unseen: names_right(&llm, processor, &chemistry.held_out)?,
    };
    println!(
        "names right: {:.2} of those read about, {:.2} of those held out",
        learnt.seen, learnt.unseen
    );
    Ok((llm, learnt))
}

/// Mean loss of every token behind the first, padding left out.
fn loss(llm: &Decoder, documents: &[Vec<u32>]) -> Result<Tensor> {
    let longest = documents.iter().map(Vec::len).max().unwrap_or(1);
    let (mut ids, mut places, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (row, document) in documents.iter().enumerate() {
        for (place, target) in document.iter().enumerate().skip(1) {
            places.push((row, place - 1)); // the token before predicts this one
            targets.push(*target);
        }
        ids.extend(
            document
                .iter()
                .copied()
                .chain(std::iter::repeat(0))
                .take(longest),
        ); // padding behind, seen by nothing that counts
    }
    let ids = Tensor::from_vec(ids, (documents.len(), longest), &Device::Cpu)?; // [B, T]
    let output = llm.forward(&LlmInput::ids(&ids).logits_at(LogitsAt::Chosen(places)))?;
    cross_entropy(output.logits()?, &targets) // logits [N, V]
}

/// The part of molecules whose name it writes, greedily, behind family and number of carbons.
fn names_right(
    llm: &Decoder,
    processor: &LlmProcessor,
    molecules: &[OrganicMolecule],
) -> Result<f64> {
    let mut right = 0;
    for molecule in molecules {
        let atoms = if molecule.carbons == 1 {
            "atom"
        } else {
            "atoms"
        };
        let asked = format!(
            "<s>the {} with {} carbon {atoms} is",
            molecule.family, molecule.carbons
        );
        let mut ids = processor.encode_plain(&asked)?;
        let asked = ids.len();
        for _ in 0..LONGEST {
            let row = Tensor::from_slice(&ids, (1, ids.len()), &Device::Cpu)?; // [1, T]
            let next = llm
                .forward(&LlmInput::ids(&row).logits_at(LogitsAt::Last))?
                .logits()?
                .argmax(1)?
                .to_vec1::<u32>()?;
            if next.first() == processor.eos_id().as_ref() || next.is_empty() {
                break;
            }
            ids.extend(next);
        }
        right += usize::from(processor.decode(&ids[asked..])?.trim() == molecule.name);
    }
    Ok(right as f64 / molecules.len().max(1) as f64)
}
