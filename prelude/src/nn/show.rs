//! How weights and layers show themselves: name, shape, dtype, how many parameters, and what trains.

use super::targets::{LoraPatterns, LoraTargets};
use super::{
    Activation, Attention, BlockType, Blocks, Embedding, Init, LayerNorm, Linear, Lora, LoraConfig,
    Parameter, Part, PartMut, Quantize, RmsNorm, Role, TokenRows, VlmPart, Weight,
};
use crate::display::facts::{debug_by_facts, shown_by_facts, shown_by_fields};
use crate::display::tensor::device_name;
use crate::display::{Facts, MimeBundle, ModelTable, Render, TensorView, number};
use candle_core::{Tensor, Var};

/// Rows of a network's table; layers in the middle of a deep one are put together.
const ROWS: usize = 36;

/// `[64, 172] f32 cpu`
pub(crate) fn shape(tensor: &Tensor) -> String {
    let device = device_name(tensor.device());
    format!("{:?} {} {device}", tensor.dims(), tensor.dtype().as_str())
}

fn trains(trainable: bool) -> &'static str {
    if trainable { "trains" } else { "frozen" }
}

fn weight(weight: &Weight) -> String {
    parameter(&weight.parameter())
}

/// `[64, 172] f32 cpu, trains`, or `[64, 256] Q4_K cpu, frozen`
fn parameter(parameter: &Parameter) -> String {
    let device = device_name(parameter.tensor.device());
    format!(
        "{:?} {} {device}, {}",
        parameter.tensor.dims(),
        parameter.held_as(),
        trains(parameter.is_trainable())
    )
}

/// `1,234 parameters, 56 of them trainable`
pub(crate) fn parameters(parameters: &[Parameter]) -> String {
    let sum = |trainable: bool| -> u64 {
        let counted = parameters.iter().filter(|p| !trainable || p.is_trainable());
        counted.map(|p| p.count() as u64).sum()
    };
    let count = number::count(sum(false));
    match sum(true) {
        0 => format!("{count}, frozen"),
        trainable => format!("{count}, {} of them trainable", number::count(trainable)),
    }
}

