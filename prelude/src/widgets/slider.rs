//! A number between two ends, moved with the mouse.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use super::interact::Control;
use super::model::{Kind, Model};
use crate::display::html::{self, GREEN};
use crate::display::{MimeBundle, Render};
use crate::error::Result;

static WHOLE: Kind = Kind {
    name: "IntSlider",
    style: "SliderStyle",
    value: "value",
    accept: |state, wish| {
        // A browser may write 3 as 3.0.
        let wish = wish
            .as_i64()
            .or_else(|| wish.as_f64().map(|wish| wish.round() as i64))?;
        let [least, most] = ["min", "max"].map(|end| state.get(end).and_then(Value::as_i64));
        Some(json!(wish.clamp(least?, most?.max(least?))))
    },
};

static REAL: Kind = Kind {
    name: "FloatSlider",
    style: "SliderStyle",
    value: "value",
    accept: |state, wish| {
        let [least, most] = ends(state);
        Some(json!(wish.as_f64()?.clamp(least, most.max(least))))
    },
};

fn ends(state: &Map<String, Value>) -> [f64; 2] {
    ["min", "max"].map(|end| state.get(end).and_then(Value::as_f64).unwrap_or_default())
}

/// A type of number that a [`Slider`] gives: whole ones up to 2⁵³, as far as a browser counts, and real ones.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::widgets::SliderValue;
///
/// assert!(<u32 as SliderValue>::WHOLE && !<f64 as SliderValue>::WHOLE);
/// assert_eq!(f64::from_json(&0.5.to_json()), 0.5);
/// ```
pub trait SliderValue: Copy + PartialOrd + fmt::Display + Send + 'static {
    /// Whether the numbers are whole.
    const WHOLE: bool;
    /// As JSON.
    fn to_json(self) -> Value;
    /// From JSON that [`SliderValue::to_json`] or a browser wrote.
    fn from_json(value: &Value) -> Self;
}

macro_rules! whole {
    ($($number:ty),*) => {$(
        impl SliderValue for $number {
            const WHOLE: bool = true;
            fn to_json(self) -> Value {
                const MOST: i64 = 1 << 53;
                json!(i64::try_from(self).unwrap_or(MOST).clamp(-MOST, MOST))
            }
            fn from_json(value: &Value) -> Self {
                let value = value.as_i64().unwrap_or_default();
                <$number>::try_from(value).unwrap_or(if value < 0 { <$number>::MIN } else { <$number>::MAX })
            }
        }
    )*};
}
whole!(i32, i64, u32, u64, usize);

macro_rules! real {
    ($($number:ty),*) => {$(
        impl SliderValue for $number {
            const WHOLE: bool = false;
            fn to_json(self) -> Value {
                json!(if self.is_finite() { f64::from(self) } else { 0.0 })
            }
            fn from_json(value: &Value) -> Self {
                value.as_f64().unwrap_or_default() as $number
            }
        }
    )*};
}
real!(f32, f64);

/// A slider from the first to the last number of a range: `Slider::new("temperature", 0.0..=2.0).step(0.1).starting_at(0.7)`.
///
/// Clones are the same slider. As the last expression of a cell, or by [`crate::display::display`], it stands in the page.
/// [`super::interact()`] shows it with a view that follows it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let temperature = Slider::new("temperature", 0.0..=2.0).step(0.1).starting_at(0.7);
/// assert_eq!(temperature.value(), 0.7);
/// temperature.on_change(|value| {
///     println!("now {value}");
///     Ok(())
/// });
/// temperature.set_value(1.2)?;
/// assert_eq!(temperature.value(), 1.2);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub struct Slider<T> {
    pub(super) model: Arc<Model>,
    number: std::marker::PhantomData<fn() -> T>,
}

impl<T> Clone for Slider<T> {
    fn clone(&self) -> Self {
        Slider {
            model: self.model.clone(),
            number: std::marker::PhantomData,
        }
    }
}

