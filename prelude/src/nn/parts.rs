//! A network lists its parts once: `parts!(Encoder { conv, layers, norm })` writes the walk over them, in this order.
//!
//! ```text
//! Weight, Linear ─► norms, Embedding, TokenRows ─► Vec and Option of them ─► layers, encoders, projectors, language models
//! ```
//! Each of these is a [`Network`]; names come from the weights themselves.

use super::{Embedding, LayerNorm, Linear, Network, Part, PartMut, RmsNorm, TokenRows, Weight};
use crate::Result;

/// Implements [`Network`](crate::nn::Network) for a type by the list of its parts, in the order of the forward pass. A part is a
/// field that is itself a network: a [`Linear`](crate::nn::Linear), a [`Weight`](crate::nn::Weight), a norm, another network, a
/// `Vec` or an `Option` of one. Fields without weights are left out.
///
/// ```
/// use glassbox_prelude::prelude::*;
///
/// #[derive(Clone, Debug)]
/// struct Bands {
///     first: Linear,
///     places: Weight,
///     norm: Option<LayerNorm>,
///     others: Vec<Linear>,
///     width: usize, // no weight
/// }
/// parts!(Bands { first, places, norm, others });
///
/// # fn main() -> Result<()> {
/// let weights = Checkpoint::random(1, DType::F32, &Device::Cpu);
/// let linear = |name: &str| Linear::load(&weights, name, (8, 8), true);
/// let mut bands = Bands {
///     first: linear("first")?,
///     places: weights.weight("places", &[8], Init::Zeros)?,
///     norm: None,
///     others: vec![linear("others.0")?, linear("others.1")?],
///     width: 8,
/// };
/// let names: Vec<String> = bands.named_parameters().into_iter().map(|p| p.name).collect();
/// assert_eq!(names[..3], ["first.weight", "first.bias", "places"]);
/// assert_eq!(bands.add_lora(&LoraConfig::new(2, 4.0, &["all-linear"]), 0)?, 3);
/// # Ok(()) }
/// ```
///
/// Inside an `impl`, it writes the walk alone: for types with parameters, and to add methods of one's own.
///
/// ```
/// # use glassbox_prelude::prelude::*;
/// struct Pair<A, B>(A, B);
///
/// impl<A: Network, B: Network> Network for Pair<A, B> {
///     parts!(0, 1);
/// }
/// ```
#[macro_export]
macro_rules! parts {
    ($network:ident { $($part:tt),* $(,)? }) => {
        impl $crate::nn::Network for $network {
            $crate::parts!($($part),*);
        }
    };
    ($($part:tt),* $(,)?) => {
        fn visit(&self, visitor: &mut dyn ::std::ops::FnMut($crate::nn::Part<'_>)) {
            let _ = &visitor; // of a network without parts
            $($crate::nn::Network::visit(&self.$part, visitor);)*
        }

        fn visit_mut(
            &mut self,
            visitor: &mut dyn ::std::ops::FnMut($crate::nn::PartMut<'_>) -> $crate::Result<()>,
        ) -> $crate::Result<()> {
            let _ = &visitor;
            $($crate::nn::Network::visit_mut(&mut self.$part, visitor)?;)*
            ::std::result::Result::Ok(())
        }

        // A part with dropout of its own has its own switch, which the walk over weights would not reach.
        fn set_training(&self, training: bool) {
            let _ = training;
            $($crate::nn::Network::set_training(&self.$part, training);)*
        }

        fn take_back_draws(&self) {
            $($crate::nn::Network::take_back_draws(&self.$part);)*
        }
    };
}

impl Network for Linear {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part::Linear(self));
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        visitor(PartMut::Linear(self))
    }
}

impl Network for Weight {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part::Weight(self));
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        visitor(PartMut::Weight(self))
    }
}

parts!(RmsNorm { weight });
parts!(LayerNorm { weight, bias });
parts!(Embedding { weight, rows });
parts!(TokenRows { weight });

/// What holds several parts, or perhaps none: each in turn.
macro_rules! each_in_turn {
    ($($several:ident),+) => {$(
        impl<N: Network> Network for $several<N> {
            fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
                self.iter().for_each(|part| part.visit(visitor));
            }

            fn visit_mut(
                &mut self,
                visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>,
            ) -> Result<()> {
                self.iter_mut().try_for_each(|part| part.visit_mut(visitor))
            }

            fn set_training(&self, training: bool) {
                self.iter().for_each(|part| part.set_training(training));
            }

            fn take_back_draws(&self) {
                self.iter().for_each(Network::take_back_draws);
            }
        }
    )+};
}
each_in_turn!(Vec, Option);