/// The parts of a network, each layer one row, with their parameters.
pub(crate) fn network(title: impl Into<String>, parameters: &[Parameter]) -> ModelTable {
    let layer = |name: &str| {
        // LoRA counts to the layer that carries it.
        let name = name.replace("base_model.model.", "");
        let words: Vec<&str> = name.split('.').collect();
        let number = words.iter().position(|word| word.parse::<usize>().is_ok());
        // `model.layers.0.mlp.down_proj.weight` counts to `model.layers.0`, `lm_head.weight` to `lm_head`.
        let kept = number.map_or(words.len().saturating_sub(1).max(1), |at| at + 1);
        words[..kept].join(".")
    };
    let mut names: Vec<String> = Vec::new();
    for parameter in parameters {
        let name = layer(&parameter.name);
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    if names.len() <= ROWS {
        return ModelTable::of(title, parameters, &|parameter| layer(&parameter.name));
    }
    let hidden = ROWS / 2..names.len() - ROWS / 2;
    let middle = format!("… {} layers between", hidden.len());
    let in_the_middle = &names[hidden];
    ModelTable::of(title, parameters, &|parameter| {
        let name = layer(&parameter.name);
        if in_the_middle.contains(&name) {
            middle.clone()
        } else {
            name
        }
    })
}

/// The parts of one layer, each weight or linear layer one row.
pub(crate) fn block(title: impl Into<String>, parameters: &[Parameter]) -> ModelTable {
    ModelTable::of(title, parameters, &|parameter| {
        let name = parameter.name.as_str();
        let name = name.strip_prefix("base_model.model.").unwrap_or(name);
        let name = name.split(".lora_").next().unwrap_or(name);
        let name = name
            .strip_suffix(".weight")
            .or_else(|| name.strip_suffix(".bias"))
            .unwrap_or(name);
        name.to_owned()
    })
}

impl Linear {
    fn facts(&self) -> Facts {
        let lora = self.lora.as_ref().map(|lora| {
            let merged = if self.is_merged() {
                ", merged into the weight"
            } else {
                ""
            };
            format!("{}{merged}", lora.short())
        });
        Facts::new(format!(
            "Linear {}: {} → {}",
            self.name(),
            self.input(),
            self.output()
        ))
        .fact("weight", weight(&self.weight))
        .fact_if("bias", self.bias.as_ref().map(weight))
        .fact_if("lora", lora)
        .fact("parameters", parameters(&self.parameters()))
    }
}

impl Lora {
    fn short(&self) -> String {
        let dropout = self.config().lora_dropout;
        let dropout = if dropout > 0.0 {
            format!(", dropout {dropout}")
        } else {
            String::new()
        };
        format!(
            "rank {}, scale {}{dropout}, {}",
            self.rank(),
            number::float(self.scale),
            trains(self.is_trainable())
        )
    }

    fn facts(&self) -> Facts {
        let module = self.a.name().strip_prefix("base_model.model.");
        let module = module.and_then(|name| name.strip_suffix(".lora_A.weight"));
        Facts::new(format!(
            "LoRA of {}: {}",
            module.unwrap_or(self.a.name()),
            self.short()
        ))
        .fact("A", weight(&self.a))
        .fact("B", weight(&self.b))
    }
}

impl RmsNorm {
    fn facts(&self) -> Facts {
        let name = self.weight.name();
        Facts::new(format!(
            "RmsNorm {}",
            name.strip_suffix(".weight").unwrap_or(name)
        ))
        .fact("weight", weight(&self.weight))
        .fact("eps", self.eps)
    }
}

impl LayerNorm {
    fn facts(&self) -> Facts {
        let name = self.weight.name();
        Facts::new(format!(
            "LayerNorm {}",
            name.strip_suffix(".weight").unwrap_or(name)
        ))
        .fact("weight", weight(&self.weight))
        .fact("bias", weight(&self.bias))
        .fact("eps", self.eps)
    }
}

impl Embedding {
    fn facts(&self) -> Facts {
        let name = self.weight.name();
        Facts::new(format!(
            "Embedding {}",
            name.strip_suffix(".weight").unwrap_or(name)
        ))
        .fact("weight", weight(&self.weight))
        .fact_if("new rows", self.rows.as_ref().map(TokenRows::short))
    }
}

impl TokenRows {
    fn short(&self) -> String {
        format!("{} of token ids {:?}", weight(&self.weight), self.ids())
    }

    fn facts(&self) -> Facts {
        Facts::new(format!("Rows of new tokens {}", self.weight.name()))
            .fact("token ids", format!("{:?}", self.ids()))
            .fact("weight", weight(&self.weight))
    }
}

impl Blocks {
    fn facts(&self) -> Facts {
        let (rows, columns) = self.dims();
        Facts::new(format!("Blocks of {}: [{rows}, {columns}]", self.kind()))
            .fact("size", number::bytes(self.bytes() as u64))
            .fact("bits a value", number::float(self.kind().bits()))
            .hint("`.dequantize()?` gives all values as floats")
    }
}

shown_by_facts!(
    Blocks, Linear, Lora, RmsNorm, LayerNorm, Embedding, TokenRows
);
shown_by_fields!(
    Activation,
    Attention,
    Init,
    LoraConfig,
    LoraTargets,
    BlockType,
    Quantize,
    Role,
    VlmPart
);

impl<T: std::fmt::Debug> Render for LoraPatterns<T> {
    fn render(&self) -> MimeBundle {
        Facts::fields(self).render()
    }
}

/// A weight is looked at as the map of its values.
fn map(parameter: &Parameter) -> MimeBundle {
    let (name, trains) = (&parameter.name, trains(parameter.is_trainable()));
    let title = match &parameter.blocks {
        None => format!("{name} ({trains})"),
        Some(blocks) => format!("{name} (held as {}, {trains})", blocks.kind()),
    };
    match parameter.values() {
        Ok(values) => TensorView::new(&values).title(title).render(),
        Err(error) => parameter.facts().fact("not shown", error).render(),
    }
}

impl Weight {
    fn facts(&self) -> Facts {
        Facts::new(format!("Weight {}", self.name())).fact("values", weight(self))
    }
}

impl Render for Weight {
    fn render(&self) -> MimeBundle {
        map(&self.parameter())
    }
}

impl Parameter {
    fn facts(&self) -> Facts {
        Facts::new(format!("Parameter {}", self.name)).fact("values", parameter(self))
    }
}

impl Render for Parameter {
    fn render(&self) -> MimeBundle {
        map(self)
    }

    /// A list of parameters is a table, its layers together.
    fn render_all(all: &[&Self]) -> MimeBundle {
        let list: Vec<Parameter> = all.iter().map(|p| (*p).clone()).collect();
        let title = format!("{} parameter tensors", number::count(list.len() as u64));
        let table = if list.len() <= ROWS {
            ModelTable::of(title, &list, &|parameter| parameter.name.clone())
        } else {
            network(title, &list)
        };
        table.render()
    }
}

debug_by_facts!(Weight, Parameter);

impl Part<'_> {
    fn facts(&self) -> Facts {
        match self {
            Part::Linear(linear) => linear.facts(),
            Part::Weight(weight) => weight.facts(),
        }
    }
}

impl PartMut<'_> {
    fn facts(&self) -> Facts {
        match self {
            PartMut::Linear(linear) => linear.facts(),
            PartMut::Weight(weight) => weight.facts(),
        }
    }
}

shown_by_facts!(Part<'_>, PartMut<'_>);

impl Render for Var {
    fn render(&self) -> MimeBundle {
        self.as_tensor().render()
    }
}

impl Render for candle_core::backprop::GradStore {
    fn render(&self) -> MimeBundle {
        let count = self.get_ids().count();
        Facts::new("Gradients of a backward pass")
            .fact("tensors", number::count(count as u64))
            .hint("`.get(&tensor)` or `.get(&var)` gives the gradient of one")
            .render()
    }
}
