//! Which base models a fine-tune belongs to, so that one for another base of the same sizes is refused.
//!
//! A fingerprint covers the first values of every weight that LoRA never changes (norms, embeddings, positions), rounded to
//! bf16: the same checkpoint has the same one in every precision, and with LoRA merged or not.

use super::Vlm;
use crate::nn::{Network, Part};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Values of each weight that count.
const VALUES: usize = 64;

/// One for each of the models underneath, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprints {
    /// Empty where the fine-tune brings all weights of its encoder.
    image_encoder: String,
    llm: String,
}

impl Fingerprints {
    pub(super) fn of(vlm: &Vlm) -> Result<Self> {
        Ok(Self {
            image_encoder: match vlm.settings.train_encoder {
                true => String::new(),
                false => fingerprint(&vlm.image_encoder)?,
            },
            llm: fingerprint(&vlm.llm)?,
        })
    }

    /// Refuses a fine-tune in `dir` that was made on another base than `vlm` has.
    pub(super) fn check(&self, vlm: &Vlm, dir: &Path) -> Result<()> {
        let trained = self.image_encoder.is_empty();
        let what = if self.llm != fingerprint(&vlm.llm)? {
            "language model"
        } else if !trained && self.image_encoder != fingerprint(&vlm.image_encoder)? {
            "image encoder"
        } else {
            return Ok(());
        };
        Err(Error::Config(format!(
            "{}: the fine-tune was made on another {what} than this model has: load the one that its settings.json names under \"base\", or train anew",
            dir.display()
        )))
    }
}

fn fingerprint(network: &dyn Network) -> Result<String> {
    let (mut weights, mut matrices): (Vec<Tensor>, Vec<Tensor>) = Default::default();
    network.visit(&mut |part| match part {
        Part::Weight(weight) if !weight.name().ends_with(".rows") => {
            weights.push(weight.tensor().detach());
        }
        Part::Linear(linear) if !linear.is_merged() => {
            matrices.push(linear.weight.tensor().detach());
        }
        _ => {}
    });
    // An encoder of linear layers alone has nothing else to be known by.
    if weights.is_empty() {
        weights = matrices;
    }
    // FNV-1a, the same in every build.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for weight in weights {
        let flat = weight.flatten_all()?;
        let first = flat.narrow(0, 0, flat.elem_count().min(VALUES))?;
        let rounded = first.to_dtype(DType::BF16)?.to_device(&Device::Cpu)?;
        for value in rounded.to_vec1::<half::bf16>()? {
            for byte in value.to_bits().to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    Ok(format!("{hash:016x}"))
}
