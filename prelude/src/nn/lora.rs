//! LoRA as PEFT defines it: `y = W x + s · B A dropout(x)` with `s = alpha / r` (rsLoRA: `alpha / √r`); with DoRA each row of
//! `W + s · B A` is brought to a length that is learned.
//!
//! [`LoraConfig`] reads and writes `adapter_config.json`; [`Lora`] holds the two factors of one layer. The layer itself is
//! [`super::Linear`]. Which layers a config means is said in [`super::targets`].

use super::checkpoint::{Checkpoint, Init};
use super::dropout;
use super::ops;
use super::parameter::{self, Weight};
use super::role::Role;
use super::targets::{self, LoraPatterns, LoraTargets, one_or_many};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which layers get LoRA, and of what size; the fields are those of PEFT's `adapter_config.json`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let mut vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let config = LoraConfig::new(4, 8.0, &["query", "value"]); // rank, alpha, which layers
/// assert_eq!(vit.add_lora(&config, 1)?, 4); // two in each of two layers
/// assert_eq!(config.scale("layer.0.attention.query"), 2.0); // alpha over rank
/// # Ok(()) }
/// ```
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
    /// DoRA: the length of each row of `W + s · B A` is a value of its own that trains, `m`; the rows give the direction.
    #[serde(default)]
    pub use_dora: bool,
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
            use_dora: false,
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let mut fc = Linear::load(&Checkpoint::random(1, DType::F32, &Device::Cpu), "fc", (8, 6), false)?;
/// let x = Tensor::randn(0f32, 1.0, (1, 8), &Device::Cpu)?;
/// let before = fc.forward(&x)?.to_vec2::<f32>()?;
/// fc.add_lora(&LoraConfig::new(2, 4.0, &["fc"]), 1)?;
/// let lora: &Lora = fc.lora.as_ref().expect("it was added");
/// assert_eq!((lora.a.tensor().dims(), lora.b.tensor().dims(), lora.scale), (&[2, 8][..], &[6, 2][..], 2.0));
/// assert_eq!(fc.forward(&x)?.to_vec2::<f32>()?, before); // B begins as zeros
/// # Ok(()) }
/// ```
pub struct Lora {
    /// `[r, in]`.
    pub a: Weight,
    /// `[out, r]`.
    pub b: Weight,
    /// Factor of `B A x`.
    pub scale: f64,
    /// With DoRA, `[out]`: the length that each row of the adapted weight has.
    pub magnitude: Option<Weight>,
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
            magnitude: self.magnitude.clone(),
            config: self.config.clone(),
            training,
            draws,
        }
    }
}

