//! The gradient ledger: parameter by parameter, does it train, how large is its gradient, how far does a step move it.
//!
//! A parameter that should train and gets no gradient is the fault that no loss curve shows. Here it is red.

use candle_core::{DType, Device, Tensor};

use crate::display::html::{self, escape};
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::error::Result;
use crate::nn::{Parameter, Role};

/// Rows before the fold; what has to be repaired comes first.
const OPEN_ROWS: usize = 16;

/// How a parameter stands.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let ledger = caption_ledger(&vlm, &Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let of = |state| ledger.entries().iter().filter(|entry| entry.state == state).count();
/// assert!(of(LedgerState::Trains) > 0 && of(LedgerState::Frozen) > 0);
/// assert!(!LedgerState::Frozen.is_error() && LedgerState::NoGradient.is_error());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerState {
    /// Trains and has a gradient.
    Trains,
    /// Does not train, as intended for a base model's weight.
    Frozen,
    /// A LoRA factor that does not train: nothing would be learned.
    FrozenLora,
    /// Trains, but the loss does not depend on it: it has no gradient.
    NoGradient,
    /// Trains, and its gradient is exactly zero.
    ZeroGradient,
    /// A LoRA factor A whose gradient is zero because its B is still zero, which is so before the first step.
    WaitsForB,
    /// Its gradient is not finite.
    NotFinite,
}

impl LedgerState {
    /// Whether something has to be repaired.
    pub fn is_error(self) -> bool {
        matches!(
            self,
            Self::FrozenLora | Self::NoGradient | Self::ZeroGradient | Self::NotFinite
        )
    }

    /// What the ledger says.
    pub fn words(self) -> &'static str {
        match self {
            Self::Trains => "trains",
            Self::Frozen => "frozen",
            Self::FrozenLora => "LoRA is frozen",
            Self::NoGradient => "no gradient: the loss does not depend on it",
            Self::ZeroGradient => "gradient is zero",
            Self::WaitsForB => "zero until B has moved",
            Self::NotFinite => "gradient is not finite",
        }
    }
}

/// One parameter in the ledger.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let ledger = caption_ledger(&vlm, &Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
/// let entry = ledger.entries().iter().find(|entry| entry.name == "projector.fc1.weight");
/// assert!(entry.is_some_and(|entry| entry.gradient_norm > Some(0.0))); // it learns
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerEntry {
    /// Full name.
    pub name: String,
    /// Number of values.
    pub count: usize,
    /// Length of the weight as one vector.
    pub weight_norm: f64,
    /// Length of the gradient as one vector, if there is one.
    pub gradient_norm: Option<f64>,
    /// Length of the last update over the length of the weight, once [`GradientLedger::updates_since`] was asked.
    /// 1e-3 is usual, 1 is too much, 0 is nothing.
    pub update_ratio: Option<f64>,
    /// How it stands.
    pub state: LedgerState,
}

/// All parameters of a model with their gradients.
///
/// ```
/// # use glassbox_prelude::{candle_core::{Device, Var}, inspect::GradientLedger, nn::Parameter};
/// # fn main() -> glassbox_prelude::Result<()> {
/// let used = Var::new(&[1f32, 2.0], &Device::Cpu)?;
/// let unused = Var::new(&[3f32], &Device::Cpu)?;
/// let parameters = [Parameter::new("used", &used), Parameter::new("unused", &unused)];
/// let loss = used.as_tensor().sqr()?.sum_all()?;
/// let ledger = GradientLedger::of(&loss, &parameters)?;
/// assert_eq!(ledger.errors().len(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
pub struct GradientLedger {
    entries: Vec<LedgerEntry>,
}

impl GradientLedger {
    /// Runs the backward pass of `loss` (a scalar) and enters every parameter.
    ///
    /// # Errors
    /// When the backward pass fails.
    pub fn of(loss: &Tensor, parameters: &[Parameter]) -> Result<Self> {
        let gradients = loss.backward()?;
        Self::from_gradients(parameters, &|parameter| {
            parameter
                .var
                .as_ref()
                .and_then(|var| gradients.get(var.as_tensor()))
                .cloned()
        })
    }

