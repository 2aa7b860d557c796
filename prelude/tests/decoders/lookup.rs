//! Proposals by prompt lookup and several questions of one picture with real weights, SmolLM2-135M behind the tiny encoder: the same
//! texts, and what they take.

use crate::real::smollm2;
use crate::{Fallible, Outcome};
use glassbox_prelude::candle_core::{DType, Device};
use glassbox_prelude::language::GgufFile;
use glassbox_prelude::nn::Quantize;
use glassbox_prelude::prelude::{Generate, Image, PromptStyle, Vlm, VlmParts, VlmSettings};
use std::time::Instant;

/// Asks for what repeats words of the question, and for what does not.
const QUESTIONS: [&str; 6] = [
    "Repeat this sentence word by word: The quick brown fox jumps over the lazy dog, and the lazy dog sleeps under the old oak tree.",
    "Here is a list: apples, pears, plums, cherries, apricots. Write the same list again, in the same order.",
    "Write a Rust function that adds two numbers, then write the same function for three numbers.",
    "Correct the spelling and repeat: The wether in London is often rainy and the wether in Madrid is often sunny.",
    "What is the capital of France?",
    "Tell a short story about a lighthouse.",
];

/// Its words as they are, behind the tiny encoder and a projector that has learnt nothing.
fn seeing(file: &GgufFile, in_blocks: bool) -> Fallible<Vlm> {
    let llm = match in_blocks {
        true => file.quantized_decoder(Quantize::as_stored(), DType::F32, &Device::Cpu)?,
        false => file.decoder(DType::F32, &Device::Cpu)?,
    };
    let parts = VlmParts {
        llm,
        llm_processor: file.processor()?,
        ..VlmParts::tiny(&Device::Cpu)?
    };
    let settings = VlmSettings {
        vit_lora: None,
        llm_lora: None,
        prompt: PromptStyle::ChatTemplate,
        ..VlmSettings::tiny()
    };
    Ok(Vlm::new(parts, settings, 0)?)
}

fn seconds<T>(work: impl FnOnce() -> glassbox_prelude::Result<T>) -> Fallible<(f64, T)> {
    let begun = Instant::now();
    let made = work()?;
    Ok((begun.elapsed().as_secs_f64(), made))
}

#[test]
fn real_weights_write_the_same_with_proposals_and_with_questions_together() -> Outcome {
    let Some((path, _unpacked)) = smollm2()? else {
        return Ok(());
    };
    let file = GgufFile::open(&path)?;
    let image = Image::filled(64, 64, [200, 30, 40])?;
    for in_blocks in [false, true] {
        let vlm = seeing(&file, in_blocks)?;
        let form = if in_blocks { "Q4_1" } else { "f32" };
        let ask = |question: &str| -> glassbox_prelude::Result<Generate> {
            Ok(vlm.generate(&image)?.query(question).max_new_tokens(48))
        };
        for question in QUESTIONS {
            let (plain, wanted) = seconds(|| ask(question)?.run())?;
            for most in [3, 8] {
                let (took, found) = seconds(|| ask(question)?.prompt_lookup(most).run())?;
                assert_eq!(found.ids, wanted.ids, "{question}");
                println!(
                    "{form}, up to {most} proposed: {:.2} of {plain:.2} s: {:.40}",
                    took / plain,
                    question
                );
            }
        }
        let short = |generate: Generate| generate.max_new_tokens(8);
        let (together, found) =
            seconds(|| short(vlm.generate(&image)?.questions(&QUESTIONS)?).run_all())?;
        let (apart, wanted) = seconds(|| {
            let alone = QUESTIONS.iter().map(|question| short(ask(question)?).run());
            alone.collect::<glassbox_prelude::Result<Vec<_>>>()
        })?;
        for (one, other) in found.iter().zip(&wanted) {
            assert_eq!(one.ids, other.ids);
        }
        println!(
            "{form}, {} questions of a picture, 8 tokens each: {together:.2} s together, {apart:.2} s one by one",
            QUESTIONS.len()
        );
    }
    Ok(())
}
