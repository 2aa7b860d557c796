//! What a model is made of: parts, parameters, what trains, in which dtype and where.

use candle_core::{DType, Device};

use super::table::{Cell, Table};
use super::tensor::device_name;
use super::{MimeBundle, Render, html, number};
use crate::nn::Parameter;

/// One part of a model in a [`ModelTable`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let table = Vlm::tiny(&Device::Cpu)?.table();
/// let part = table.parts().iter().find(|part| part.name == "projector");
/// assert!(part.is_some_and(|part| part.parameters == part.trainable)); // all of it trains
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPart {
    /// Its name, such as `image_encoder`.
    pub name: String,
    /// Number of parameters.
    pub parameters: u64,
    /// How many of them training changes.
    pub trainable: u64,
    /// Memory of the parameters in bytes.
    pub bytes: u64,
    /// Precision, such as `f32`, or blocks, such as `Q8_0`; several are joined by a comma.
    pub dtype: String,
    /// Where the parameters are, such as `cpu` or `cuda:0`.
    pub device: String,
}

impl ModelPart {
    /// A part without parameters, to which [`ModelPart::add`] counts tensors.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            parameters: 0,
            trainable: 0,
            bytes: 0,
            dtype: String::new(),
            device: String::new(),
        }
    }

    /// Counts a parameter tensor of `count` elements.
    pub fn add(&mut self, count: usize, dtype: DType, device: &Device, trainable: bool) {
        let bytes = count * dtype.size_in_bytes();
        self.count(count, (bytes, dtype.as_str()), device, trainable);
    }

    /// Counts a parameter, which may be held in blocks.
    pub fn add_parameter(&mut self, parameter: &Parameter) {
        let held = (parameter.bytes(), parameter.held_as());
        let device = parameter.tensor.device();
        self.count(parameter.count(), held, device, parameter.is_trainable());
    }

    fn count(
        &mut self,
        count: usize,
        (bytes, dtype): (usize, &str),
        device: &Device,
        trainable: bool,
    ) {
        self.parameters += count as u64;
        self.bytes += bytes as u64;
        if trainable {
            self.trainable += count as u64;
        }
        join(&mut self.dtype, dtype);
        join(&mut self.device, &device_name(device));
    }
}

/// Adds `word` to a list of words joined by commas, once.
fn join(list: &mut String, word: &str) {
    if !list.split(", ").any(|other| other == word) {
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(word);
    }
}

/// Parts of a model with their sizes, and the sum.
///
/// ```
/// use glassbox_prelude::{candle_core::{DType, Device}, display::{ModelPart, ModelTable, Render}};
/// let mut projector = ModelPart::new("projector");
/// projector.add(1_000, DType::F32, &Device::Cpu, true);
/// assert!(ModelTable::new("Vlm", vec![projector]).render().plain().contains("1,000"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ModelTable {
    title: String,
    parts: Vec<ModelPart>,
}

impl ModelTable {
    /// A table of these parts.
    pub fn new(title: impl Into<String>, parts: Vec<ModelPart>) -> Self {
        Self {
            title: title.into(),
            parts,
        }
    }

    /// A table of `parameters`, with a row for each run of them that `part` gives the same name.
    pub fn of(
        title: impl Into<String>,
        parameters: &[Parameter],
        part: &dyn Fn(&Parameter) -> String,
    ) -> Self {
        let mut parts: Vec<ModelPart> = Vec::new();
        for parameter in parameters {
            let name = part(parameter);
            if parts.last().is_none_or(|part| part.name != name) {
                parts.push(ModelPart::new(name));
            }
            if let Some(part) = parts.last_mut() {
                part.add_parameter(parameter);
            }
        }
        Self::new(title, parts)
    }

    /// The parts.
    pub fn parts(&self) -> &[ModelPart] {
        &self.parts
    }

    /// Number of parameters in all.
    pub fn parameters(&self) -> u64 {
        self.parts.iter().map(|part| part.parameters).sum()
    }

    /// Number of parameters that training changes.
    pub fn trainable(&self) -> u64 {
        self.parts.iter().map(|part| part.trainable).sum()
    }
}

impl Render for ModelTable {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new([
            "part",
            "parameters",
            "trainable",
            "share",
            "memory",
            "dtype",
            "device",
        ]);
        if !self.title.is_empty() {
            table = table.title(self.title.clone());
        }
        for part in &self.parts {
            table.push(vec![
                Cell::code(part.name.clone()),
                part.parameters.into(),
                part.trainable.into(),
                share(part.trainable, part.parameters),
                Cell::figure(number::bytes(part.bytes)),
                part.dtype.clone().into(),
                part.device.clone().into(),
            ]);
        }
        let bytes = self.parts.iter().map(|part| part.bytes).sum();
        let (parameters, trainable) = (self.parameters(), self.trainable());
        let sum = share(trainable, parameters);
        table
            .total([
                "all".into(),
                parameters.into(),
                trainable.into(),
                sum,
                Cell::figure(number::bytes(bytes)),
            ])
            .render()
    }
}

/// The part that trains, as a bar.
fn share(trainable: u64, parameters: u64) -> Cell {
    let fraction = trainable as f64 / parameters.max(1) as f64;
    let text = if trainable == 0 {
        "frozen".to_owned()
    } else {
        number::percent(fraction)
    };
    let markup = format!(
        "{} {}",
        html::bar(fraction, 60, 9, "#1f77b4"),
        html::escape(&text)
    );
    Cell::with_html(text, markup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_mixed_precision() {
        let mut encoder = ModelPart::new("image_encoder");
        encoder.add(900, DType::F32, &Device::Cpu, false);
        encoder.add(100, DType::BF16, &Device::Cpu, true);
        encoder.add(100, DType::BF16, &Device::Cpu, false);
        let table = ModelTable::new("tiny", vec![encoder, ModelPart::new("none")]);
        assert_eq!(
            (
                table.parameters(),
                table.trainable(),
                table.parts()[0].bytes
            ),
            (1100, 100, 4000)
        );
        let plain = table.render().plain().to_owned();
        assert!(
            plain.contains("image_encoder       1,100        100  9.1%    4.0 kB  f32, bf16  cpu"),
            "{plain}"
        );
        assert!(
            plain
                .lines()
                .last()
                .is_some_and(|line| line.starts_with("all")),
            "{plain}"
        );
    }
}