impl<T: SliderValue> Slider<T> {
    /// A slider that begins at the range's first number; whole numbers go in steps of 1, real ones in steps of a hundredth of the range.
    pub fn new(label: &str, range: RangeInclusive<T>) -> Slider<T> {
        let (mut least, mut most) = range.into_inner();
        if most < least {
            std::mem::swap(&mut least, &mut most);
        }
        let (least, most) = (least.to_json(), most.to_json());
        let (kind, step, format) = if T::WHOLE {
            (&WHOLE, json!(1), "d")
        } else {
            let span = most.as_f64().unwrap_or_default() - least.as_f64().unwrap_or_default();
            (&REAL, json!(span / 100.0), ".2f")
        };
        let state = json!({
            "value": least, "min": least, "max": most, "step": step,
            "orientation": "horizontal", "readout": true, "readout_format": format, "continuous_update": true,
            "behavior": "drag-tap",
        });
        Slider {
            model: Model::new(kind, label, state),
            number: std::marker::PhantomData,
        }
    }

    /// How far one step of the slider goes.
    #[must_use]
    pub fn step(self, step: T) -> Self {
        self.model.set("step", step.to_json());
        self
    }

    /// Where the slider begins.
    #[must_use]
    pub fn starting_at(self, value: T) -> Self {
        if let Some(value) = (if T::WHOLE { WHOLE.accept } else { REAL.accept })(
            &self.model.state(),
            &value.to_json(),
        ) {
            self.model.set("value", value);
        }
        self
    }

    /// Only tells where the slider was let go, not each place that it passes: for views that take long.
    #[must_use]
    pub fn on_release(self) -> Self {
        self.model.set("continuous_update", false.into());
        self
    }

    /// Where the slider stands.
    pub fn value(&self) -> T {
        T::from_json(&self.model.get("value"))
    }

    /// Moves the slider, here and in the page; what follows it runs.
    ///
    /// # Errors
    /// That of the code which follows the slider.
    pub fn set_value(&self, value: T) -> Result<()> {
        self.model.set_value(&value.to_json())
    }

    /// Runs `code` with the new number whenever the slider is moved, between two cells.
    pub fn on_change(&self, mut code: impl FnMut(T) -> Result<()> + Send + 'static) {
        let slider = Slider::<T>::clone(self);
        // The code is kept by the model: a strong handle in it would keep both for ever.
        let model = Arc::downgrade(&slider.model);
        self.model
            .on_change(Arc::new(Mutex::new(move || match model.upgrade() {
                Some(model) => code(T::from_json(&model.get("value"))),
                None => Ok(()),
            })));
    }

    /// Takes the slider out of the page; what follows it runs no more.
    pub fn close(&self) {
        self.model.close();
    }
}

impl<T: SliderValue> Render for Slider<T> {
    fn render(&self) -> MimeBundle {
        let state = self.model.state();
        let [least, most] = ends(&state);
        let value = self.value();
        let end = |key| T::from_json(&self.model.get(key));
        let at = state
            .get("value")
            .and_then(Value::as_f64)
            .unwrap_or_default();
        let fraction = if most > least {
            (at - least) / (most - least)
        } else {
            0.0
        };
        let plain = format!(
            "{}: {value} (a slider from {} to {})",
            self.model.description(),
            end("min"),
            end("max")
        );
        let html = format!(
            "{}&ensp;{value} <span style=\"opacity:0.65\">({} to {})</span>",
            html::bar(fraction, 200, 8, GREEN),
            end("min"),
            end("max"),
        );
        self.model.view(plain, &html)
    }
}

impl<T: SliderValue> Control for Slider<T> {
    type Value = T;
    fn current(&self) -> T {
        self.value()
    }
    fn said(&self) -> String {
        format!("{} = {}", self.model.description(), self.value())
    }
    fn models(&self) -> Vec<Arc<Model>> {
        vec![self.model.clone()]
    }
    fn bundles(&self) -> Vec<MimeBundle> {
        vec![self.render()]
    }
}
