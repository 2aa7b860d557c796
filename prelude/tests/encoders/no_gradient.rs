//! Encoders of a cell's own whose weights would never move, or move another way than down, because an operation on the way has no
//! backward pass: the first step of training says which.

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

parts!(Own {
    bands,
    scale,
    pooler
});

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

/// One way around an operation without a backward pass, and one through it.
fn around_softmax(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    let scaled = bands.broadcast_mul(scale.tensor())?;
    scaled.clone() + (candle_nn::ops::softmax_last_dim(&(scaled * 3.0)?)? * 4.0)?
}

fn around_layer_norm(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    bands.broadcast_mul(scale.tensor())? + layer_norm(bands, scale)?
}

fn around_rms_norm(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    bands.broadcast_mul(scale.tensor())? + rms_norm(bands, scale)?
}

fn around_rope(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    bands.broadcast_mul(scale.tensor())? + rope(bands, scale)?
}

/// A product of which one factor is cut off.
fn gated(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    // Steep, so that what is cut off is a good part of the slope.
    let gate = candle_nn::ops::sigmoid(&(bands.detach() * 16.0)?)?;
    (bands * gate)?.broadcast_mul(scale.tensor())
}

/// Rounded on the way there, not on the way back.
fn straight_through(bands: &Tensor, scale: &Weight) -> CandleResult<Tensor> {
    let bands = bands.broadcast_mul(scale.tensor())?;
    let rounded = (&bands * 4.0)?.round()? * 0.25;
    &bands + (rounded? - &bands)?.detach()
}

#[test]
fn a_gradient_that_is_not_the_slope_of_the_loss_stops_the_first_step_by_name() -> Outcome {
    let cases: [(Middle, &str); 5] = [
        (around_softmax, "scale"),
        (around_layer_norm, "bands.weight"),
        (around_rms_norm, "scale"),
        (around_rope, "scale"),
        (gated, "bands.weight"),
    ];
    for (case, (middle, wanted)) in cases.into_iter().enumerate() {
        let vlm = model(Own::new(middle)?)?;
        let before = values(&vlm)?;
        let error = fit(&vlm, true).err().ok_or(format!(
            "case {case} trained, with {wanted} on a broken path"
        ))?;
        let Error::WrongGradient { parameters, .. } = &error else {
            return Err(format!("{error}").into());
        };
        assert!(
            parameters.iter().any(|name| name.ends_with(wanted)),
            "{parameters:?}"
        );
        let message = error.to_string();
        assert!(
            message.contains("softmax_last_dim") && message.contains("straight-through"),
            "{message}"
        );
        assert_eq!(values(&vlm)?, before, "no step was taken");
        fit(&vlm, false)?;
        assert_ne!(values(&vlm)?, before);
    }
    Ok(())
}

#[test]
fn encoders_whose_gradient_is_the_slope_pass_the_first_step_and_start_where_they_were() -> Outcome {
    let cases: [Middle; 9] = [
        whole,
        |bands, scale| bands.broadcast_mul(scale.tensor())?.relu(),
        |bands, scale| (bands.broadcast_mul(scale.tensor())? * 5.0)?.tanh(),
        |bands, scale| {
            bands + candle_nn::ops::softmax(&bands.broadcast_mul(scale.tensor())?, D::Minus1)?
        },
        |bands, scale| bands.broadcast_mul(scale.tensor())?.gelu(),
        |bands, scale| bands.broadcast_mul(&(scale.tensor() * 1e-3)?),
        |bands, scale| bands.broadcast_mul(&(scale.tensor() * 30.0)?),
        |bands, scale| (bands.broadcast_mul(scale.tensor())? * 20.0)?.sin(),
        |bands, scale| bands.broadcast_mul(scale.tensor())?.abs(),
    ];
    for (index, middle) in cases.into_iter().enumerate() {
        let (one, other) = (model(Own::new(middle)?)?, model(Own::new(middle)?)?);
        fit(&one, true).map_err(|error| format!("case {index}: {error}"))?;
        fit(&other, false)?;
        assert_eq!(values(&one)?, values(&other)?, "the check leaves no trace");
    }
    // What is random of itself is not judged by its slope.
    fit(
        &model(Own::new(|bands, scale| {
            candle_nn::ops::dropout(&bands.broadcast_mul(scale.tensor())?, 0.5)
        })?)?,
        true,
    )?;
    Ok(())
}

#[test]
fn a_straight_through_estimator_trains_for_who_says_so() -> Outcome {
    let vlm = model(Own::new(straight_through)?)?;
    fit(&vlm, false)?;
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
