//! LoRA adapters on disk, in PEFT's layout: a folder with `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Every field of PEFT's `LoraConfig` is read as PEFT reads it, or refused by name: see `lora/fields.rs`.
//! Both spellings of a ViT's module names are read (`encoder.layer.0.attention.attention.query` of the hub and
//! transformers 4, `layers.0.attention.q_proj` of transformers 5); the hub's is written.

mod fields;

use crate::nn::checkpoint::save_safetensors;
use crate::nn::{Checkpoint, Init, Lora, LoraConfig, Network, Part, PartMut};
use crate::vision::hub_name;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What PEFT is to do with an adapter.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::lora::{TaskType, read_adapter_config, save_adapter};
///
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?; // both of its parts carry LoRA
/// let folder = std::env::temp_dir().join(format!("adapter-of-llm-{}", std::process::id()));
/// save_adapter(&vlm.llm, TaskType::CausalLm, None, &folder)?; // PEFT reads it
/// assert_eq!(read_adapter_config(&folder)?.r, 8);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskType {
    /// A language model.
    CausalLm,
    /// Anything else.
    None,
}

/// Writes the LoRA of a network as a PEFT adapter folder. `base` is the folder or repository of the base model, where
/// known: PEFT's `AutoPeftModel` loads it from there.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::lora::{TaskType, save_adapter};
///
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let folder = std::env::temp_dir().join(format!("saved-adapter-{}", std::process::id()));
/// save_adapter(&vlm.llm, TaskType::CausalLm, Some("microsoft/Phi-3-mini-4k-instruct"), &folder)?;
/// assert!(folder.join("adapter_model.safetensors").is_file());
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the network has no LoRA, or the folder cannot be written.
pub fn save_adapter(
    network: &dyn Network,
    task: TaskType,
    base: Option<&str>,
    dir: impl AsRef<Path>,
) -> Result<()> {
    let dir = dir.as_ref();
    let config = network.lora_config().ok_or_else(|| {
        Error::Input("the model has no LoRA to save: add it first with add_lora".into())
    })?;
    let tensors: Vec<(String, Tensor)> = network
        .named_parameters()
        .into_iter()
        .filter(|parameter| parameter.role.is_lora())
        .map(|parameter| (parameter.name, parameter.tensor))
        .collect();
    let io = |source| Error::Io {
        path: dir.into(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(io)?;
    save_safetensors(&dir.join("adapter_model.safetensors"), &tensors)?;
    let config = faithful(config, network);
    let path = dir.join("adapter_config.json");
    let text = serde_json::to_string_pretty(&peft_config(&config, task, base));
    let text = text.map_err(|source| Error::Json {
        path: path.clone(),
        source,
    })?;
    std::fs::write(&path, text + "\n").map_err(|source| Error::Io { path, source })
}

/// Takes what [`save_adapter`] wrote out of a folder, where an earlier save left it and the network has no LoRA any more.
pub(crate) fn drop_adapter(dir: &Path) -> Result<()> {
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let path = dir.join(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io { path, source });
            }
            _ => {}
        }
    }
    // It stays if there is anything of somebody else's in it.
    let _ = std::fs::remove_dir(dir);
    Ok(())
}

/// A config that says of each layer what the network has there, whatever the LoRA was first made for: names of another
/// spelling, `all-linear` (which in PEFT is a layer more where a pooler is), or LoRA that was put on in several steps.
fn faithful(config: LoraConfig, network: &dyn Network) -> LoraConfig {
    let mut layers: Vec<(String, Option<(usize, f64)>)> = Vec::new();
    network.visit(&mut |part| {
        if let Part::Linear(linear) = part {
            let lora = linear.lora.as_ref().map(|lora| (lora.rank(), lora.scale));
            layers.push((linear.name().to_string(), lora));
        }
    });
    let said = |(name, lora): &(String, Option<(usize, f64)>)| match lora {
        Some((rank, scale)) => {
            config.targets(name) && config.rank(name) == *rank && config.scale(name) == *scale
        }
        None => !config.targets(name),
    };
    if !config.target_modules.is_all_linear() && layers.iter().all(said) {
        return config;
    }
    let (mut names, mut ranks, mut alphas) = (Vec::new(), Vec::new(), Vec::new());
    for (name, lora) in &layers {
        let Some((rank, scale)) = *lora else { continue };
        let root = if config.use_rslora {
            (rank as f64).sqrt()
        } else {
            rank as f64
        };
        let key = || format!("^{}", name.replace('.', "\\."));
        if rank != config.r {
            ranks.push((key(), rank));
        }
        if scale * root != config.lora_alpha {
            alphas.push((key(), scale * root));
        }
        names.push(name.clone());
    }
    LoraConfig {
        target_modules: names.into(),
        exclude_modules: None,
        layers_to_transform: None,
        layers_pattern: None,
        rank_pattern: ranks.into_iter().collect(),
        alpha_pattern: alphas.into_iter().collect(),
        ..config
    }
}

