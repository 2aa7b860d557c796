//! The frequencies of rotary positions: plain, linear, llama3, YaRN and LongRoPE, as transformers' `modeling_rope_utils` has them.
//!
//! ```text
//! rope_theta, the values of a head that turn, rope_scaling ─ Rope ─ length of the sequence ─▶ frequencies, factor on cosine and sine
//! ```

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::f64::consts::PI;

/// The `rope_scaling` entry of a config (transformers 5: part of `rope_parameters`).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let text = r#"{"model_type": "llama", "vocab_size": 100, "hidden_size": 16, "intermediate_size": 32,
///     "num_hidden_layers": 2, "num_attention_heads": 2, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}"#;
/// let config = DecoderConfig::from_json(text)?;
/// assert_eq!(config.rope_scaling.as_ref().map(|scaling| scaling.name()), Some("linear"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RopeScaling {
    /// The older spelling of `rope_type`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `default`, `linear`, `llama3`, `yarn`, or `longrope` (older name: `su`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_type: Option<String>,
    /// How many times longer the context became.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// LongRoPE: one factor per frequency, for sequences up to `original_max_position_embeddings`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_factor: Vec<f64>,
    /// LongRoPE: one factor per frequency, for longer sequences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub long_factor: Vec<f64>,
    /// Longest sequence before the context was stretched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_max_position_embeddings: Option<usize>,
    /// YaRN, LongRoPE: factor on cosine and sine; absent: from the stretch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// llama3: wavelengths above `original / low_freq_factor` are stretched in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_freq_factor: Option<f64>,
    /// llama3: wavelengths below `original / high_freq_factor` stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_freq_factor: Option<f64>,
    /// YaRN: frequencies with more turns than this stay; 32 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_fast: Option<f64>,
    /// YaRN: frequencies with fewer turns than this are stretched in full; 1 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_slow: Option<f64>,
    /// YaRN: part of the factor on cosine and sine, with `mscale_all_dim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    /// YaRN: see `mscale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// YaRN: whether the border between stretched and kept frequencies is rounded; yes unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
    /// Whatever else the entry holds, which is refused.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl RopeScaling {
    /// The kind, by its present name.
    pub fn name(&self) -> &str {
        match self.rope_type.as_deref().or(self.kind.as_deref()) {
            Some("su") => "longrope",
            Some(name) => name,
            None => "default",
        }
    }

    /// Fields that say something, by name.
    fn given(&self) -> Vec<&str> {
        let fields = [
            ("factor", self.factor.is_some()),
            ("short_factor", !self.short_factor.is_empty()),
            ("long_factor", !self.long_factor.is_empty()),
            (
                "original_max_position_embeddings",
                self.original_max_position_embeddings.is_some(),
            ),
            ("attention_factor", self.attention_factor.is_some()),
            ("low_freq_factor", self.low_freq_factor.is_some()),
            ("high_freq_factor", self.high_freq_factor.is_some()),
            ("beta_fast", self.beta_fast.is_some()),
            ("beta_slow", self.beta_slow.is_some()),
            ("mscale", self.mscale.is_some()),
            ("mscale_all_dim", self.mscale_all_dim.is_some()),
            ("truncate", self.truncate.is_some()),
        ];
        let named = fields.into_iter().filter(|(_, given)| *given);
        let other = self.other.iter().filter(|(_, value)| !value.is_null());
        named
            .map(|(name, _)| name)
            .chain(other.map(|(name, _)| name.as_str()))
            .collect()
    }
}

/// Rotary positions of one kind. The lengths are in tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    /// Frequencies before any scaling.
    base: Vec<f32>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// The same frequencies whatever the length, and the factor on cosine and sine.
    Fixed(Vec<f32>, f32),
    Long {
        short: Vec<f64>,
        long: Vec<f64>,
        border: usize,
        attention: f32,
    },
}

/// What a scaling is read beside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RopeSizes {
    pub theta: f64,
    /// Values of a head that turn.
    pub dim: usize,
    pub max_position_embeddings: usize,
    /// `original_max_position_embeddings` of the config itself.
    pub original: Option<usize>,
}

