//! Every encoder in a model's first place: a frozen CLIP tower under each projector, and one of the test's own that reads
//! spectra. Both train through the real trainer, generate, are looked into, saved and read again.

mod no_gradient;
mod spectrum;
mod towers;

use glassbox_prelude::nn::parameter::Parameter;
use glassbox_prelude::prelude::*;
use glassbox_prelude::vlm::LossOutput;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// The tiny language model's settings with the encoder frozen.
fn frozen_encoder(projector: ProjectorKind) -> VlmSettings {
    VlmSettings {
        vit_lora: None,
        projector,
        ..VlmSettings::tiny()
    }
}

/// Validation loss before and after a short training.
fn train(
    vlm: &Vlm,
    (train, val): (&dyn TrainingSet, &dyn TrainingSet),
    loss: LossKind,
    steps: usize,
) -> Result<(f64, f64)> {
    let config = TrainerConfig {
        batch_size: 4,
        steps,
        validate_every: 0,
        validation_samples: 8,
        loss,
        ..TrainerConfig::tour()
    };
    let report = Trainer::new(config)?.fit(vlm, train, val)?;
    let measured = report.validation;
    measured.ok_or_else(|| Error::Input("nothing was measured".into()))
}

/// Every parameter with the length of its gradient.
fn gradients(vlm: &Vlm, out: &LossOutput) -> Result<Vec<(Parameter, Option<f32>)>> {
    let grads = out.loss.backward()?;
    let length = |p: &Parameter| -> Result<Option<f32>> {
        let gradient = grads.get(&p.tensor);
        gradient
            .map(|g| Ok(g.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt()))
            .transpose()
    };
    let all = vlm.named_parameters().into_iter();
    all.map(|p| Ok((p.clone(), length(&p)?))).collect()
}

/// Everything that trains has a gradient, nothing else has.
fn check_gradients(vlm: &Vlm, out: &LossOutput) -> Result<()> {
    for (parameter, length) in gradients(vlm, out)? {
        assert_eq!(
            parameter.is_trainable(),
            length.is_some_and(|length| length > 0.0),
            "{}: {length:?}",
            parameter.name
        );
        assert!(parameter.is_trainable() || length.is_none());
    }
    Ok(())
}

/// Greedy, drawn and beams: the same ids with cache and without, alone and in a batch.
fn check_generation(vlm: &Vlm, inputs: &[Tensor]) -> Result<()> {
    let batch = Tensor::cat(inputs, 0)?;
    let ask = |input: &Tensor| vlm.generate_from(input).max_new_tokens(6).seed(3);
    let kinds: [fn(Generate) -> Generate; 3] = [
        |greedy| greedy,
        |drawn| drawn.temperature(1.0).top_k(20),
        |beams| beams.num_beams(3),
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        let cached = kind(ask(&batch)).run_all()?;
        let again = kind(ask(&batch)).without_cache().run_all()?;
        for (cached, again) in cached.iter().zip(&again) {
            assert_eq!(cached.ids, again.ids, "kind {number}");
        }
        let alone = kind(ask(&inputs[0])).run()?;
        assert_eq!(alone.ids, cached[0].ids, "kind {number}");
    }
    Ok(())
}

/// Logits after the prompt, `[B, V]`.
fn logits(vlm: &Vlm, input: &Tensor) -> Result<Vec<Vec<f32>>> {
    let sequence = vlm.concatenate(&vlm.image_tokens(input)?, &Query::Vector, &[])?;
    Ok(vlm.forward(&sequence)?.logits()?.to_vec2::<f32>()?)
}

const RAGGED: [&str; 2] = ["a red circle", "two blue squares and a small green star"];
