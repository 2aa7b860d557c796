//! The file of a run: which model, with which settings, learns from what and how, and where it is put.
//!
//! Every section and every key may be left out but `output`, a model and data; a key that there is not is refused with the nearest
//! one that there is.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::CHECKPOINTS;
use super::data::DataConfig;
use super::document::{Document, fields_of, with_none, without_none};
use super::model::ModelConfig;
use super::scoring::EvaluateConfig;
use crate::nn::LoraConfig;
use crate::train::TrainerSettings;
use crate::vlm::VlmSettings;
use crate::{Error, Result};

/// The sections and keys at the top of the file.
const TOP: [&str; 7] = [
    "output", "seed", "model", "settings", "data", "trainer", "evaluate",
];
/// Settings that are LoRA's: what is left out of them is as in the preset.
const LORAS: [&str; 2] = ["vit_lora", "llm_lora"];
/// What a file with its sections looks like; `glassbox train --help` shows it too.
const HEAD: &str = "# What trains, from what and how: `glassbox train FILE`, `glassbox evaluate FILE`. Paths are as seen from the folder in which\n\
    # the command is given. \"none\" is nothing.\n\n";

/// What `glassbox train` runs. A cell writes one from its settings:
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("run-config-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).ok();
/// # let file = folder.join("run.toml");
/// let trainer = TrainerSettings { steps: 200, learning_rate: 0.002, ..TrainerSettings::tour() };
/// let settings = VlmSettings { llm_lora: None, ..VlmSettings::tiny() };
/// let config = RunConfig {
///     trainer,
///     settings,
///     ..RunConfig::new("runs/no-lora", ModelConfig::preset("tiny"), DataConfig::shapes())?
/// };
/// config.write(&file)?;
/// assert_eq!(RunConfig::read(&file)?, config);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// The run's folder.
    pub output: PathBuf,
    /// Decides the first values of projector and LoRA, and what each step sees.
    pub seed: u64,
    /// The model.
    pub model: ModelConfig,
    /// Its settings: prompt, projector, LoRA and switches.
    pub settings: VlmSettings,
    /// What it learns from.
    pub data: DataConfig,
    /// How it learns. Its `seed` and `run` are those of the file.
    pub trainer: TrainerSettings,
    /// How it is scored.
    pub evaluate: EvaluateConfig,
}

impl RunConfig {
    /// A run with the model's usual settings, the usual trainer and all metrics.
    ///
    /// # Errors
    /// `Config` for a model that there is not.
    pub fn new(
        output: impl AsRef<Path>,
        model: ModelConfig,
        data: DataConfig,
    ) -> Result<RunConfig> {
        Ok(RunConfig {
            output: output.as_ref().to_path_buf(),
            seed: 0,
            settings: model.usual_settings()?,
            model,
            data,
            trainer: TrainerSettings::default(),
            evaluate: EvaluateConfig::default(),
        })
    }

    /// Reads a file, TOML or (by its name) JSON. Nothing is loaded.
    ///
    /// # Errors
    /// `Io`; `Json` for what is no JSON; `Config` with the line for what is no TOML, a key that there is not (with the nearest one), a
    /// value of another kind or out of its range.
    pub fn read(path: impl AsRef<Path>) -> Result<RunConfig> {
        Self::of(Document::read(path.as_ref())?)
    }

    /// The same of a text; `name` is what messages call it, and its ending says what it is.
    ///
    /// # Errors
    /// As [`RunConfig::read`].
    pub fn parse(text: &str, name: impl AsRef<Path>) -> Result<RunConfig> {
        Self::of(Document::parse(text, name.as_ref())?)
    }

    pub(super) fn of(mut file: Document) -> Result<RunConfig> {
        file.check_keys("", &file.value, &TOP)?;
        for needed in ["output", "model", "data"] {
            if !file.value.contains_key(needed) {
                let example = match needed {
                    "output" => "output = \"runs/first\"",
                    "model" => "[model] and below it preset = \"tiny\"",
                    _ => "[data] and below it kind = \"shapes\"",
                };
                return Err(file.wrong("", &format!("{needed} is missing: {example}")));
            }
        }
        let mut model = file.section("model")?;
        let settings = file.section("settings")?;
        let mut data = file.section("data")?;
        let mut trainer = file.section("trainer")?;
        let mut evaluate = file.section("evaluate")?;
        without_none(&mut model, &usual::<ModelConfig>());
        without_none(&mut data, &Value::Null);
        without_none(&mut evaluate, &usual::<EvaluateConfig>());
        without_none(&mut trainer, &usual::<TrainerSettings>());
        file.check_keys("trainer", &trainer, fields_of::<TrainerSettings>())?;
        if let Some(Value::Object(checkpoints)) = trainer.get_mut("checkpoints")
            && let Some(Value::String(output)) = file.value.get("output")
        {
            let folder = Path::new(output).join(CHECKPOINTS).display().to_string();
            checkpoints.entry("folder").or_insert(folder.into());
        }
        for (key, instead) in [("seed", "seed"), ("run", "output")] {
            if trainer.contains_key(key) {
                let what =
                    format!("stands at the top of the file: `{instead} = …` above all sections");
                return Err(file.wrong(&format!("trainer.{key}"), &what));
            }
        }
        let output = file.value.remove("output").unwrap_or_default();
        let seed = file.value.remove("seed");
        let mut config = RunConfig {
            output: file.typed("output", output)?,
            seed: match seed {
                Some(seed) => file.typed("seed", seed)?,
                None => 0,
            },
            model: file.typed("model", Value::Object(model))?,
            settings: VlmSettings::corrected(),
            data: file.typed("data", Value::Object(data))?,
            trainer: file.typed("trainer", Value::Object(trainer))?,
            evaluate: file.typed("evaluate", Value::Object(evaluate))?,
        };
        let named = |error: Error| match error {
            Error::Config(what) => file.wrong("", &what),
            other => other,
        };
        config.model.check().map_err(named)?;
        config.trainer.validate().map_err(named)?;
        config.evaluate.check().map_err(named)?;
        config.data.check().map_err(named)?;
        config.settings = settings_of(&file, &config.model, settings)?;
        Ok(config)
    }