/// The fields that PEFT needs to load the adapter.
fn peft_config(config: &LoraConfig, task: TaskType, base: Option<&str>) -> Value {
    json!({
        "peft_type": "LORA",
        "task_type": match task {
            TaskType::CausalLm => Value::from("CAUSAL_LM"),
            TaskType::None => Value::Null,
        },
        "base_model_name_or_path": base,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": config.target_modules,
        "exclude_modules": config.exclude_modules,
        "use_rslora": config.use_rslora,
        "layers_to_transform": config.layers_to_transform,
        "layers_pattern": config.layers_pattern,
        "rank_pattern": config.rank_pattern,
        "alpha_pattern": config.alpha_pattern,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
        "use_dora": config.use_dora,
    })
}

/// Reads `adapter_config.json` of a PEFT adapter folder.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::lora::{TaskType, read_adapter_config, save_adapter};
///
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let folder = std::env::temp_dir().join(format!("adapter-config-{}", std::process::id()));
/// save_adapter(&vlm.llm, TaskType::CausalLm, None, &folder)?;
/// assert!(read_adapter_config(&folder)?.targets("layers.0.self_attn.o_proj"));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
///
/// # Errors
/// A missing or damaged file, an adapter of another kind than LoRA, or a field that changes what the adapter computes and that
/// cannot be read, by name.
pub fn read_adapter_config(dir: impl AsRef<Path>) -> Result<LoraConfig> {
    let path = dir.as_ref().join("adapter_config.json");
    let bytes = crate::files::bytes(&path).map_err(|source| Error::Io {
        path: path.clone(),
        source,
    })?;
    let json = |source| Error::Json {
        path: path.clone(),
        source,
    };
    let value: Value = serde_json::from_slice(&bytes).map_err(json)?;
    fields::check(&value).map_err(|what| Error::Config(format!("{}: {what}", path.display())))?;
    let config: LoraConfig = serde_json::from_value(value).map_err(json)?;
    config
        .validate()
        .map_err(|e| Error::Config(format!("{}: {e}", path.display())))?;
    Ok(config)
}

/// Reads a PEFT adapter folder into a network; LoRA that it had is replaced. The factors come frozen: call
/// [`Network::set_lora_trainable`] to go on training. Returns the adapter's settings.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::lora::{TaskType, load_adapter, save_adapter};
///
/// # fn main() -> Result<()> {
/// let folder = std::env::temp_dir().join(format!("loaded-adapter-{}", std::process::id()));
/// save_adapter(&Vlm::tiny(&Device::Cpu)?.llm, TaskType::CausalLm, None, &folder)?;
/// let mut plain = VlmParts::tiny(&Device::Cpu)?.llm; // the same weights, without LoRA
/// assert!(plain.lora_config().is_none());
/// let config = load_adapter(&mut plain, &folder)?;
/// assert_eq!((config.r, plain.lora_config().is_some()), (8, true));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
///
/// # Errors
/// A missing or damaged file; an adapter of another base model, naming the layer and both shapes.
pub fn load_adapter(network: &mut dyn Network, dir: impl AsRef<Path>) -> Result<LoraConfig> {
    let dir = dir.as_ref();
    let config = read_adapter_config(dir)?;
    let weights = Checkpoint::open(dir, DType::F32, &Device::Cpu)?;
    let modules = Modules::of(network);
    let mut found: BTreeMap<String, Factors> = BTreeMap::new();
    for key in weights.names() {
        if let Some((module, factor)) = parse_key(&key) {
            if !config.targets(&module) {
                return Err(Error::Checkpoint {
                    path: dir.into(),
                    message: format!(
                        "holds {key}, but the adapter's target_modules, exclude_modules or layers_to_transform leave {module} \
                         out, and PEFT would not read it"
                    ),
                });
            }
            let name = modules.resolve(&module, dir)?;
            // The pooler's output is not part of any stage: an adapter for it changes nothing where there is none.
            let Some(name) = name else { continue };
            let factors = found.entry(name).or_insert_with(|| Factors {
                module,
                ..Factors::default()
            });
            match factor {
                Factor::A => factors.a = Some(key),
                Factor::B => factors.b = Some(key),
                Factor::Magnitude => factors.magnitude = Some(key),
            }
        } else {
            return Err(Error::Checkpoint {
                path: dir.into(),
                message: fields::tensor(&key),
            });
        }
    }
    if found.is_empty() {
        return Err(Error::Checkpoint {
            path: dir.into(),
            message: "holds no LoRA factors".into(),
        });
    }
    modules.check_complete(&config, &found, dir)?;
    let mut loras: BTreeMap<String, Lora> = BTreeMap::new();
    for (name, factors) in &found {
        let sizes = modules.sizes(name);
        loras.insert(
            name.clone(),
            factors.read(&weights, &config, name, sizes, dir)?,
        );
    }
    // What the layers can't take is known before the LoRA that is there goes.
    let mut fit = Ok(());
    network.visit(&mut |part| {
        if let (Part::Linear(linear), Ok(())) = (part, &fit)
            && let Some(lora) = loras.get(linear.name())
            && lora.magnitude.is_some()
        {
            fit = Lora::check_dora(&linear.weight);
        }
    });
    fit?;
    network.remove_lora()?;
    network.visit_mut(&mut |part| {
        if let PartMut::Linear(linear) = part
            && let Some(lora) = loras.remove(linear.name())
        {
            let (dtype, device) = (
                Lora::dtype(linear.weight.tensor().dtype()),
                linear.weight.tensor().device().clone(),
            );
            linear.lora = Some(lora.to(dtype, &device)?);
        }
        Ok(())
    })?;
    Ok(config)
}

