//! LoRA as PEFT defines it: `y = W x + s · B A dropout(x)` with `s = alpha / r` (rsLoRA: `alpha / √r`).
//!
//! [`LoraConfig`] reads and writes `adapter_config.json`; [`Lora`] holds the two factors of one layer. The layer itself is
//! [`super::Linear`].

use super::checkpoint::{Checkpoint, Init};
use super::parameter::Weight;
use crate::{Error, Result};
use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which layers get LoRA, and of what size; the fields are those of PEFT's `adapter_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank of the update.
    pub r: usize,
    /// The update is scaled by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Probability of dropping an input value of the update while training.
    #[serde(default)]
    pub lora_dropout: f64,
    /// A layer is adapted when its module path ends in one of these names, e.g. `down_proj`.
    #[serde(deserialize_with = "target_modules")]
    pub target_modules: Vec<String>,
    /// Scale by `lora_alpha / √r` instead (rank-stabilised LoRA).
    #[serde(default)]
    pub use_rslora: bool,
    /// When set, only layers with these indices (the first number in the module path) are adapted.
    #[serde(default, deserialize_with = "layer_indices")]
    pub layers_to_transform: Option<Vec<usize>>,
    /// Ranks that differ from `r`, by name as in `target_modules`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas that differ from `lora_alpha`, by name as in `target_modules`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub alpha_pattern: BTreeMap<String, f64>,
}

impl LoraConfig {
    /// Rank `r` and scale numerator `alpha` on the named layers, no dropout.
    pub fn new(r: usize, alpha: f64, target_modules: &[&str]) -> Self {
        Self {
            r,
            lora_alpha: alpha,
            lora_dropout: 0.0,
            target_modules: target_modules.iter().map(ToString::to_string).collect(),
            use_rslora: false,
            layers_to_transform: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }

    /// The blog's LoRA for Phi-3: r 64, alpha 32, dropout 0.1 on the MLP (62,914,560 parameters on Phi-3-mini).
    pub fn blog_llm() -> Self {
        Self {
            lora_dropout: 0.1,
            ..Self::new(64, 32.0, &["gate_up_proj", "down_proj"])
        }
    }

    /// The blog's LoRA for the ViT: r 8, alpha 32 on every `dense` (884,736 parameters on ViT-B/16).
    pub fn blog_vit() -> Self {
        Self {
            lora_dropout: 0.1,
            ..Self::new(8, 32.0, &["dense"])
        }
    }

    /// Whether the layer at this module path is adapted.
    pub fn targets(&self, module: &str) -> bool {
        let named = self
            .target_modules
            .iter()
            .any(|t| t == "all-linear" || ends_in(module, t));
        let head =
            self.target_modules.iter().any(|t| t == "all-linear") && ends_in(module, "lm_head");
        let layer = match &self.layers_to_transform {
            None => true,
            Some(wanted) => module
                .split('.')
                .find_map(|part| part.parse::<usize>().ok())
                .is_some_and(|layer| wanted.contains(&layer)),
        };
        named && !head && layer
    }

    /// Rank at this module path.
    pub fn rank(&self, module: &str) -> usize {
        self.rank_pattern
            .iter()
            .find(|(name, _)| ends_in(module, name))
            .map_or(self.r, |(_, r)| *r)
    }

    /// Factor of `B A x` at this module path.
    pub fn scale(&self, module: &str) -> f64 {
        let alpha = self
            .alpha_pattern
            .iter()
            .find(|(name, _)| ends_in(module, name))
            .map_or(self.lora_alpha, |(_, a)| *a);
        let r = self.rank(module) as f64;
        if self.use_rslora {
            alpha / r.sqrt()
        } else {
            alpha / r
        }
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// A rank of 0, a dropout outside [0, 1), an empty list of targets.
    pub fn validate(&self) -> Result<()> {
        if self.r == 0 || self.rank_pattern.values().any(|&r| r == 0) {
            return Err(Error::Config("LoRA's r must be at least 1".into()));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return Err(Error::Config(format!(
                "lora_dropout must be in [0, 1), not {}",
                self.lora_dropout
            )));
        }
        if self.target_modules.is_empty() {
            return Err(Error::Config(
                "LoRA's target_modules is empty: name at least one layer".into(),
            ));
        }
        Ok(())
    }
}

/// Whether a module path is `name` or ends in `.name`.
fn ends_in(module: &str, name: &str) -> bool {
    module
        .strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn target_modules<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Targets {
        List(Vec<String>),
        Pattern(String),
    }
    match Targets::deserialize(deserializer)? {
        Targets::List(list) => Ok(list),
        Targets::Pattern(pattern)
            if pattern
                .chars()
                .all(|c| c.is_alphanumeric() || "._-".contains(c)) =>
        {
            Ok(vec![pattern])
        }
        Targets::Pattern(pattern) => Err(serde::de::Error::custom(format!(
            "target_modules is the regular expression {pattern:?}; write it as a list of layer names"
        ))),
    }
}

fn layer_indices<'de, D: serde::Deserializer<'de>>(
    d: D,
) -> std::result::Result<Option<Vec<usize>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Layers {
        One(usize),
        Many(Vec<usize>),
    }
    Ok(
        Option::<Layers>::deserialize(d)?.map(|layers| match layers {
            Layers::One(layer) => vec![layer],
            Layers::Many(layers) => layers,
        }),
    )
}

fn null_is_empty<'de, D, T>(deserializer: D) -> std::result::Result<BTreeMap<String, T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The low-rank update of one linear layer.
#[derive(Clone, Debug)]
pub struct Lora {
    /// `[r, in]`.
    pub a: Weight,
    /// `[out, r]`.
    pub b: Weight,
    /// Factor of `B A x`.
    pub scale: f64,
    config: Arc<LoraConfig>,
    training: Arc<AtomicBool>,
    draws: Arc<Mutex<Draws>>,
}

impl Lora {
    /// A fresh update for the layer at `module`: A uniform in ±1/√in, B zero, both trainable.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn new(
        config: &LoraConfig,
        module: &str,
        (input, output): (usize, usize),
        like: &Tensor,
        seed: u64,
    ) -> Result<Self> {
        let r = config.rank(module);
        let checkpoint = Checkpoint::random(seed, like.dtype(), like.device());
        let (a_name, b_name) = (Self::a_name(module), Self::b_name(module));
        let a = checkpoint.get(
            &a_name,
            &[r, input],
            Init::Uniform(1.0 / (input as f64).sqrt()),
        )?;
        let b = checkpoint.get(&b_name, &[output, r], Init::Zeros)?;
        Ok(Self {
            a: Weight::trainable(a_name, &a)?,
            b: Weight::trainable(b_name, &b)?,
            scale: config.scale(module),
            config: Arc::new(config.clone()),
            training: Arc::new(AtomicBool::new(false)),
            draws: Draws::new(seed),
        })
    }

