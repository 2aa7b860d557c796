//! Encoders of a cell's own whose weights would never move, because an operation on the way has no backward pass: the first
//! step of training says which.

use glassbox_prelude::candle_core::Result as CandleResult;
use glassbox_prelude::candle_nn;
use glassbox_prelude::candle_nn::Module;
use glassbox_prelude::prelude::*;

use super::{Outcome, frozen_encoder};

/// What stands between the bands of a spectrum and the projector.
type Middle = fn(&Tensor, &Weight) -> CandleResult<Tensor>;

/// 64 values in 8 bands of 8, one linear layer, then something of candle's, with one weight of its own.
#[derive(Clone, Debug)]
struct Own {
    bands: Linear,
    scale: Weight,
    pooler: Option<Linear>,
    middle: Middle,
}

impl Own {
    fn new(middle: Middle) -> Result<Self> {
        let weights = Checkpoint::random(3, DType::F32, &Device::Cpu);
        Ok(Self {
            bands: Linear::load(&weights, "bands", (8, 24), true)?,
            scale: weights.weight("scale", &[24], Init::Ones)?,
            pooler: None,
            middle,
        })
    }
}

impl Network for Own {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part::Linear(&self.bands));
        visitor(Part::Weight(&self.scale));
        if let Some(pooler) = &self.pooler {
            visitor(Part::Linear(pooler));
        }
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        visitor(PartMut::Linear(&mut self.bands))?;
        visitor(PartMut::Weight(&mut self.scale))?;
        match &mut self.pooler {
            Some(pooler) => visitor(PartMut::Linear(pooler)),
            None => Ok(()),
        }
    }
}

impl Modality for Own {
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        let bands = self.bands.forward(&input.reshape(((), 8, 8))?)?; // [B, 8, D]
        Ok((self.middle)(&bands, &self.scale)?)
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

fn layer_norm(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    let zeros = scale.tensor().zeros_like()?;
    candle_nn::LayerNorm::new(scale.tensor().clone(), zeros, 1e-5).forward(bands)
}

fn rms_norm(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    candle_nn::RmsNorm::new(scale.tensor().clone(), 1e-5).forward(bands)
}

fn softmax_last_dim(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    candle_nn::ops::softmax_last_dim(&bands.broadcast_mul(scale.tensor())?)
}

fn rope(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    let angles = Tensor::ones((8, 12), DType::F32, bands.device())?;
    let bands = bands.broadcast_mul(scale.tensor())?.unsqueeze(1)?; // [B, 1, 8, D]
    candle_nn::rotary_emb::rope(&bands.contiguous()?, &angles.cos()?, &angles.sin()?)?.squeeze(1)
}

/// Only the scale lies behind the last operation without a way back.
fn partly(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    bands.detach().broadcast_mul(scale.tensor())
}

fn whole(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    let zeros = scale.tensor().zeros_like()?;
    candle_nn::ops::layer_norm_slow(bands, scale.tensor(), &zeros, 1e-5)
}

fn model(encoder: Own) -> Result<Vlm> {
    let settings = VlmSettings {
        train_encoder: true,
        ..frozen_encoder(ProjectorKind::Linear)
    };
    Vlm::from_pretrained(
        &Preset::tiny().settings(settings).encoder(encoder),
        &Device::Cpu,
    )
}

fn set() -> Result<Vec<(Tensor, Vec<String>)>> {
    let one = |seed: f32| {
        let values = (0..64).map(|place| (place as f32 * seed).sin()).collect();
        let values = Tensor::from_vec::<_, f32>(values, (1, 64), &Device::Cpu)?;
        Ok((values, vec!["a red circle".to_owned()]))
    };
    [0.1, 0.2, 0.3].map(one).into_iter().collect()
}

fn fit(vlm: &Vlm, require_gradients: bool) -> Result<TrainReport> {
    let set = set()?;
    let config = TrainerConfig {
        batch_size: 2,
        steps: 2,
        require_gradients,
        ..TrainerConfig::tour()
    };
    Trainer::new(config)?.fit(vlm, &set, &set)
}

fn values(vlm: &Vlm) -> Result<Vec<Vec<f32>>> {
    let parameters = vlm.trainable_parameters().into_iter();
    parameters
        .map(|p| Ok(p.tensor.flatten_all()?.to_vec1::<f32>()?))
        .collect()
}

#[test]
fn weights_behind_an_operation_without_backward_stop_the_first_step_by_name() -> Outcome {
    let all = ["bands.weight", "bands.bias", "scale"];
    let cases: [(Middle, &[&str]); 5] = [
        (layer_norm, &all),
        (rms_norm, &all),
        (softmax_last_dim, &all),
        (rope, &all),
        (partly, &all[..2]),
    ];
    for (middle, wanted) in cases {
        let vlm = model(Own::new(middle)?)?;
        let before = values(&vlm)?;
        let error = fit(&vlm, true).unwrap_err();
        let Error::NoGradient { parameters, .. } = &error else {
            return Err(format!("{error}").into());
        };
        let ends = |name: &&str| parameters.iter().any(|found| found.ends_with(*name));
        assert_eq!(parameters.len(), wanted.len(), "{parameters:?}");
        assert!(wanted.iter().all(ends), "{parameters:?}");
        let message = error.to_string();
        for operation in [
            "softmax_last_dim",
            "LayerNorm::forward",
            "RmsNorm::forward",
            "rope",
        ] {
            assert!(message.contains(operation), "{message}");
        }
        assert_eq!(values(&vlm)?, before, "no step was taken");
        // Whoever knows may train all the same.
        fit(&vlm, false)?;
        assert_ne!(values(&vlm)?, before);
    }
    fit(&model(Own::new(whole)?)?, true)?;
    Ok(())
}

#[test]
fn a_pooler_that_no_loss_reads_is_named_and_passes_once_it_is_frozen() -> Outcome {
    let weights = Checkpoint::random(4, DType::F32, &Device::Cpu);
    let mut encoder = Own::new(whole)?;
    encoder.pooler = Some(Linear::load(&weights, "pooler.dense", (24, 24), true)?);
    let mut vlm = model(encoder)?;
    let message = fit(&vlm, true).unwrap_err().to_string();
    assert!(
        message.contains("pooler.dense.weight") && message.contains("no loss here reads a pooler"),
        "{message}"
    );
    vlm.image_encoder.visit_mut(&mut |part| match part {
        PartMut::Linear(linear) if linear.name().contains("pooler") => linear.set_trainable(false),
        _ => Ok(()),
    })?;
    fit(&vlm, true)?;
    Ok(())
}

#[test]
fn what_has_no_gradient_yet_passes() -> Outcome {
    // LoRA's A has a gradient of zeros as long as its B is zero, and new tokens' rows have none where no caption uses them.
    let set: Vec<(Image, Vec<String>)> = vec![(
        Image::filled(32, 32, [9; 3])?,
        vec!["a red circle".to_owned()],
    )];
    let config = TrainerConfig {
        batch_size: 1,
        steps: 1,
        ..TrainerConfig::tour()
    };
    let report = Trainer::new(config)?.fit(&Vlm::tiny(&Device::Cpu)?, &set, &set)?;
    assert_eq!(report.new_steps, 1);
    Ok(())
}
