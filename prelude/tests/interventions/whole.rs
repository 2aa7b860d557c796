//! Edits in a whole model: losses, generation with and without a cache, several encoders, an encoder of one's own.

use crate::{Outcome, bits, difference, tests};
use glassbox_prelude::prelude::*;

fn picture(color: [u8; 3]) -> Result<Image> {
    Image::filled(64, 64, color)
}

#[test]
fn a_model_has_the_names_of_its_stage_trace() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let prompt = vlm.caption_prompt(&picture([200, 30, 40])?, "a red square")?;
    let (_, seen) = Activations::read(&["*"], || vlm.full_sequence_loss_of(&prompt))?;
    let names: Vec<&str> = seen.names().collect();
    let trace = trace_prompt(&vlm, &prompt)?.render();
    for name in [
        "pixel_values",
        "image_encoder/patch_embeddings",
        "image_encoder/hidden_states[0]",
        "image features",
        "image_tokens",
        "inputs_embeds",
        "llm/hidden_states[0]",
        "last_hidden_state",
        "logits",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
        assert!(trace.plain().contains(name), "the trace lacks {name}");
    }
    for name in names.iter().filter(|name| name.contains("hidden_states[")) {
        assert!(trace.plain().contains(name), "the trace lacks {name}");
    }
    // The trace itself shows what the edits leave.
    let edited = Edits::new()
        .zero("llm/hidden_states[1]")
        .run(|| trace_prompt(&vlm, &prompt))?;
    assert!(!edited.warnings().is_empty());
    Ok(())
}

#[test]
fn another_pictures_activations_are_the_other_pictures_loss() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let [right, wrong] = [[200, 30, 40], [30, 80, 220]]
        .map(|color| vlm.caption_prompt(&picture(color)?, "a red square"));
    let (right, wrong) = (right?, wrong?);
    let loss = |prompt: &Prompt| Ok(vlm.full_sequence_loss_of(prompt)?.logits);
    let (wanted, seen) = Activations::read(&["*"], || loss(&right))?;
    for name in [
        "pixel_values",
        "image_encoder/patch_embeddings",
        "image_encoder/hidden_states[2]",
        "image features",
        "image_tokens",
        "inputs_embeds",
        "logits",
    ] {
        let patched = Edits::new().patch(name, &seen).run(|| loss(&wrong))?;
        assert_eq!(bits(&patched)?, bits(&wanted)?, "{name}");
    }
    assert!(difference(&loss(&wrong)?, &wanted)? > 1e-3);
    Ok(())
}

#[test]
fn a_generation_is_edited_at_every_step_with_and_without_a_cache() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let image = picture([200, 30, 40])?;
    let write = |cached: bool| {
        let generate = vlm.generate(&image)?.max_new_tokens(6).stop_at(Vec::new());
        let generate = if cached {
            generate
        } else {
            generate.without_cache()
        };
        generate.keep_logits().run()
    };
    let plain = write(true)?;
    let direction = (Tensor::rand(-1f32, 1.0, vlm.llm.config.hidden_size, &Device::Cpu)? * 3.0)?;
    for edits in [
        Edits::new().add("llm/hidden_states[2]", &direction),
        Edits::new()
            .zero(Site::heads("llm", 1).head(0))
            .scale("llm/layers[0]/mlp", 0.0),
        Edits::new().zero("image_tokens"),
    ] {
        let (cached, again) = (edits.run(|| write(true))?, edits.run(|| write(false))?);
        assert_eq!(cached.ids, again.ids);
        let (cached, again) = (
            cached.logits.ok_or("logits")?,
            again.logits.ok_or("logits")?,
        );
        assert!(difference(&cached, &again)? < 1e-3);
        assert!(difference(&cached, plain.logits.as_ref().ok_or("logits")?)? > 1e-3);
    }
    // A word that can't be said: its logit at every step.
    let first = plain.ids[0];
    let mut bias = vec![0f32; vlm.llm.config.vocab_size];
    bias[first as usize] = -1e9;
    let bias = Tensor::new(bias, &Device::Cpu)?;
    let without = Edits::new().add("logits", &bias).run(|| write(true))?;
    assert!(!without.ids.contains(&first));
    assert_eq!(write(true)?.ids, plain.ids); // nothing stays
    Ok(())
}

#[test]
fn other_encoders_have_names_of_their_own() -> Outcome {
    let mut vlm = Vlm::tiny(&Device::Cpu)?;
    let tower = Tower::load(tests().join("towers/siglip"), DType::F32, &Device::Cpu)?;
    let side = tower.config.image_size;
    vlm.add_encoder("siglip", tower, ProjectorKind::Linear, 9)?;
    let first = picture([200, 30, 40])?.prepare(&vlm)?;
    let second = Tensor::rand(-1f32, 1.0, (1, 3, side, side), &Device::Cpu)?;
    let prompt = Prompt::new()
        .input(&first)
        .input_for("siglip", &second)
        .text(&[5])
        .target(&[6, 7]);
    let loss = || Ok(vlm.full_sequence_loss_of(&prompt)?.logits);
    let plain = loss()?;
    let (_, seen) = Activations::read(&["other_encoders.siglip/*"], loss)?;
    for name in [
        "pixel_values",
        "hidden_states[0]",
        "layers[0]/heads",
        "image features",
        "image_tokens",
    ] {
        let name = format!("other_encoders.siglip/{name}");
        assert!(seen.names().any(|seen| seen == name), "{name}");
        let zeroed = Edits::new().zero(name.as_str()).run(loss)?;
        assert!(difference(&zeroed, &plain)? > 0.0, "{name}");
    }
    Ok(())
}

/// Reads a spectrum of 64 values in 8 bands, and lets its bands be edited.
#[derive(Clone, Debug)]
struct Spectrum {
    bands: Linear,
}

parts!(Spectrum { bands });

impl Modality for Spectrum {
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        let bands = activation("bands", input.reshape(((), 8, 8))?)?; // [B, 8, 8]
        self.bands.forward(&bands) // [B, 8, D]
    }
    fn dim(&self) -> usize {
        self.bands.output()
    }
    fn positions(&self) -> Positions {
        Positions::sequence(8)
    }
    fn input_axes(&self) -> &'static [&'static str] {
        &["B", "N"]
    }
    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        Ok(TensorView::new(input).render())
    }
}

#[test]
fn an_encoder_of_ones_own_offers_its_activations() -> Outcome {
    let weights = Checkpoint::random(1, DType::F32, &Device::Cpu);
    let bands = Linear::load(&weights, "bands", (8, 32), true)?;
    let vlm = Vlm::tiny(&Device::Cpu)?.for_encoder(Spectrum { bands }, 0)?;
    let input = Tensor::rand(0f32, 1.0, (1, 64), &Device::Cpu)?;
    let mut without = input.flatten_all()?.to_vec1::<f32>()?;
    without[16..24].fill(0.0);
    let without = Tensor::from_vec(without, (1, 64), &Device::Cpu)?;
    let edits = Edits::new().zero(Site::new("image_encoder/bands").token(2));
    let edited = edits.run(|| vlm.image_tokens(&input))?;
    assert_eq!(bits(&edited)?, bits(&vlm.image_tokens(&without)?)?);
    let edited = Edits::new()
        .replace("input", &without)
        .run(|| vlm.image_tokens(&input))?;
    assert_eq!(bits(&edited)?, bits(&vlm.image_tokens(&without)?)?);
    Ok(())
}
