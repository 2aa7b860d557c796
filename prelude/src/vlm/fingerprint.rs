//! Which base models a fine-tune belongs to, so that one for another base of the same sizes is refused.
//!
//! A fingerprint covers the first values of every weight that LoRA never changes (norms, embeddings, positions), rounded to
//! bf16: the same checkpoint has the same one in every precision, and with LoRA merged or not.

use super::{NamedEncoder, Vlm};
use crate::nn::{Network, Part, Role, Weight};
use crate::{Error, Result, fnv};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Values of each weight that count.
const VALUES: usize = 64;

/// One for each of the models underneath, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprints {
    /// Empty where the fine-tune brings all weights of its encoder.
    image_encoder: String,
    llm: String,
    /// Of encoders besides the first, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    other_encoders: BTreeMap<String, String>,
}

impl Fingerprints {
    pub(crate) fn of(vlm: &Vlm) -> Result<Self> {
        Ok(Self {
            image_encoder: match vlm.settings.train_encoder {
                true => String::new(),
                false => fingerprint(&vlm.image_encoder)?,
            },
            llm: fingerprint(&vlm.llm)?,
            other_encoders: {
                let frozen = vlm.other_encoders.iter().filter(|other| !other.trains());
                let one =
                    |other: &NamedEncoder| Ok((other.name.clone(), fingerprint(&other.encoder)?));
                frozen.map(one).collect::<Result<_>>()?
            },
        })
    }

    /// Which part of `vlm` has another base than this was taken of.
    pub(crate) fn differs(&self, vlm: &Vlm) -> Result<Option<String>> {
        let trained = self.image_encoder.is_empty();
        if self.llm != fingerprint(&vlm.llm)? {
            return Ok(Some("language model".into()));
        }
        if !trained && self.image_encoder != fingerprint(&vlm.image_encoder)? {
            return Ok(Some("image encoder".into()));
        }
        for other in &vlm.other_encoders {
            if let Some(saved) = self.other_encoders.get(&other.name)
                && *saved != fingerprint(&other.encoder)?
            {
                return Ok(Some(format!("encoder {:?}", other.name)));
            }
        }
        Ok(None)
    }

    /// Refuses a fine-tune in `dir` that was made on another base than `vlm` has.
    pub(super) fn check(&self, vlm: &Vlm, dir: &Path) -> Result<()> {
        let Some(what) = self.differs(vlm)? else {
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
    let mut read = Ok(());
    let mut add = |to: &mut Vec<Tensor>, weight: &Weight| match beginning(weight) {
        Ok(values) => to.push(values),
        Err(error) => read = Err(error),
    };
    network.visit(&mut |part| match part {
        Part::Weight(weight) if weight.role() != Role::NewRows => add(&mut weights, weight),
        Part::Linear(linear) if !linear.is_merged() => add(&mut matrices, &linear.weight),
        _ => {}
    });
    read?;
    // An encoder of linear layers alone has nothing else to be known by.
    if weights.is_empty() {
        weights = matrices;
    }
    let mut hash = fnv::START;
    for weight in weights {
        let flat = weight.flatten_all()?; // [N]
        let first = flat.narrow(0, 0, flat.elem_count().min(VALUES))?;
        let rounded = first.to_dtype(DType::BF16)?.to_device(&Device::Cpu)?;
        for value in rounded.to_vec1::<half::bf16>()? {
            hash = fnv::bytes(hash, &value.to_bits().to_le_bytes());
        }
    }
    Ok(format!("{hash:016x}"))
}

/// The values of a weight, or the first rows of them where it is held in blocks.
fn beginning(weight: &Weight) -> Result<Tensor> {
    let Some(blocks) = weight.blocks() else {
        return Ok(weight.tensor().detach());
    };
    let (rows, columns) = blocks.dims();
    let enough = VALUES.div_ceil(columns.max(1)).min(rows);
    let numbers: Vec<u32> = (0..enough as u32).collect();
    blocks.rows(&numbers) // [n, in]
}
