//! An encoder of something that is no picture, as a user would write it.

use glassbox_prelude::prelude::*;

use super::{Outcome, RAGGED, check_generation, check_gradients, frozen_encoder, logits, train};

/// An encoder of the test's own: 64 values of a spectrum in 8 bands of 8, one linear layer.
#[derive(Clone, Debug)]
struct Spectrum {
    bands: Linear,
    places: Weight,
}

impl Spectrum {
    fn new(seed: u64) -> Result<Self> {
        let weights = Checkpoint::random(seed, DType::F32, &Device::Cpu);
        Ok(Self {
            bands: Linear::load(&weights, "bands", (8, 24), true)?,
            places: weights.weight("places", &[1, 8, 24], Init::Normal(0.5))?,
        })
    }
}

parts!(Spectrum { bands, places });

impl Modality for Spectrum {
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        let bands = self.bands.forward(&input.reshape(((), 8, 8))?)?; // [B, 8, D]
        gelu(&bands.broadcast_add(self.places.tensor())?)
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
        let values = input.flatten_all()?.to_vec1::<f32>()?;
        let plot = LinePlot::new("spectrum").axes("band", "energy");
        Ok(plot.values("", &values).render())
    }
}

/// Spectra with one peak in each of three regions, which a colour stands for, and noise.
fn spectra(count: usize, seed: u64) -> Result<Vec<(Tensor, Vec<String>)>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let one = |number: usize| {
        let region = number % 3;
        let peak = (region * 21) as f32 + rng.random_range(6.0..16.0f32);
        let values = (0..64).map(|x| {
            let near = (x as f32 - peak) / 3.0;
            (-near * near).exp() + rng.random_range(0.0..0.1f32)
        });
        let values = Tensor::from_vec(values.collect::<Vec<f32>>(), (1, 64), &Device::Cpu)?;
        let colour = ["red", "green", "blue"][region];
        Ok((values, vec![format!("a {colour} circle")]))
    };
    (0..count).map(one).collect()
}

fn with_spectrum(seed: u64) -> Result<Vlm> {
    let settings = VlmSettings {
        train_encoder: true,
        ..frozen_encoder(ProjectorKind::Mlp2xGelu)
    };
    let preset = Preset::tiny()
        .settings(settings)
        .encoder(Spectrum::new(seed)?);
    Vlm::from_pretrained(&preset, &Device::Cpu)
}

#[test]
fn an_encoder_of_spectra_learns_to_describe_them() -> Outcome {
    let vlm = with_spectrum(1)?;
    let (examples, held_out) = (spectra(60, 1)?, spectra(9, 2)?);
    let (before, after) = train(&vlm, (&examples, &held_out), LossKind::FullSequence, 220)?;
    assert!(after < 0.2 * before, "{before} → {after}");
    for (spectrum, captions) in &held_out {
        assert_eq!(vlm.generate(spectrum)?.run()?.text.trim(), captions[0]);
    }
    let inputs: Vec<Tensor> = held_out
        .iter()
        .map(|(spectrum, _)| spectrum.clone())
        .collect();
    check_generation(&vlm, &inputs[..2])?;
    let both = Tensor::cat(&inputs[..2], 0)?;
    check_gradients(
        &vlm,
        &vlm.full_sequence_loss(&both, &RAGGED.map(String::from))?,
    )?;

    // Looked at like a picture's model.
    let (input, caption) = (&inputs[0], &held_out[0].1[0]);
    assert!(
        vlm.render_input(input)?
            .html()
            .is_some_and(|html| html.contains("svg"))
    );
    let trace = trace_caption(&vlm, input, caption)?;
    assert!(trace.warnings().is_empty(), "{:?}", trace.warnings());
    assert!(trace.render().plain().contains("[B 1, N 64]"));
    assert!(caption_ledger(&vlm, input, caption)?.errors().is_empty());
    assert!(
        vlm.table()
            .render()
            .plain()
            .contains("image_encoder (Spectrum)")
    );
    let inputs = [
        ("its own".to_owned(), input.clone()),
        ("silence".to_owned(), input.zeros_like()?),
    ];
    let means = caption_losses(&vlm, caption, &inputs)?.means();
    assert!(means[0].1 < means[1].1, "{means:?}");

    // Saved whole, and read onto a fresh encoder of the same kind.
    let saved = tempfile::tempdir()?;
    vlm.save(saved.path())?;
    let preset = Preset::fine_tune(saved.path())?;
    assert!(preset.render().plain().contains("Spectrum"));
    let message = Vlm::from_pretrained(&preset, &Device::Cpu)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("Spectrum") && message.contains(".encoder("),
        "{message}"
    );
    let again = Vlm::from_pretrained(&preset.encoder(Spectrum::new(7)?), &Device::Cpu)?;
    assert_eq!(logits(&again, &both)?, logits(&vlm, &both)?);
    assert_eq!(again.settings, vlm.settings);
    assert_eq!(
        again.trainable_parameters().len(),
        vlm.trainable_parameters().len()
    );
    Ok(())
}

#[test]
fn what_an_own_encoder_lacks_is_said() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?.for_encoder(Spectrum::new(1)?, 0)?;
    assert!(
        vlm.image_encoder
            .named_parameters()
            .iter()
            .all(|p| !p.is_trainable())
    );
    let image = Image::filled(20, 20, [9; 3])?;
    let unsupported = |error: Error, words: &str| {
        assert!(
            matches!(&error, Error::Unsupported { encoder, .. } if encoder == "Spectrum"),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
    };
    unsupported(vlm.generate(&image).unwrap_err(), "[B, N]");
    unsupported(
        trace_caption(&vlm, &image, RAGGED[0]).unwrap_err(),
        "pictures",
    );
    let input = Tensor::zeros((1, 64), DType::F32, &Device::Cpu)?;
    unsupported(
        vlm.image_encoder.attentions(&input).unwrap_err(),
        "attention maps",
    );
    unsupported(vlm.image_encoder.vit().unwrap_err(), "ViT");
    let square = VlmSettings {
        projector: ProjectorKind::PixelShuffle { factor: 2 },
        ..frozen_encoder(ProjectorKind::Linear)
    };
    let preset = Preset::tiny().settings(square).encoder(Spectrum::new(1)?);
    let error = Vlm::from_pretrained(&preset, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("1 × 8"), "{error}");
    let ragged = vec![
        (input.clone(), vec![RAGGED[0].to_owned()]),
        (
            Tensor::zeros((1, 32), DType::F32, &Device::Cpu)?,
            vec![RAGGED[1].to_owned()],
        ),
    ];
    let none: Vec<(Tensor, Vec<String>)> = Vec::new();
    for (set, words) in [
        (&ragged, "Spectrum could not read [1, 32]"),
        (&none, "empty"),
    ] {
        let error = train(&vlm, (set, set), LossKind::FullSequence, 1).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }

    // Frozen, its weights are part of the base: another draw is another base.
    let saved = tempfile::tempdir()?;
    vlm.save(saved.path())?;
    let other = Preset::fine_tune(saved.path())?.encoder(Spectrum::new(2)?);
    let error = Vlm::from_pretrained(&other, &Device::Cpu).unwrap_err();
    assert!(
        error.to_string().contains("another image encoder"),
        "{error}"
    );
    let same = Preset::fine_tune(saved.path())?.encoder(Spectrum::new(1)?);
    let again = Vlm::from_pretrained(&same, &Device::Cpu)?;
    assert_eq!(logits(&again, &input)?, logits(&vlm, &input)?);
    Ok(())
}