impl Lora {
    /// A fresh update for the layer at `module`: A uniform in ±1/√in, B zero, with DoRA the lengths of the rows of the weight
    /// `like`; all trainable.
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
        let checkpoint = Checkpoint::random(seed, Self::dtype(like.dtype()), like.device());
        let (a_name, b_name) = (Self::a_name(module), Self::b_name(module));
        let a = checkpoint.get(
            &a_name,
            &[r, input],
            Init::Uniform(1.0 / (input as f64).sqrt()),
        )?;
        let b = checkpoint.get(&b_name, &[output, r], Init::Zeros)?;
        let magnitude = match config.use_dora {
            true => Some(
                Weight::trainable(Self::magnitude_name(module), &row_lengths(like)?)?
                    .with_role(Role::LoraMagnitude),
            ),
            false => None,
        };
        Ok(Self {
            a: Weight::trainable(a_name, &a)?.with_role(Role::LoraA),
            b: Weight::trainable(b_name, &b)?.with_role(Role::LoraB),
            scale: config.scale(module),
            magnitude,
            config: Arc::new(config.clone()),
            training: Arc::new(AtomicBool::new(false)),
            draws: Draws::new(seed),
        })
    }

    /// The frozen update of the layer at `module` from its factors, A `[r, in]` and B `[out, r]`, and DoRA's lengths `[out]`.
    pub(crate) fn from_factors(
        config: &LoraConfig,
        module: &str,
        scale: f64,
        (a, b): (Tensor, Tensor),
        magnitude: Option<Tensor>,
    ) -> Self {
        Self {
            a: Weight::frozen(Self::a_name(module), a).with_role(Role::LoraA),
            b: Weight::frozen(Self::b_name(module), b).with_role(Role::LoraB),
            scale,
            magnitude: magnitude.map(|m| {
                Weight::frozen(Self::magnitude_name(module), m).with_role(Role::LoraMagnitude)
            }),
            config: Arc::new(config.clone()),
            training: Arc::new(AtomicBool::new(false)),
            draws: Draws::new(0),
        }
    }

    /// The same frozen update in another dtype or on another device.
    pub(crate) fn to(mut self, dtype: DType, device: &candle_core::Device) -> Result<Self> {
        for weight in [&mut self.a, &mut self.b]
            .into_iter()
            .chain(&mut self.magnitude)
        {
            let moved = weight.tensor().to_dtype(dtype)?.to_device(device)?;
            *weight = weight.with_values(moved)?;
        }
        Ok(self)
    }

    /// What the factors are kept in beside a weight of this dtype: f32 beside bf16 and f16, whose last digit most steps do not reach;
    /// PEFT does the same.
    pub(crate) fn dtype(weight: DType) -> DType {
        match weight {
            DType::BF16 | DType::F16 => DType::F32,
            other => other,
        }
    }

    /// PEFT's name of the factor A of a module.
    pub(crate) fn a_name(module: &str) -> String {
        format!("base_model.model.{module}.lora_A.weight")
    }

    /// PEFT's name of the factor B of a module.
    pub(crate) fn b_name(module: &str) -> String {
        format!("base_model.model.{module}.lora_B.weight")
    }

    /// PEFT's name of DoRA's lengths of a module.
    pub(crate) fn magnitude_name(module: &str) -> String {
        format!("base_model.model.{module}.lora_magnitude_vector")
    }

    /// All that trains of it: A, B and DoRA's lengths.
    pub(crate) fn weights(&self) -> impl Iterator<Item = &Weight> {
        [&self.a, &self.b].into_iter().chain(&self.magnitude)
    }

    /// The same, to be changed.
    pub(crate) fn weights_mut(&mut self) -> impl Iterator<Item = &mut Weight> {
        [&mut self.a, &mut self.b]
            .into_iter()
            .chain(&mut self.magnitude)
    }

    /// Rank.
    pub fn rank(&self) -> usize {
        self.a.tensor().dims()[0]
    }

    /// Makes both factors, and DoRA's lengths, trainable or frozen.
    ///
    /// # Errors
    /// When a factor cannot be copied into a variable.
    pub fn set_trainable(&mut self, trainable: bool) -> Result<()> {
        let mut weights = self.weights_mut();
        weights.try_for_each(|weight| weight.set_trainable(trainable))
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

    /// From where dropout draws next; `None` where it never does.
    pub(crate) fn draw_place(&self) -> Option<DrawPlace> {
        let draws = self.draws.lock().unwrap_or_else(PoisonError::into_inner);
        (self.config.lora_dropout > 0.0).then(|| DrawPlace {
            seed: draws.now.get_seed(),
            stream: draws.now.get_stream(),
            word: draws.now.get_word_pos().to_string(),
        })
    }

    /// Has dropout draw from there on.
    ///
    /// # Errors
    /// When the place is none.
    pub(crate) fn set_draw_place(&self, place: &DrawPlace) -> Result<()> {
        let word: u128 = place.word.parse().map_err(|_| {
            Error::Input(format!("{:?} is no place in a random stream", place.word))
        })?;
        let mut now = ChaCha8Rng::from_seed(place.seed);
        now.set_stream(place.stream);
        now.set_word_pos(word);
        let mut draws = self.draws.lock().unwrap_or_else(PoisonError::into_inner);
        draws.before = now.clone();
        draws.now = now;
        Ok(())
    }

    /// What dropout draws from next.
    pub(super) fn draws(&self) -> ChaCha8Rng {
        let draws = self.draws.lock().unwrap_or_else(PoisonError::into_inner);
        draws.now.clone()
    }

    /// Has dropout draw from there next; what [`Lora::take_back_draws`] goes back to stays.
    pub(super) fn set_draws(&self, now: ChaCha8Rng) {
        let mut draws = self.draws.lock().unwrap_or_else(PoisonError::into_inner);
        draws.now = now;
    }

    /// Whether dropout is switched on.
    pub(super) fn is_training(&self) -> bool {
        self.training.load(Ordering::Relaxed)
    }

    /// As [`Lora::set_training`]; what [`Lora::take_back_draws`] goes back to stays.
    pub(super) fn set_mode(&self, training: bool) {
        self.training.store(training, Ordering::Relaxed);
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
        let keep = 1.0 - self.config.lora_dropout;
        let width = x.dim(candle_core::D::Minus1)?;
        let rows = x.elem_count() / width.max(1);
        let mask = match dropout::mask(self.a.name(), (rows, width), keep)? {
            Some(mask) => mask,
            None => {
                let mut draws = self.draws.lock().unwrap_or_else(PoisonError::into_inner);
                dropout::mask_from(x.elem_count(), keep, &mut draws.now)
            }
        };
        let mask = Tensor::from_vec(mask, x.dims(), x.device())?.to_dtype(x.dtype())?; // [.., in]
        Ok((x * mask)?)
    }

    /// What it adds to the layer's output, `s · B A dropout(x)`, in the factors' dtype: `[.., in] → [.., out]`.
    ///
    /// # Errors
    /// When the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.dropped(x)?.to_dtype(self.a.tensor().dtype())?; // [.., in]
        let x = x.contiguous()?;
        ops::lora(&x, (self.a.tensor(), self.b.tensor()), self.scale)
    }

    /// The layer `W x + b` and this in one operation, where there is one for them: not while inputs are dropped, nor with DoRA.
    pub(super) fn fused_with(
        &self,
        x: &Tensor,
        layer: (ops::Values<'_>, Option<&Tensor>),
    ) -> Result<Option<Tensor>> {
        match self.drops() || self.magnitude.is_some() {
            true => Ok(None),
            false => {
                ops::linear_with_lora(x, layer, (self.a.tensor(), self.b.tensor()), self.scale)
            }
        }
    }

    /// With DoRA: what is added to the layer's output `y = W x + b`, in PEFT's order: `(scale − 1) · W x + scale · s · B A x`, `[.., out]`.
    /// What dropout takes is taken of both.
    pub(super) fn dora(
        &self,
        x: &Tensor,
        (y, weight, bias): (&Tensor, ops::Values<'_>, Option<&Tensor>),
        scale: &Tensor,
    ) -> Result<Tensor> {
        let (a, b) = (self.a.tensor(), self.b.tensor());
        let dropped = self.dropped(x)?.contiguous()?; // [.., in]
        let update = ops::lora(&dropped.to_dtype(a.dtype())?, (a, b), self.scale)?; // [.., out]
        let base = match (self.drops(), bias) {
            (true, _) => ops::linear(&dropped, weight, None)?, // [.., out]
            (false, Some(bias)) => y.broadcast_sub(bias)?,
            (false, None) => y.clone(),
        };
        let base = base
            .to_dtype(update.dtype())?
            .broadcast_mul(&(scale - 1.0)?)?; // [.., out]
        Ok((base + update.broadcast_mul(scale)?)?)
    }

    /// The lengths of the rows of `W + s · B A` take all values of W in each pass.
    pub(crate) fn check_dora(weight: &Weight) -> Result<()> {
        match weight.blocks() {
            None => Ok(()),
            Some(blocks) => Err(Error::Input(format!(
                "{}: DoRA needs all values of the weight in each pass, and it is held as {}: use LoRA without `use_dora`, or have \
                 floats first with `dequantize()?`",
                weight.name(),
                blocks.kind()
            ))),
        }
    }

    /// With DoRA, `[out]`: what each row of `W + s · B A` is multiplied by, with a gradient to the lengths `m` alone, as in the
    /// paper and in PEFT.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(super) fn row_scale(&self, weight: &Weight) -> Result<Option<Tensor>> {
        let Some(magnitude) = &self.magnitude else {
            return Ok(None);
        };
        Self::check_dora(weight)?;
        let weight = weight.tensor();
        let delta = self.delta()?; // [out, in]
        let adapted = (weight.detach().to_dtype(delta.dtype())? + delta)?; // [out, in]
        Ok(Some((magnitude.tensor() / row_lengths(&adapted)?)?)) // [out]
    }

    /// `s · B A`, `[out, in]`: what merging adds to the weight; with DoRA before its rows are brought to their lengths.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut fc = Linear::load(&Checkpoint::random(1, DType::F32, &Device::Cpu), "fc", (8, 6), false)?;
    /// fc.add_lora(&LoraConfig::new(2, 4.0, &["fc"]), 1)?;
    /// let delta = fc.lora.as_ref().expect("it was added").delta()?; // s · B A, as large as the weight
    /// assert_eq!(delta.dims(), fc.weight.tensor().dims());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn delta(&self) -> Result<Tensor> {
        let (a, b) = (self.a.tensor().detach(), self.b.tensor().detach());
        Ok((b.matmul(&a)? * self.scale)?)
    }
}

/// The length of each row, `[out, in] → [out]`, in f32 for a weight of half precision.
fn row_lengths(weight: &Tensor) -> Result<Tensor> {
    let weight = weight.detach().to_dtype(Lora::dtype(weight.dtype()))?;
    Ok(weight.sqr()?.sum(1)?.sqrt()?) // [out]
}

/// A place in the random stream of a layer's dropout, as a checkpoint holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrawPlace {
    seed: [u8; 32],
    stream: u64,
    /// Words that were drawn; as text, for JSON has no numbers of that size.
    word: String,
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
