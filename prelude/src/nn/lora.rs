//! LoRA as PEFT defines it: `y = W x + s · B A dropout(x)` with `s = alpha / r` (rsLoRA: `alpha / √r`).
//!
//! [`LoraConfig`] reads and writes `adapter_config.json`; [`Lora`] holds the two factors of one layer. The layer itself is
//! [`super::Linear`]. Which layers a config means is said in [`targets`](super::targets).

use super::checkpoint::{Checkpoint, Init};
use super::parameter::{self, Weight};
use super::targets::{self, LoraPatterns, LoraTargets, one_or_many};
use crate::{Error, Result};
use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which layers get LoRA, and of what size; the fields are those of PEFT's `adapter_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank of the update.
    #[serde(default = "default_r")]
    pub r: usize,
    /// The update is scaled by `lora_alpha / r`.
    #[serde(default = "default_alpha")]
    pub lora_alpha: f64,
    /// Probability of dropping an input value of the update while training.
    #[serde(default)]
    pub lora_dropout: f64,
    /// A layer is adapted when its module path ends in one of these names, e.g. `down_proj`; or when one regular expression
    /// matches the whole path; or, by `all-linear`, whenever it is linear and not the head.
    pub target_modules: LoraTargets,
    /// Layers that are left out, by name or regular expression as in `target_modules`.
    #[serde(default)]
    pub exclude_modules: Option<LoraTargets>,
    /// Scale by `lora_alpha / √r` instead (rank-stabilised LoRA).
    #[serde(default)]
    pub use_rslora: bool,
    /// When set, only layers with these indices (the first number in the module path) are adapted.
    #[serde(default, deserialize_with = "one_or_many")]
    pub layers_to_transform: Option<Vec<usize>>,
    /// What stands before that number in the module path, as regular expressions; absent: anything.
    #[serde(default, deserialize_with = "one_or_many")]
    pub layers_pattern: Option<Vec<String>>,
    /// Ranks that differ from `r`, by regular expression: the first that matches the end of the module path counts.
    #[serde(default)]
    pub rank_pattern: LoraPatterns<usize>,
    /// Alphas that differ from `lora_alpha`, as in `rank_pattern`.
    #[serde(default)]
    pub alpha_pattern: LoraPatterns<f64>,
}

/// PEFT's default.
fn default_r() -> usize {
    8
}

/// PEFT's default.
fn default_alpha() -> f64 {
    8.0
}

