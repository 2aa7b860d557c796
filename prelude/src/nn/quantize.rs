//! Which matrices are held in blocks, and as what: for all linear layers, or told apart by name.
//!
//! ```text
//! Quantize { all, by name } ─┬─ network.quantize(…) ─────────▶ linear layers in blocks, at once or not at all
//!                            └─ Checkpoint, Decoder, Preset ─▶ each as it is read
//! ```

use super::blocks::BlockType;
use super::parameter::{Network, Part, PartMut, Weight};
use super::targets::LoraTargets;
use crate::session::check_interrupt;
use crate::{Error, Result};

/// How the linear layers of a network are held.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let mut llm = Decoder::new_random(&DecoderConfig::new(100, 256, 512, 2, 2), 1, &Device::Cpu)?;
/// let how = Quantize::to(BlockType::Q4K).but(&["down_proj"], BlockType::Q6K).leaving(&["lm_head"]);
/// llm.quantize(how)?;
/// let held: Vec<_> = llm.named_parameters().iter().map(|p| (p.name.clone(), p.held_as())).collect();
/// assert!(held.contains(&("model.layers.0.mlp.down_proj.weight".into(), "Q6_K")));
/// assert!(held.contains(&("lm_head.weight".into(), "f32")));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Quantize {
    all: Held,
    /// The first that names a layer counts.
    by_name: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    names: LoraTargets,
    /// `None`: as they are.
    kind: Option<BlockType>,
    /// Whether a network without such a layer is an error.
    needed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    As(BlockType),
    /// As a GGUF file has it.
    AsStored,
}

impl From<BlockType> for Quantize {
    fn from(kind: BlockType) -> Self {
        Self::to(kind)
    }
}

impl Quantize {
    /// All linear layers, the head included, in blocks of this type.
    pub fn to(kind: BlockType) -> Self {
        Self {
            all: Held::As(kind),
            by_name: Vec::new(),
        }
    }

    /// As a GGUF file has them, of whatever types, without a rounding of our own: embedding table and head too. Only a model that is
    /// read from such a file can be held so.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let path = std::env::temp_dir().join(format!("as-stored-{}.gguf", std::process::id()));
    /// vlm.llm.save_gguf(&path, &vlm.llm_processor, GgufType::Q8_0)?; // or one from the hub, such as Q4_K_M
    /// let llm = Decoder::load_quantized(&path, Quantize::as_stored(), DType::F32, &Device::Cpu)?;
    /// assert_eq!(llm.embed_tokens.weight.blocks().map(Blocks::kind), Some(BlockType::Q8_0));
    /// # std::fs::remove_file(path).ok();
    /// # Ok(()) }
    /// ```
    pub fn as_stored() -> Self {
        Self {
            all: Held::AsStored,
            by_name: Vec::new(),
        }
    }

    /// llama.cpp's mix of that name for a model of so many layers: Q4_K, in some layers Q6_K for values and the way down, Q5_K for queries,
    /// keys and values in one matrix, Q6_K for the head.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let config = DecoderConfig::new(100, 256, 512, 8, 2);
    /// let drawn = Checkpoint::random(1, DType::F32, &Device::Cpu).quantized(Quantize::q4_k_m(8));
    /// let llm = Decoder::from_checkpoint(&config, &drawn)?;
    /// let held = |name: &str| llm.named_parameters().iter().find(|p| p.name == name).map(|p| p.held_as());
    /// assert_eq!(held("model.layers.0.mlp.down_proj.weight"), Some("Q6_K")); // the first and the last eighth, a third between
    /// assert_eq!(held("model.layers.2.mlp.down_proj.weight"), Some("Q4_K"));
    /// # Ok(()) }
    /// ```
    pub fn q4_k_m(layers: usize) -> Self {
        // `llama_tensor_get_type` of llama.cpp's src/llama-quant.cpp.
        let more =
            |i: &usize| *i < layers / 8 || *i >= 7 * layers / 8 || (*i - layers / 8) % 3 == 2;
        let numbers: Vec<String> = (0..layers).filter(more).map(|i| i.to_string()).collect();
        let better = format!(r".*layers\.({})\..*(v_proj|down_proj)", numbers.join("|"));
        let rule = |names, kind| Rule {
            names,
            kind: Some(kind),
            needed: false,
        };
        Self {
            by_name: vec![
                rule(LoraTargets::Pattern(better), BlockType::Q6K),
                rule(LoraTargets::named(&["qkv_proj"]), BlockType::Q5K),
                rule(LoraTargets::named(&["lm_head"]), BlockType::Q6K),
            ],
            ..Self::to(BlockType::Q4K)
        }
    }