    /// Writes the file with every setting, TOML or (by its name) JSON.
    ///
    /// # Errors
    /// `Io`; `Config` for a value that TOML has no words for, such as a seed above 2⁶³.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let text = match path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            true => serde_json::to_string_pretty(&self.value(false)?).map_err(unwritable)?,
            false => self.to_toml()?,
        };
        crate::files::write_whole(path, text.as_bytes())
    }

    /// The file as TOML.
    ///
    /// # Errors
    /// As [`RunConfig::write`].
    pub fn to_toml(&self) -> Result<String> {
        if i64::try_from(self.seed).is_err() {
            return Err(Error::Config(format!(
                "seed {} can't be written as TOML, whose whole numbers end at {}: write the run as .json",
                self.seed,
                i64::MAX
            )));
        }
        let text = toml::to_string_pretty(&self.value(true)?)
            .map_err(|error| Error::Config(format!("the run can't be written as TOML: {error}")))?;
        Ok(format!("{HEAD}{text}"))
    }

    /// Every setting as it stands in the file. In TOML nothing is `"none"`.
    pub(super) fn value(&self, toml: bool) -> Result<Value> {
        let map = |value: serde_json::Result<Value>| match value.map_err(unwritable)? {
            Value::Object(map) => Ok(map),
            other => Err(Error::Config(format!("{other} is no section"))),
        };
        let mut trainer = map(serde_json::to_value(&self.trainer))?;
        trainer.remove("seed");
        trainer.remove("run");
        let mut settings = map(serde_json::to_value(&self.settings))?;
        settings.remove("base");
        let sections = [
            (
                "model",
                map(serde_json::to_value(&self.model))?,
                usual::<ModelConfig>(),
            ),
            (
                "settings",
                settings,
                serde_json::to_value(preset_named(&self.settings.name).unwrap_or_default())
                    .map_err(unwritable)?,
            ),
            ("data", map(serde_json::to_value(&self.data))?, Value::Null),
            ("trainer", trainer, usual::<TrainerSettings>()),
            (
                "evaluate",
                map(serde_json::to_value(&self.evaluate))?,
                usual::<EvaluateConfig>(),
            ),
        ];
        let mut value = Map::new();
        let output = self.output.to_str().ok_or_else(|| {
            Error::Config(format!("output {} is no UTF-8 text", self.output.display()))
        })?;
        value.insert("output".to_owned(), output.into());
        value.insert("seed".to_owned(), self.seed.into());
        for (name, mut section, usual) in sections {
            if toml {
                with_none(&mut section, &usual);
            }
            value.insert(name.to_owned(), Value::Object(section));
        }
        Ok(Value::Object(value))
    }
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::Config(format!("the run can't be written: {error}"))
}

/// What a section is when nothing is said.
fn usual<T: Default + serde::Serialize>() -> Value {
    serde_json::to_value(T::default()).unwrap_or_default()
}

/// The settings that are known by a name.
fn preset_named(name: &str) -> Option<VlmSettings> {
    let presets = [
        VlmSettings::blog(),
        VlmSettings::corrected(),
        VlmSettings::new_tokens(),
        VlmSettings::tiny(),
    ];
    presets.into_iter().find(|preset| preset.name == name)
}

/// The section `[settings]` on top of the preset that its `name` names, or of the model's own.
fn settings_of(
    file: &Document,
    model: &ModelConfig,
    mut section: Map<String, Value>,
) -> Result<VlmSettings> {
    if model.fine_tune.is_some() && !section.is_empty() {
        return Err(file.wrong(
            "settings",
            "can't be changed: the model's fine_tune brings its own. Leave the section out",
        ));
    }
    let known: Vec<&str> = fields_of::<VlmSettings>()
        .iter()
        .copied()
        .filter(|name| *name != "base")
        .collect();
    file.check_keys("settings", &section, &known)?;
    let base = match section.get("name").and_then(Value::as_str) {
        None => model.usual_settings()?,
        Some(name) => preset_named(name).ok_or_else(|| {
            file.wrong(
                "settings.name",
                &format!("is {name:?}: the presets are blog, corrected, new_tokens, tiny; other settings are changes of one of them"),
            )
        })?,
    };
    let mut value = serde_json::to_value(&base).map_err(unwritable)?;
    without_none(&mut section, &value);
    let Value::Object(whole) = &mut value else {
        return Ok(base);
    };
    for (key, given) in section {
        let path = format!("settings.{key}");
        let lora = LORAS.contains(&key.as_str());
        match (whole.get_mut(&key), given) {
            (Some(Value::Object(old)), Value::Object(new)) if lora => {
                file.check_keys(&path, &new, fields_of::<LoraConfig>())?;
                old.extend(new);
            }
            (_, Value::Object(new)) if lora => {
                file.check_keys(&path, &new, fields_of::<LoraConfig>())?;
                whole.insert(key, Value::Object(new));
            }
            (_, given) => drop(whole.insert(key, given)),
        }
    }
    let settings: VlmSettings = file.typed("settings", value)?;
    for (name, lora) in LORAS.iter().zip([&settings.vit_lora, &settings.llm_lora]) {
        if let Some(lora) = lora {
            lora.validate()
                .map_err(|error| file.wrong(&format!("settings.{name}"), &error.to_string()))?;
        }
    }
    Ok(settings)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
