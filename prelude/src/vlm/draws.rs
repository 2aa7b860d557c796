//! From where LoRA's dropout draws in each layer: what a training checkpoint keeps, so that a run that goes on drops what it
//! would have dropped.

use std::collections::BTreeMap;

use super::Vlm;
use crate::nn::lora::DrawPlace;
use crate::nn::{Lora, Part};
use crate::{Error, Result};

impl Vlm {
    /// The places by layer; layers without dropout have none.
    pub(crate) fn draw_places(&self) -> BTreeMap<String, DrawPlace> {
        let mut places = BTreeMap::new();
        self.each_lora(&mut |name, lora| {
            places.extend(lora.draw_place().map(|place| (name, place)));
        });
        places
    }

    /// Has dropout go on from these places.
    ///
    /// # Errors
    /// When a layer that drops has none among them.
    pub(crate) fn set_draw_places(&self, places: &BTreeMap<String, DrawPlace>) -> Result<()> {
        let mut outcome = Ok(());
        self.each_lora(&mut |name, lora| {
            if outcome.is_ok() && lora.draw_place().is_some() {
                outcome = match places.get(&name) {
                    Some(place) => lora.set_draw_place(place),
                    None => Err(Error::Input(format!(
                        "{name} has dropout, and the checkpoint does not say from where it draws"
                    ))),
                };
            }
        });
        outcome
    }

    fn each_lora(&self, visitor: &mut dyn FnMut(String, &Lora)) {
        for (of, network) in self.networks() {
            network.visit(&mut |part| {
                if let Part::Linear(linear) = part
                    && let Some(lora) = &linear.lora
                {
                    visitor(format!("{of}.{}", linear.name()), lora);
                }
            });
        }
    }
}