    /// These layers as another type; names are the ends of module paths, such as `down_proj`. What was named before counts.
    pub fn but(self, names: &[&str], kind: BlockType) -> Self {
        self.named(names, Some(kind))
    }

    /// These layers as they are; names as in [`Quantize::but`].
    pub fn leaving(self, names: &[&str]) -> Self {
        self.named(names, None)
    }

    fn named(mut self, names: &[&str], kind: Option<BlockType>) -> Self {
        self.by_name.push(Rule {
            names: LoraTargets::named(names),
            kind,
            needed: true,
        });
        self
    }

    /// Whether the blocks are those of the file.
    pub(crate) fn is_as_stored(&self) -> bool {
        self.all == Held::AsStored
    }

    /// What the weight of a linear layer is to be held as; `None`: as it is.
    fn kind_of(&self, weight: &Weight) -> Result<Option<BlockType>> {
        let module = weight.name().strip_suffix(".weight");
        let module = module.unwrap_or(weight.name());
        let named = self.by_name.iter().find(|rule| rule.names.names(module));
        match (named, self.all) {
            (Some(rule), _) => Ok(rule.kind),
            (None, Held::As(kind)) => Ok(Some(kind)),
            (None, Held::AsStored) => Err(Error::Input(format!(
                "{}: \"as stored\" is how a GGUF file has its matrices: name a type, such as `BlockType::Q8_0`, for a model that does \
                 not come from one",
                weight.name()
            ))),
        }
    }

    /// Holds the weight of a linear layer so.
    ///
    /// # Errors
    /// Those of [`Weight::quantize`].
    pub(super) fn apply(&self, weight: &mut Weight) -> Result<()> {
        check_interrupt()?;
        match self.kind_of(weight)? {
            Some(kind) => weight.quantize(kind),
            None => Ok(()),
        }
    }
}

/// Rounds the linear layers of a network; all must be fit for it before the first is.
pub(super) fn quantize(network: &mut dyn Network, how: &Quantize) -> Result<usize> {
    let named = how.by_name.iter().map(|rule| !rule.needed);
    let (mut fit, mut named) = (Ok(()), named.collect::<Vec<bool>>());
    network.visit(&mut |part| {
        if let (Part::Linear(linear), Ok(())) = (part, &fit) {
            for (rule, named) in how.by_name.iter().zip(&mut named) {
                *named |= rule.names.names(linear.name());
            }
            fit = how.kind_of(&linear.weight).and_then(|kind| match kind {
                Some(kind) if linear.weight.can_be(kind)? && linear.is_merged() => {
                    Err(Error::Input(format!(
                        "{}: its LoRA is merged into the weight: `unmerge_lora()?` first, which {kind} would make impossible",
                        linear.name()
                    )))
                }
                _ => Ok(()),
            });
        }
    });
    fit?;
    if let Some(at) = named.iter().position(|named| !named) {
        return Err(Error::Input(format!(
            "no linear layer is named {}",
            how.by_name[at].names
        )));
    }
    let mut changed = 0;
    network.visit_mut(&mut |part| {
        if let PartMut::Linear(linear) = part
            && let Some(kind) = how.kind_of(&linear.weight)?
            && linear.weight.can_be(kind)?
        {
            check_interrupt()?;
            linear.weight.quantize(kind)?;
            changed += 1;
        }
        Ok(())
    })?;
    Ok(changed)
}