impl LoraConfig {
    /// Rank `r` and scale numerator `alpha` on the named layers (`&["all-linear"]`: on all but the head), no dropout.
    pub fn new(r: usize, alpha: f64, target_modules: &[&str]) -> Self {
        Self {
            r,
            lora_alpha: alpha,
            lora_dropout: 0.0,
            target_modules: LoraTargets::named(target_modules),
            exclude_modules: None,
            use_rslora: false,
            layers_to_transform: None,
            layers_pattern: None,
            rank_pattern: LoraPatterns::default(),
            alpha_pattern: LoraPatterns::default(),
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
        let left_out = self.exclude_modules.as_ref();
        if left_out.is_some_and(|left_out| left_out.names(module)) {
            return false;
        }
        let layers = self.layers_to_transform.as_deref().unwrap_or_default();
        let patterns = self.layers_pattern.as_deref().unwrap_or_default();
        self.target_modules.adapts(module)
            && (layers.is_empty()
                || targets::layer_index(module, patterns)
                    .is_some_and(|layer| layers.contains(&layer)))
    }

    /// Rank at this module path.
    pub fn rank(&self, module: &str) -> usize {
        self.rank_pattern.get(module).copied().unwrap_or(self.r)
    }

    /// Factor of `B A x` at this module path.
    pub fn scale(&self, module: &str) -> f64 {
        let alpha = self.alpha_pattern.get(module);
        let alpha = alpha.copied().unwrap_or(self.lora_alpha);
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
    /// A rank of 0, a dropout outside [0, 1), an empty list of targets, a pattern that is no regular expression, fields that
    /// PEFT does not take together.
    pub fn validate(&self) -> Result<()> {
        if self.r == 0 || self.rank_pattern.values().any(|r| *r == 0) {
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
        targets::check("target_modules", self.target_modules.pattern())?;
        let left_out = self.exclude_modules.as_ref();
        targets::check("exclude_modules", left_out.and_then(LoraTargets::pattern))?;
        targets::check("rank_pattern", self.rank_pattern.keys())?;
        targets::check("alpha_pattern", self.alpha_pattern.keys())?;
        targets::check("layers_pattern", self.layers_pattern.iter().flatten())?;
        let together = |one: &str, other: &str| {
            Err(Error::Config(format!(
                "{one} cannot stand beside {other}, in PEFT neither"
            )))
        };
        let pattern = "target_modules as a regular expression or \"all-linear\"";
        match (
            &self.target_modules,
            &self.layers_to_transform,
            &self.layers_pattern,
        ) {
            (LoraTargets::Pattern(_), Some(_), _) => together("layers_to_transform", pattern),
            (LoraTargets::Pattern(_), _, Some(_)) => together("layers_pattern", pattern),
            (_, None, Some(patterns)) if !patterns.is_empty() => Err(Error::Config(
                "layers_pattern needs layers_to_transform".into(),
            )),
            _ => Ok(()),
        }
    }
}

/// The low-rank update of one linear layer.
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

impl Clone for Lora {
    /// As with [`Weight`], a clone trains on its own, dropout included.
    fn clone(&self) -> Self {
        let (training, draws) = if parameter::sharing() {
            (self.training.clone(), self.draws.clone())
        } else {
            let draws = self.draws.lock().unwrap_or_else(PoisonError::into_inner);
            let training = self.training.load(Ordering::Relaxed);
            (
                Arc::new(AtomicBool::new(training)),
                Arc::new(Mutex::new(draws.clone())),
            )
        };
        Self {
            a: self.a.clone(),
            b: self.b.clone(),
            scale: self.scale,
            config: self.config.clone(),
            training,
            draws,
        }
    }
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

    /// Switches dropout on or off.
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

    /// Whether both factors train.
    pub fn is_trainable(&self) -> bool {
        self.a.is_trainable() && self.b.is_trainable()
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
#[derive(Clone)]
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
    }

    fn read(fields: &str) -> LoraConfig {
        let text = format!(r#"{{"r":8,"lora_alpha":16,{fields}}}"#);
        serde_json::from_str(&text).expect("valid")
    }

    #[test]
    fn pattern_keys_are_regular_expressions_and_the_first_match_counts() {
        let config = read(
            r#""target_modules":["down_proj","qkv_proj"],"rank_pattern":{"layers\\.1\\..*":2,"down_proj":4},
            "alpha_pattern":{"model\\.layers\\.0\\.mlp\\..*":64,"^model.layers.1.mlp.down_proj":8,"proj":1,"(qkv|o)_proj":4}"#,
        );
        config.validate().expect("valid");
        let at = |module: &str| (config.rank(module), config.scale(module));
        assert_eq!(at("model.layers.0.mlp.down_proj"), (4, 16.0));
        assert_eq!(at("model.layers.1.mlp.down_proj"), (2, 4.0));
        assert_eq!(at("model.layers.2.mlp.down_proj"), (4, 4.0));
        assert_eq!(at("model.layers.2.self_attn.qkv_proj"), (8, 0.5));
        let bad = read(r#""target_modules":["a"],"alpha_pattern":{"a(":1}"#);
        let error = bad.validate().unwrap_err().to_string();
        assert!(
            error.contains("alpha_pattern") && error.contains("a("),
            "{error}"
        );
    }

    #[test]
    fn targets_may_be_a_regular_expression_or_all_linear() {
        let config = read(
            r#""target_modules":".*\\.(mlp|self_attn)\\.(down|o)_proj","exclude_modules":"model\\.layers\\.1.*""#,
        );
        assert!(config.targets("model.layers.0.mlp.down_proj"));
        assert!(config.targets("model.layers.2.self_attn.o_proj"));
        assert!(!config.targets("model.layers.1.mlp.down_proj"));
        assert!(!config.targets("model.layers.0.mlp.down_projection"));
        let all = read(r#""target_modules":"All-Linear","exclude_modules":["o_proj"]"#);
        assert!(all.targets("model.layers.0.mlp.down_proj") && !all.targets("lm_head"));
        assert!(!all.targets("model.layers.2.self_attn.o_proj"));
        // In PEFT a list holds names.
        assert!(!read(r#""target_modules":["all-linear"]"#).targets("x.down_proj"));
        assert!(LoraConfig::new(1, 1.0, &["all-linear"]).targets("x.down_proj"));
        let both = read(r#""target_modules":"all-linear","layers_to_transform":[1]"#);
        assert!(both.validate().is_err());
    }

    #[test]
    fn layers_pattern_says_which_number_counts() {
        let config = read(
            r#""target_modules":["w"],"layers_to_transform":1,"layers_pattern":["blocks","h"]"#,
        );
        config.validate().expect("valid");
        assert!(config.targets("model.layers.0.blocks.1.w") && config.targets("h.1.w"));
        assert!(!config.targets("model.layers.1.w"));
        let any = read(r#""target_modules":["w"],"layers_to_transform":[1],"layers_pattern":null"#);
        assert!(
            any.targets("model.layers.1.experts.0.w") && !any.targets("model.layers.0.experts.1.w")
        );
        assert!(
            !any.targets("layers.1.w"),
            "PEFT wants something before `layers`"
        );
        assert!(
            read(r#""target_modules":["w"],"layers_pattern":"h""#)
                .validate()
                .is_err()
        );
    }
}