/// The kinds that there are, and the fields that each reads.
const KINDS: [(&str, &[&str]); 5] = [
    ("default", &[]),
    ("linear", &["factor"]),
    (
        "llama3",
        &[
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        ],
    ),
    (
        "yarn",
        &[
            "factor",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
            "original_max_position_embeddings",
        ],
    ),
    (
        "longrope",
        &[
            "factor",
            "short_factor",
            "long_factor",
            "attention_factor",
            "original_max_position_embeddings",
        ],
    ),
];

impl Rope {
    /// # Errors
    /// A kind that is not known, a field that its kind does not read, one that is missing or makes no sense.
    pub fn new(scaling: Option<&RopeScaling>, sizes: RopeSizes) -> Result<Self> {
        let RopeSizes { theta, dim, .. } = sizes;
        if !(theta.is_finite() && theta > 1.0) {
            return Err(Error::Config(format!(
                "rope_theta is {theta}, it must be a number above 1"
            )));
        }
        let base: Vec<f32> = (0..dim / 2)
            .map(|i| theta.powf(f64::from((2 * i) as f32 / dim as f32)) as f32)
            .collect();
        let plain: Vec<f32> = base.iter().map(|base| 1.0 / base).collect();
        let Some(scaling) = scaling else {
            let kind = Kind::Fixed(plain, 1.0);
            return Ok(Self { base, kind });
        };
        let name = scaling.name();
        let Some((_, reads)) = KINDS.iter().find(|(kind, _)| *kind == name) else {
            return Err(Error::Config(format!(
                "rope_scaling of type {name} is not known; there are {}",
                KINDS.map(|(kind, _)| kind).join(", ")
            )));
        };
        if let Some(field) = scaling.given().iter().find(|field| !reads.contains(field)) {
            return Err(Error::Config(format!(
                "rope_scaling of type {name} has {field}, which means nothing for it; take it out if it is of no use"
            )));
        }
        let kind = match name {
            "linear" => {
                let factor = positive("factor", scaling.factor)? as f32;
                Kind::Fixed(plain.iter().map(|f| f / factor).collect(), 1.0)
            }
            "llama3" => Kind::Fixed(llama3(&plain, scaling, sizes)?, 1.0),
            "yarn" => {
                let (frequencies, attention) = yarn(&base, scaling, sizes)?;
                Kind::Fixed(frequencies, attention)
            }
            "longrope" => long(scaling, sizes)?,
            _ => Kind::Fixed(plain, 1.0),
        };
        Ok(Self { base, kind })
    }

    /// Frequencies for a sequence whose highest position is `length − 1`, and the factor on cosine and sine.
    pub fn frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        match &self.kind {
            Kind::Fixed(frequencies, attention) => (frequencies.clone(), *attention),
            Kind::Long {
                short,
                long,
                border,
                attention,
            } => {
                let factors = if length > *border { long } else { short };
                let both = factors.iter().zip(&self.base);
                let frequencies = both.map(|(f, base)| 1.0 / (*f as f32 * base)).collect();
                (frequencies, *attention)
            }
        }
    }

    /// The length that separates short factors from long ones; `None` where the angles do not depend on the length.
    pub fn border(&self) -> Option<usize> {
        match self.kind {
            Kind::Long { border, .. } => Some(border),
            Kind::Fixed(..) => None,
        }
    }
}

fn missing(name: &str) -> Error {
    Error::Config(format!("rope_scaling lacks {name}"))
}

fn positive(name: &str, value: Option<f64>) -> Result<f64> {
    let value = value.ok_or_else(|| missing(name))?;
    match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(Error::Config(format!(
            "rope_scaling: {name} is {value}, it must be above 0"
        ))),
    }
}

/// The length before the context was stretched.
fn original(scaling: &RopeScaling, sizes: RopeSizes) -> Result<usize> {
    let own = scaling.original_max_position_embeddings;
    let length = sizes
        .original
        .or(own)
        .unwrap_or(sizes.max_position_embeddings);
    match length {
        0 | 1 => Err(Error::Config(format!(
            "original_max_position_embeddings is {length}, it must be at least 2"
        ))),
        length => Ok(length),
    }
}