    /// The frozen update of the layer at `module` from its factors, A `[r, in]` and B `[out, r]`.
    pub(crate) fn from_factors(
        config: &LoraConfig,
        module: &str,
        scale: f64,
        a: Tensor,
        b: Tensor,
    ) -> Self {
        Self {
            a: Weight::frozen(Self::a_name(module), a),
            b: Weight::frozen(Self::b_name(module), b),
            scale,
            config: Arc::new(config.clone()),
            training: Arc::new(AtomicBool::new(false)),
            draws: Draws::new(0),
        }
    }

    /// The same frozen update in another dtype or on another device.
    pub(crate) fn to(
        mut self,
        dtype: candle_core::DType,
        device: &candle_core::Device,
    ) -> Result<Self> {
        for weight in [&mut self.a, &mut self.b] {
            let moved = weight.tensor().to_dtype(dtype)?.to_device(device)?;
            *weight = Weight::frozen(weight.name().to_string(), moved);
        }
        Ok(self)
    }

    /// PEFT's name of the factor A of a module.
    pub fn a_name(module: &str) -> String {
        format!("base_model.model.{module}.lora_A.weight")
    }

    /// PEFT's name of the factor B of a module.
    pub fn b_name(module: &str) -> String {
        format!("base_model.model.{module}.lora_B.weight")
    }

    /// Rank.
    pub fn rank(&self) -> usize {
        self.a.tensor().dims()[0]
    }

    /// Makes both factors trainable or frozen.
    ///
    /// # Errors
    /// When a factor cannot be copied into a variable.
    pub fn set_trainable(&mut self, trainable: bool) -> Result<()> {
        self.a.set_trainable(trainable)?;
        self.b.set_trainable(trainable)
    }

