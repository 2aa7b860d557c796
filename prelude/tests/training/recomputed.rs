//! Gradient checkpointing of encoders: the same losses and gradients to the bit, in less memory.

use glassbox_prelude::candle_core::{DType, Tensor};
use glassbox_prelude::display::{MimeBundle, Render};
use glassbox_prelude::nn::{Checkpoint, Linear, LoraConfig, Network};
use glassbox_prelude::train::{Trainer, TrainerSettings};
use glassbox_prelude::vision::{Encoder, Modality, Positions, Tower, TowerConfig, ViTConfig, Vit};
use glassbox_prelude::vlm::Vlm;
use glassbox_prelude::{Error, Result};

use super::{alone, device, settings, squares, values};

/// Encoders of some layers, whose activations are most of what a step takes.
fn encoders() -> Result<Vec<Encoder>> {
    let vit = Vit::new_random(&ViTConfig::new(96, 8, 48, 192, 6, 4), 1, &device()?)?;
    let tower = |json: &str| -> Result<Tower> {
        let config = TowerConfig::from_json(json, std::path::Path::new("config.json"))?;
        Tower::from_checkpoint(&config, &Checkpoint::random(2, DType::F32, &device()?))
    };
    let siglip = tower(
        r#"{"model_type": "siglip_vision_model", "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 6,
            "num_attention_heads": 4, "image_size": 96, "patch_size": 8}"#,
    )?;
    let dinov2 = tower(
        r#"{"model_type": "dinov2", "hidden_size": 48, "mlp_ratio": 4, "num_hidden_layers": 6, "num_attention_heads": 4,
            "image_size": 96, "patch_size": 8}"#,
    )?;
    Ok(vec![vit.into(), siglip.into(), dinov2.into()])
}

#[test]
fn encoders_that_are_computed_again_take_the_same_steps_to_the_bit_in_less_memory() -> Result<()> {
    let _alone = alone();
    let set = squares(8)?;
    for encoder in encoders()? {
        let kind = encoder.kind();
        for lora in [false, true] {
            let run = |gradient_checkpointing| -> Result<_> {
                let mut vlm = Vlm::tiny(&device()?)?.for_encoder(encoder.clone(), 0)?;
                match lora {
                    true => {
                        // Dropout has to draw the same when it is computed again.
                        let lora = LoraConfig {
                            lora_dropout: 0.2,
                            ..LoraConfig::new(4, 8.0, &["all-linear"])
                        };
                        vlm.image_encoder.add_lora(&lora, 3)?;
                    }
                    false => vlm.image_encoder.set_trainable(true)?,
                }
                let mut trainer = Trainer::new(TrainerSettings {
                    gradient_checkpointing,
                    require_gradients: false, // behind the hidden state that is read, nothing gets one
                    batch_size: 4,
                    ..settings(3)
                })?;
                trainer.fit(&vlm, &set, &set)?;
                let records = trainer.records().iter();
                let figures: Vec<(u64, u64)> = records
                    .map(|record| (record.loss.to_bits(), record.norm.to_bits()))
                    .collect();
                let sample = trainer.plan().and_then(|plan| plan.sample);
                Ok((values(&vlm)?, figures, sample))
            };
            let (plain, figures, sample) = run(false)?;
            let (again, other, less) = run(true)?;
            assert_eq!(figures, other, "{kind}");
            for ((name, one), (_, other)) in plain.iter().zip(&again) {
                assert_eq!(one, other, "{kind}: {name}");
            }
            if let (Some((bytes, _)), Some((less, _))) = (sample, less) {
                println!(
                    "{kind}, lora {lora}: a sample takes {bytes} bytes, computed again {less}"
                );
                assert!(2 * less < bytes, "{kind}: {less} {bytes}");
            }
        }
    }
    Ok(())
}

/// Layers that only their writer knows: an encoder of a cell.
#[derive(Clone, Debug)]
struct OwnEncoder(Linear);

glassbox_prelude::parts!(OwnEncoder { 0 });

impl Modality for OwnEncoder {
    fn kind(&self) -> String {
        "own".into()
    }

    fn positions(&self) -> Positions {
        Positions {
            special: 0,
            rows: 2,
            columns: 2,
        }
    }

    fn dim(&self) -> usize {
        8
    }

    fn input_axes(&self) -> &'static [&'static str] {
        &["B", "P", "V"]
    }

    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        Ok(MimeBundle::text(format!("{:?}", input.dims())))
    }

    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        self.0.forward(input) // [B, P, 8]
    }
}

#[test]
fn an_encoder_that_is_not_computed_again_is_named_before_the_first_step() -> Result<()> {
    let _alone = alone();
    let weights = Checkpoint::random(1, DType::F32, &device()?);
    let own = OwnEncoder(Linear::load(&weights, "own", (6, 8), true)?);
    let input = Tensor::rand(-1f32, 1.0, (1, 4, 6), &device()?)?;
    let set = vec![(input, vec!["a red star".to_owned()])];
    for (trains, gradient_checkpointing, named) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
    ] {
        let mut vlm = Vlm::tiny(&device()?)?.for_encoder(own.clone(), 0)?;
        vlm.image_encoder.set_trainable(trains)?;
        let mut trainer = Trainer::new(TrainerSettings {
            gradient_checkpointing,
            batch_size: 1,
            ..settings(1)
        })?;
        trainer.fit(&vlm, &set, &set)?;
        let plan = trainer.plan().cloned();
        let plan = plan.ok_or_else(|| Error::Input("no plan".into()))?;
        let says = plan.render().plain().to_owned();
        let kept = "Gradient checkpointing does nothing for image_encoder (own)";
        assert_eq!(says.contains(kept), named, "{says}");
        assert_eq!(plan.not_recomputed.len(), usize::from(named));
    }
    Ok(())
}