fn llama3(plain: &[f32], scaling: &RopeScaling, sizes: RopeSizes) -> Result<Vec<f32>> {
    let factor = positive("factor", scaling.factor)? as f32;
    let low = positive("low_freq_factor", scaling.low_freq_factor)?;
    let high = positive("high_freq_factor", scaling.high_freq_factor)?;
    if high <= low {
        return Err(Error::Config(format!(
            "rope_scaling: high_freq_factor {high} must be above low_freq_factor {low}"
        )));
    }
    let length = original(scaling, sizes)? as f64;
    let scaled = plain.iter().map(|&frequency| {
        let wavelength = 2.0 * PI / f64::from(frequency);
        if wavelength < length / high {
            frequency
        } else if wavelength > length / low {
            frequency / factor
        } else {
            let smooth = ((length / wavelength - low) / (high - low)) as f32;
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    });
    Ok(scaled.collect())
}

fn yarn(base: &[f32], scaling: &RopeScaling, sizes: RopeSizes) -> Result<(Vec<f32>, f32)> {
    let factor = positive("factor", scaling.factor)?;
    let length = original(scaling, sizes)? as f64;
    let (theta, dim) = (sizes.theta, sizes.dim as f64);
    let stretch = |scale: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * scale * factor.ln() + 1.0
        }
    };
    let attention = match (
        scaling.attention_factor,
        scaling.mscale,
        scaling.mscale_all_dim,
    ) {
        (Some(factor), ..) => factor,
        (None, Some(one), Some(all)) if one != 0.0 && all != 0.0 => stretch(one) / stretch(all),
        _ => stretch(1.0),
    };
    // The dimension that turns this often within the original context.
    let border = |turns: f64| dim * (length / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
    // Python's `or`: 0 counts as absent.
    let turns = |given: Option<f64>, default: f64| given.filter(|t| *t != 0.0).unwrap_or(default);
    let (mut low, mut high) = (
        border(turns(scaling.beta_fast, 32.0)),
        border(turns(scaling.beta_slow, 1.0)),
    );
    if scaling.truncate.unwrap_or(true) {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001;
    }
    let frequencies = base.iter().enumerate().map(|(i, &base)| {
        let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
        let kept = 1.0 - ramp;
        1.0 / (factor as f32 * base) * (1.0 - kept) + 1.0 / base * kept
    });
    let frequencies: Vec<f32> = frequencies.collect();
    match attention.is_finite() && frequencies.iter().all(|f| f.is_finite()) {
        true => Ok((frequencies, attention as f32)),
        false => Err(Error::Config(
            "rope_scaling of type yarn gives frequencies that are no numbers".into(),
        )),
    }
}

fn long(scaling: &RopeScaling, sizes: RopeSizes) -> Result<Kind> {
    for (name, factors) in [
        ("short_factor", &scaling.short_factor),
        ("long_factor", &scaling.long_factor),
    ] {
        if factors.len() != sizes.dim / 2 {
            return Err(Error::Config(format!(
                "{name} has {} entries, {} rotated values need {}",
                factors.len(),
                sizes.dim,
                sizes.dim / 2
            )));
        }
        if let Some(bad) = factors.iter().find(|f| !(f.is_finite() && **f > 0.0)) {
            return Err(Error::Config(format!(
                "{name} holds {bad}, factors must be above 0"
            )));
        }
    }
    let border = original(scaling, sizes)?;
    let ratio = sizes.max_position_embeddings as f64 / border as f64;
    let stretch = match scaling.factor {
        None => ratio,
        Some(factor) if sizes.original.is_some() && factor != ratio => {
            return Err(Error::Config(format!(
                "rope_scaling: factor {factor} contradicts max_position_embeddings {} and \
                 original_max_position_embeddings {border}, whose ratio is {ratio}: take factor out",
                sizes.max_position_embeddings
            )));
        }
        Some(factor) => positive("factor", Some(factor))?,
    };
    let attention = match scaling.attention_factor {
        Some(factor) => positive("attention_factor", Some(factor))?,
        None if stretch <= 1.0 => 1.0,
        None => (1.0 + stretch.ln() / (border as f64).ln()).sqrt(),
    };
    Ok(Kind::Long {
        short: scaling.short_factor.clone(),
        long: scaling.long_factor.clone(),
        border,
        attention: attention as f32,
    })
}