    /// Enters every parameter with the gradient that `gradient` knows of it.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn from_gradients(
        parameters: &[Parameter],
        gradient: &dyn Fn(&Parameter) -> Option<Tensor>,
    ) -> Result<Self> {
        let mut entries = Vec::with_capacity(parameters.len());
        for parameter in parameters {
            let gradient = gradient(parameter).filter(|_| parameter.var.is_some());
            let gradient_norm = gradient.as_ref().map(norm).transpose()?;
            let state = match (parameter.var.is_some(), gradient_norm) {
                (false, _) if parameter.role.is_lora() => LedgerState::FrozenLora,
                (false, _) => LedgerState::Frozen,
                (true, None) => LedgerState::NoGradient,
                (true, Some(norm)) if !norm.is_finite() => LedgerState::NotFinite,
                (true, Some(norm)) if norm > 0.0 => LedgerState::Trains,
                (true, Some(_)) if waits_for_b(parameter, parameters)? => LedgerState::WaitsForB,
                (true, Some(_)) => LedgerState::ZeroGradient,
            };
            entries.push(LedgerEntry {
                name: parameter.name.clone(),
                count: parameter.tensor.elem_count(),
                weight_norm: norm(&parameter.values()?)?,
                gradient_norm,
                update_ratio: None,
                state,
            });
        }
        Ok(Self { entries })
    }

    /// Adds how far each trainable parameter has moved since `before`, what [`snapshot`] gave before the step.
    ///
    /// # Errors
    /// When the shapes are not those of `before`.
    pub fn updates_since(
        mut self,
        before: &[(String, Tensor)],
        parameters: &[Parameter],
    ) -> Result<Self> {
        for entry in &mut self.entries {
            let old = before.iter().find(|(name, _)| *name == entry.name);
            let new = parameters
                .iter()
                .find(|parameter| parameter.name == entry.name);
            if let (Some((_, old)), Some(new)) = (old, new) {
                let moved = norm(&(new.tensor.detach() - old)?)?;
                let size = norm(old)?;
                // A weight that starts at zero, such as LoRA's B, is compared with where it is now.
                let size = if size > 0.0 { size } else { norm(&new.tensor)? };
                entry.update_ratio = Some(if size > 0.0 { moved / size } else { 0.0 });
            }
        }
        Ok(self)
    }

    /// Every parameter.
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    /// The parameters that have to be repaired; empty when every trainable parameter gets a gradient.
    pub fn errors(&self) -> Vec<&LedgerEntry> {
        self.entries
            .iter()
            .filter(|entry| entry.state.is_error())
            .collect()
    }
}

/// Copies of the trainable parameters, for [`GradientLedger::updates_since`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::inspect::snapshot;
///
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let before = snapshot(&vlm.named_parameters())?; // copies, for `GradientLedger::updates_since`
/// assert_eq!(before.len(), vlm.trainable_parameters().len());
/// # Ok(()) }
/// ```
///
/// # Errors
/// When a tensor cannot be copied.
pub fn snapshot(parameters: &[Parameter]) -> Result<Vec<(String, Tensor)>> {
    let trainable = parameters
        .iter()
        .filter(|parameter| parameter.var.is_some());
    trainable
        .map(|parameter| Ok((parameter.name.clone(), parameter.tensor.detach().copy()?)))
        .collect()
}