enum Factor {
    A,
    B,
    /// DoRA's lengths.
    Magnitude,
}

/// Module path and factor of a key such as `base_model.model.{module}.lora_A.weight`.
fn parse_key(key: &str) -> Option<(String, Factor)> {
    let key = key.strip_prefix("base_model.model.").unwrap_or(key);
    // PEFT writes this one without `.weight`.
    let bare = key.strip_suffix(".weight").unwrap_or(key);
    let bare = bare.strip_suffix(".default").unwrap_or(bare);
    if let Some(module) = bare.strip_suffix(".lora_magnitude_vector") {
        return Some((module.to_string(), Factor::Magnitude));
    }
    let key = key.strip_suffix(".weight")?;
    let key = key.strip_suffix(".default").unwrap_or(key);
    if let Some(module) = key.strip_suffix(".lora_A") {
        return Some((module.to_string(), Factor::A));
    }
    key.strip_suffix(".lora_B")
        .map(|module| (module.to_string(), Factor::B))
}

/// The linear layers of a network with their widths.
struct Modules(BTreeMap<String, (usize, usize)>);

impl Modules {
    fn of(network: &dyn Network) -> Self {
        let mut sizes = BTreeMap::new();
        network.visit(&mut |part| {
            if let Part::Linear(linear) = part {
                sizes.insert(linear.name().to_string(), (linear.input(), linear.output()));
            }
        });
        Self(sizes)
    }

    fn sizes(&self, name: &str) -> (usize, usize) {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The layer that an adapter's module path means, whatever its spelling; `None` for a pooler that is not there.
    fn resolve(&self, module: &str, dir: &Path) -> Result<Option<String>> {
        let bare = module.strip_prefix("vit.").unwrap_or(module);
        for name in [module.to_string(), bare.to_string(), hub_name(bare)] {
            if self.0.contains_key(&name) {
                return Ok(Some(name));
            }
        }
        if bare == "pooler.dense" {
            return Ok(None);
        }
        let example = self.0.keys().next().map_or("none", String::as_str);
        Err(Error::Checkpoint {
            path: dir.into(),
            message: format!(
                "the adapter is for another base model: this one has no layer {module} (its layers are named like {example})"
            ),
        })
    }

    /// Every layer that the config names must be in the file; a config in the newer ViT spelling names none of ours.
    fn check_complete(
        &self,
        config: &LoraConfig,
        found: &BTreeMap<String, Factors>,
        dir: &Path,
    ) -> Result<()> {
        // What stands before our names in the adapter's: a ViT that classifies lies in `vit.`.
        let prefix = found
            .iter()
            .find_map(|(name, factors)| factors.module.strip_suffix(name.as_str()));
        let prefix = prefix.unwrap_or_default();
        let missing = self
            .0
            .keys()
            .find(|name| config.targets(&format!("{prefix}{name}")) && !found.contains_key(*name));
        match missing {
            Some(name) => Err(Error::MissingTensor {
                tensor: Lora::a_name(name),
                path: dir.into(),
                hint: format!(
                    "; the adapter's target_modules name this layer, the file has factors for {} others",
                    found.len()
                ),
            }),
            None => Ok(()),
        }
    }
}

/// The keys of one layer's factors.
#[derive(Default)]
struct Factors {
    module: String,
    a: Option<String>,
    b: Option<String>,
    magnitude: Option<String>,
}

impl Factors {
    fn read(
        &self,
        weights: &Checkpoint,
        config: &LoraConfig,
        name: &str,
        (input, output): (usize, usize),
        dir: &Path,
    ) -> Result<Lora> {
        let missing = |tensor: String| Error::MissingTensor {
            tensor,
            path: dir.into(),
            hint: "; its counterpart is there".into(),
        };
        let a = self
            .a
            .as_ref()
            .ok_or_else(|| missing(Lora::a_name(&self.module)))?;
        let b = self
            .b
            .as_ref()
            .ok_or_else(|| missing(Lora::b_name(&self.module)))?;
        let r = config.rank(&self.module);
        let a = weights.get(a, &[r, input], Init::Zeros)?;
        let b = weights.get(b, &[output, r], Init::Zeros)?;
        let magnitude = match (&self.magnitude, config.use_dora) {
            (Some(key), true) => Some(weights.get(key, &[output], Init::Zeros)?),
            (None, false) => None,
            (None, true) => return Err(missing(Lora::magnitude_name(&self.module))),
            (Some(key), false) => {
                return Err(Error::Checkpoint {
                    path: dir.into(),
                    message: format!(
                        "holds {key}, and the adapter's use_dora is false: PEFT would not read it"
                    ),
                });
            }
        };
        Ok(Lora::from_factors(
            config,
            name,
            config.scale(&self.module),
            (a, b),
            magnitude,
        ))
    }
}