impl<N: Network + ?Sized> Network for Box<N> {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        (**self).visit(visitor);
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        (**self).visit_mut(visitor)
    }

    fn set_training(&self, training: bool) {
        (**self).set_training(training);
    }

    fn take_back_draws(&self) {
        (**self).take_back_draws();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Checkpoint, Init, LoraConfig};
    use candle_core::{DType, Device};
    use std::cell::Cell;

    /// A part with a switch of its own, as a layer with dropout has.
    struct Switch {
        weight: Weight,
        on: Cell<bool>,
        back: Cell<usize>,
    }

    impl Network for Switch {
        fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
            self.weight.visit(visitor);
        }

        fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
            self.weight.visit_mut(visitor)
        }

        fn set_training(&self, training: bool) {
            self.on.set(training);
        }

        fn take_back_draws(&self) {
            self.back.set(self.back.get() + 1);
        }
    }

    struct Inner {
        switch: Switch,
        norm: LayerNorm,
    }
    crate::parts!(Inner { switch, norm });

    #[allow(clippy::vec_box)] // a box of a network is one too
    struct Outer {
        table: Embedding,
        none: Option<RmsNorm>,
        inner: Vec<Box<Inner>>,
        fc: Linear,
    }
    crate::parts!(Outer {
        table,
        none,
        inner,
        fc
    });

    /// Nothing to train.
    struct Empty;
    crate::parts!(Empty {});

    fn outer() -> Result<Outer> {
        let weights = Checkpoint::random(1, DType::F32, &Device::Cpu);
        let inner = |at: usize| -> Result<Box<Inner>> {
            Ok(Box::new(Inner {
                switch: Switch {
                    weight: weights.weight(&format!("inner.{at}.switch"), &[2], Init::Ones)?,
                    on: Cell::new(false),
                    back: Cell::new(0),
                },
                norm: LayerNorm::load(&weights, &format!("inner.{at}.norm"), 4, 1e-5)?,
            }))
        };
        Ok(Outer {
            table: Embedding::load(&weights, "table", 6, 4, Init::Ones)?,
            none: None,
            inner: vec![inner(0)?, inner(1)?],
            fc: Linear::load(&weights, "fc", (4, 4), true)?,
        })
    }

    #[test]
    fn the_walk_has_the_order_of_the_list_and_both_walks_are_one() -> Result<()> {
        let mut outer = outer()?;
        let wanted = [
            "table.weight",
            "inner.0.switch",
            "inner.0.norm.weight",
            "inner.0.norm.bias",
            "inner.1.switch",
            "inner.1.norm.weight",
            "inner.1.norm.bias",
            "fc.weight",
            "fc.bias",
        ];
        let names = |outer: &Outer| -> Vec<String> {
            outer
                .named_parameters()
                .into_iter()
                .map(|p| p.name)
                .collect()
        };
        assert_eq!(names(&outer), wanted);
        outer.set_trainable(true)?;
        assert_eq!(outer.trainable_parameters().len(), wanted.len());
        outer.none = Some(RmsNorm::load(
            &Checkpoint::random(1, DType::F32, &Device::Cpu),
            "none",
            4,
            1e-5,
        )?);
        assert_eq!(names(&outer)[1], "none.weight");
        assert_eq!(outer.add_lora(&LoraConfig::new(1, 1.0, &["fc"]), 0)?, 1);
        assert!(Empty.named_parameters().is_empty());
        Ok(())
    }

    #[test]
    fn the_first_error_stops_the_walk() -> Result<()> {
        let mut seen = 0;
        let stopped = outer()?.visit_mut(&mut |_| {
            seen += 1;
            match seen {
                3 => Err(crate::Error::Interrupted),
                _ => Ok(()),
            }
        });
        assert!(matches!(stopped, Err(crate::Error::Interrupted)));
        assert_eq!(seen, 3);
        Ok(())
    }

    #[test]
    fn switches_of_parts_are_reached_at_any_depth() -> Result<()> {
        let outer = outer()?;
        outer.set_training(true);
        outer.take_back_draws();
        for inner in &outer.inner {
            assert!(inner.switch.on.get() && inner.switch.back.get() == 1);
        }
        Ok(())
    }
}