fn norm(tensor: &Tensor) -> Result<f64> {
    // Through the CPU in f32: a sum of squares overflows f16.
    let flat = tensor
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?; // any shape
    Ok(f64::from(flat.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}

/// Whether `parameter` is a factor A whose B is zero, so that its gradient has to be zero.
fn waits_for_b(parameter: &Parameter, all: &[Parameter]) -> Result<bool> {
    if parameter.role != Role::LoraA {
        return Ok(false);
    }
    let b_name = parameter.name.replace(".lora_A.", ".lora_B.");
    match all.iter().find(|other| other.name == b_name) {
        Some(b) => Ok(norm(&b.tensor)? == 0.0),
        None => Ok(false),
    }
}

impl Render for GradientLedger {
    fn render(&self) -> MimeBundle {
        let count = |wanted: &dyn Fn(&LedgerEntry) -> bool| {
            let chosen = self.entries.iter().filter(|entry| wanted(entry));
            chosen.fold((0_u64, 0_u64), |(tensors, values), entry| {
                (tensors + 1, values + entry.count as u64)
            })
        };
        let trains =
            count(&|entry| matches!(entry.state, LedgerState::Trains | LedgerState::WaitsForB));
        let frozen = count(&|entry| entry.state == LedgerState::Frozen);
        let errors = count(&|entry| entry.state.is_error());
        let words = |(tensors, values): (u64, u64), what: &str| {
            format!(
                "{} {what} ({} values)",
                number::count(tensors),
                number::count(values)
            )
        };
        let mut summary = format!(
            "{} · {}",
            words(trains, "tensors train"),
            words(frozen, "frozen")
        );
        if errors.0 > 0 {
            summary.push_str(&format!(" · {} WITHOUT LEARNING", number::count(errors.0)));
        }
        let updates = self
            .entries
            .iter()
            .any(|entry| entry.update_ratio.is_some());
        let mut table = Table::new([
            "parameter",
            "state",
            "values",
            "weight norm",
            "gradient norm",
        ])
        .fold_after(OPEN_ROWS)
        .headings(updates.then(|| "update / weight".to_owned()));
        // What has to be repaired first, then the rest in the order of the forward pass; frozen weights are only counted.
        let shown = self
            .entries
            .iter()
            .filter(|entry| entry.state != LedgerState::Frozen);
        let (wrong, right): (Vec<_>, Vec<_>) = shown.partition(|entry| entry.state.is_error());
        for entry in wrong.into_iter().chain(right) {
            table.push(row(entry));
        }
        let bundle = table.render();
        let chip = if errors.0 == 0 {
            html::chip(
                "✓ every trainable parameter gets a gradient",
                html::GREEN,
                "#ffffff",
            )
        } else {
            html::chip(
                &format!("✗ {} parameters will not learn", number::count(errors.0)),
                html::RED,
                "#ffffff",
            )
        };
        let markup = format!(
            "<div style=\"font-family:{};font-size:13px\"><div><b>gradient ledger</b> · {} {chip}</div>{}</div>",
            html::SANS,
            escape(&summary),
            bundle.html().unwrap_or_default()
        );
        MimeBundle::text(format!("gradient ledger · {summary}\n{}", bundle.plain()))
            .with_html(markup)
    }
}

/// A name, small and without what every LoRA factor's name has in PEFT's files: state and norms must have room beside it.
fn small_name(name: &str) -> Cell {
    let short = name.replacen("base_model.model.", "", 1);
    let short = match short.strip_suffix(".weight") {
        Some(factor) if factor.contains(".lora_") => factor,
        _ => &short,
    };
    let markup = format!(
        "<code style=\"font-family:{};font-size:11px;white-space:pre\">{}</code>",
        html::MONO,
        escape(short)
    );
    Cell::with_html(short, markup)
}

fn row(entry: &LedgerEntry) -> Vec<Cell> {
    let figure = |value: Option<f64>| Cell::figure(value.map_or("–".into(), number::float));
    let state = match entry.state {
        state if state.is_error() => Cell::bad(format!("✗ {}", state.words())),
        state => Cell::text(state.words()),
    };
    // The last cell is cut off when no entry has an update.
    vec![
        small_name(&entry.name),
        state,
        entry.count.into(),
        Cell::figure(number::float(entry.weight_norm)),
        figure(entry.gradient_norm),
        figure(entry.update_ratio),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, LoraConfig, Weight};

    const CPU: Device = Device::Cpu;

    fn layer() -> Result<Linear> {
        let weight = Weight::frozen("proj.weight", Tensor::randn(0f32, 1.0, (3, 4), &CPU)?);
        let mut layer = Linear::new("proj", weight, None);
        layer.add_lora(&LoraConfig::new(2, 4.0, &["proj"]), 1)?;
        Ok(layer)
    }

    fn ledger_of(layer: &Linear) -> Result<GradientLedger> {
        let x = Tensor::randn(0f32, 1.0, (5, 4), &CPU)?;
        GradientLedger::of(&layer.forward(&x)?.sqr()?.sum_all()?, &layer.parameters())
    }

    fn states(ledger: &GradientLedger) -> Vec<LedgerState> {
        ledger.entries().iter().map(|entry| entry.state).collect()
    }

    #[test]
    fn fresh_lora_waits_for_b_and_then_trains() -> Result<()> {
        let mut layer = layer()?;
        let fresh = ledger_of(&layer)?;
        assert_eq!(
            states(&fresh),
            [
                LedgerState::Frozen,
                LedgerState::WaitsForB,
                LedgerState::Trains
            ]
        );
        assert!(fresh.errors().is_empty());
        let before = snapshot(&layer.parameters())?;
        if let Some(lora) = &mut layer.lora {
            lora.b.set(&Tensor::ones((3, 2), DType::F32, &CPU)?)?;
        }
        let moved = ledger_of(&layer)?.updates_since(&before, &layer.parameters())?;
        assert_eq!(
            states(&moved),
            [
                LedgerState::Frozen,
                LedgerState::Trains,
                LedgerState::Trains
            ]
        );
        assert_eq!(moved.entries()[2].update_ratio, Some(1.0));
        assert_eq!(moved.entries()[1].update_ratio, Some(0.0));
        Ok(())
    }

    #[test]
    fn frozen_lora_is_red() -> Result<()> {
        let mut layer = layer()?;
        if let Some(lora) = &mut layer.lora {
            lora.set_trainable(false)?;
        }
        let x = Tensor::randn(0f32, 1.0, (5, 4), &CPU)?.detach();
        let other = candle_core::Var::new(1f32, &CPU)?;
        let loss = layer.forward(&x)?.sum_all()?.mul(other.as_tensor())?;
        let ledger = GradientLedger::of(&loss, &layer.parameters())?;
        assert_eq!(
            states(&ledger)[1..],
            [LedgerState::FrozenLora, LedgerState::FrozenLora]
        );
        let bundle = ledger.render();
        assert!(bundle.plain().contains("2 WITHOUT LEARNING"));
        assert!(
            bundle
                .html()
                .is_some_and(|html| html.contains("✗ 2 parameters will not learn"))
        );
        Ok(())
    }
}