    /// What it was made from.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Switches dropout on or off, for clones too.
    pub fn set_training(&self, training: bool) {
        self.training.store(training, Ordering::Relaxed);
        if training {
            let mut draws = self.draws.lock().unwrap_or_else(PoisonError::into_inner);
            draws.before = draws.now.clone();
        }
    }

    /// Draws again what was drawn since dropout was last switched on: the step that it was for is not taken.
    pub(crate) fn take_back_draws(&self) {
        let mut draws = self.draws.lock().unwrap_or_else(PoisonError::into_inner);
        draws.now = draws.before.clone();
    }

    /// Whether inputs are dropped at the moment.
    pub(crate) fn drops(&self) -> bool {
        self.config.lora_dropout > 0.0 && self.training.load(Ordering::Relaxed)
    }

    /// The input of the update: `x` with some values zeroed and the others scaled up, while training. `[.., in] → [.., in]`
    pub(crate) fn dropped(&self, x: &Tensor) -> Result<Tensor> {
        if !self.drops() {
            return Ok(x.clone());
        }
        let mut draws = self.draws.lock().unwrap_or_else(PoisonError::into_inner);
        let rng = &mut draws.now;
        let keep = 1.0 - self.config.lora_dropout;
        let (threshold, scale) = ((keep * f64::from(u32::MAX)) as u32, (1.0 / keep) as f32);
        let mask: Vec<f32> = (0..x.elem_count())
            .map(|_| {
                if rng.random::<u32>() <= threshold {
                    scale
                } else {
                    0.0
                }
            })
            .collect();
        let mask = Tensor::from_vec(mask, x.dims(), x.device())?.to_dtype(x.dtype())?; // [.., in]
        Ok((x * mask)?)
    }

    /// `s · B A`, `[out, in]`: what merging adds to the weight.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn delta(&self) -> Result<Tensor> {
        let (a, b) = (self.a.tensor().detach(), self.b.tensor().detach());
        Ok((b.matmul(&a)? * self.scale)?)
    }
}

/// What dropout draws from, and from where on it did so in this training step.
#[derive(Debug)]
struct Draws {
    now: ChaCha8Rng,
    before: ChaCha8Rng,
}

impl Draws {
    fn new(seed: u64) -> Arc<Mutex<Draws>> {
        let now = ChaCha8Rng::seed_from_u64(seed);
        let before = now.clone();
        Arc::new(Mutex::new(Draws { now, before }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_by_suffix_of_whole_names() {
        let config = LoraConfig::new(4, 8.0, &["down_proj", "dense"]);
        assert!(config.targets("model.layers.3.mlp.down_proj"));
        assert!(config.targets("encoder.layer.0.attention.output.dense"));
        assert!(!config.targets("model.layers.3.mlp.updown_proj"));
        let second = LoraConfig {
            layers_to_transform: Some(vec![2]),
            ..config
        };
        assert!(second.targets("model.layers.2.mlp.down_proj"));
        assert!(!second.targets("model.layers.3.mlp.down_proj"));
        assert!(!second.targets("pooler.dense"));
    }

    #[test]
    fn scale_is_alpha_over_r_or_root_r() {
        let config = LoraConfig::new(16, 8.0, &["x"]);
        assert!((config.scale("x") - 0.5).abs() < 1e-12);
        let stabilised = LoraConfig {
            use_rslora: true,
            ..config
        };
        assert!((stabilised.scale("x") - 2.0).abs() < 1e-12);
    }

    #[test]
    fn reads_what_peft_writes() {
        let text = r#"{"peft_type":"LORA","r":8,"lora_alpha":16,"lora_dropout":0.0,"target_modules":["a","b"],
            "use_rslora":false,"layers_to_transform":null,"rank_pattern":{},"alpha_pattern":{"b":4}}"#;
        let config: LoraConfig = serde_json::from_str(text).expect("valid");
        assert_eq!(config.r, 8);
        assert!((config.scale("m.b") - 0.5).abs() < 1e-12);
        assert!(LoraConfig { r: 0, ..config }.validate().is_err());
        assert!(
            serde_json::from_str::<LoraConfig>(
                r#"{"r":1,"lora_alpha":1,"target_modules":".*(a|b)"}"#
            )
            .is_err()
        );
    }
}
