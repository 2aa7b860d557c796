//! The table behind `:vars`: name, type, shape, size and value of each variable of the session.
//!
//! The host writes a cell that hands every variable to [`Seen`] and the rows to [`Variables`], which shows itself as a
//! table. Types that know their shape implement [`Describe`]; models tell their parameters; of any other value the table
//! says how large it is at least.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use candle_core::{Tensor, Var};

use crate::cell::as_type;
use crate::display::containers::plural;
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::nn::{Network, Parameter};
use crate::vision::Image;
use crate::vlm::Vlm;

/// Longest value that stands in the table, in characters.
const LONGEST_VALUE: usize = 48;

/// What the table says of a value besides its name and type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Extents, such as `[1, 3, 80, 80] f32` or `12 items`; empty if there are none.
    pub shape: String,
    /// Bytes that the value holds.
    pub bytes: u64,
    /// Whether it may hold more than that elsewhere.
    pub at_least: bool,
    /// The value itself if it is short; else empty.
    pub value: String,
}

/// A value that knows its shape.
pub trait Describe {
    /// Shape, size and, if it is short, the value.
    fn summary(&self) -> Summary;
}

impl Describe for Tensor {
    fn summary(&self) -> Summary {
        let dtype = self.dtype();
        Summary {
            shape: format!("{:?} {}", self.dims(), dtype.as_str()),
            bytes: (self.elem_count() * dtype.size_in_bytes()) as u64,
            ..Summary::default()
        }
    }
}

impl Describe for Var {
    fn summary(&self) -> Summary {
        self.as_tensor().summary()
    }
}

impl Describe for Image {
    fn summary(&self) -> Summary {
        Summary {
            shape: format!("{} × {}", self.width(), self.height()),
            bytes: u64::from(self.width()) * u64::from(self.height()) * 3,
            ..Summary::default()
        }
    }
}

impl Describe for Vlm {
    fn summary(&self) -> Summary {
        of_parameters(&self.named_parameters())
    }
}

impl Describe for String {
    fn summary(&self) -> Summary {
        self.as_str().summary()
    }
}

impl Describe for str {
    fn summary(&self) -> Summary {
        Summary {
            shape: plural(self.chars().count(), "character"),
            bytes: self.len() as u64,
            value: short(&format!("{self:?}")),
            ..Summary::default()
        }
    }
}

impl Describe for &str {
    fn summary(&self) -> Summary {
        (**self).summary()
    }
}

impl<T> Describe for Vec<T> {
    fn summary(&self) -> Summary {
        let tensors = self.iter().map_while(as_type::<T, Tensor>);
        let inside: u64 = tensors.map(|tensor| tensor.summary().bytes).sum();
        Summary {
            shape: plural(self.len(), "item"),
            bytes: (self.capacity() * size_of::<T>()) as u64 + inside,
            at_least: inside == 0 && std::mem::needs_drop::<T>(),
            ..Summary::default()
        }
    }
}

impl<T, const N: usize> Describe for [T; N] {
    fn summary(&self) -> Summary {
        Summary {
            shape: plural(N, "item"),
            bytes: size_of::<Self>() as u64,
            at_least: std::mem::needs_drop::<T>(),
            ..Summary::default()
        }
    }
}

impl<T: Describe> Describe for Option<T> {
    fn summary(&self) -> Summary {
        match self {
            Some(inner) => inner.summary(),
            None => Summary {
                value: "None".to_owned(),
                ..Summary::default()
            },
        }
    }
}

macro_rules! describe_collections {
    ($($name:ident<$($part:ident),+> of $item:ty),+) => {$(
        impl<$($part),+> Describe for $name<$($part),+> {
            fn summary(&self) -> Summary {
                Summary {
                    shape: plural(self.len(), "item"),
                    bytes: (self.len() * size_of::<$item>()) as u64,
                    at_least: true,
                    ..Summary::default()
                }
            }
        }
    )+};
}
describe_collections!(
    HashMap<K, V, S> of (K, V),
    BTreeMap<K, V> of (K, V),
    HashSet<K, S> of K,
    BTreeSet<K> of K,
    VecDeque<T> of T
);

macro_rules! describe_values {
    ($($name:ty),+) => {$(
        impl Describe for $name {
            fn summary(&self) -> Summary {
                Summary {
                    bytes: size_of::<Self>() as u64,
                    value: short(&format!("{self:?}")),
                    ..Summary::default()
                }
            }
        }
    )+};
}
describe_values!(
    bool,
    char,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    f32,
    f64,
    std::time::Duration
);

fn of_parameters(parameters: &[Parameter]) -> Summary {
    let elements: usize = parameters.iter().map(|p| p.tensor.elem_count()).sum();
    Summary {
        shape: plural(elements, "parameter"),
        bytes: parameters.iter().map(|p| p.bytes() as u64).sum(),
        ..Summary::default()
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A variable for the table. `(&&&Seen(&x)).summary()` takes the best of [`ByShape`], [`ByParameters`] and [`BySize`]
/// that the type of `x` allows: the compiler tries them in this order, as each needs one reference less.
pub struct Seen<'a, T>(pub &'a T);

/// Of values that implement [`Describe`].
pub trait ByShape {
    /// See [`Describe::summary`].
    fn summary(&self) -> Summary;
}

impl<T: Describe> ByShape for &&Seen<'_, T> {
    fn summary(&self) -> Summary {
        self.0.summary()
    }
}

/// Of networks: how many parameters they have.
pub trait ByParameters {
    /// Number and size of the parameters.
    fn summary(&self) -> Summary;
}

impl<T: Network> ByParameters for &Seen<'_, T> {
    fn summary(&self) -> Summary {
        of_parameters(&self.0.named_parameters())
    }
}

/// Of everything else: its own size, without what it points to.
pub trait BySize {
    /// A size that is a lower bound.
    fn summary(&self) -> Summary;
}

impl<T> BySize for Seen<'_, T> {
    fn summary(&self) -> Summary {
        Summary {
            bytes: size_of::<T>() as u64,
            at_least: std::mem::needs_drop::<T>(),
            ..Summary::default()
        }
    }
}

/// The variables of a session as a table.
#[derive(Clone, Default)]
pub struct Variables {
    rows: Vec<(String, String, Summary)>,
}

impl Variables {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable: its name, its type as Rust code, and what is known of its value.
    #[must_use]
    pub fn with(mut self, name: &str, type_name: &str, summary: Summary) -> Self {
        self.rows
            .push((name.to_owned(), type_name.to_owned(), summary));
        self
    }
}

impl Render for Variables {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["name", "type", "shape", "size", "value"]);
        for (name, type_name, summary) in &self.rows {
            let least = if summary.at_least { "≥ " } else { "" };
            table.push(vec![
                Cell::code(name),
                Cell::code(type_name),
                Cell::code(&summary.shape),
                Cell::figure(format!("{least}{}", number::bytes(summary.bytes))),
                Cell::code(&summary.value),
            ]);
        }
        let whole: u64 = self.rows.iter().map(|(_, _, summary)| summary.bytes).sum();
        let least = self.rows.iter().any(|(_, _, summary)| summary.at_least);
        let least = if least { "≥ " } else { "" };
        table
            .total([
                Cell::text("together"),
                Cell::text(""),
                Cell::text(""),
                Cell::figure(format!("{least}{}", number::bytes(whole))),
                Cell::text(""),
            ])
            .note("values that share memory (clones of tensors and models) count each time")
            .whole()
            .render()
            .whole()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn each_kind_of_value_is_described_by_what_it_knows() {
        struct Opaque(#[allow(dead_code)] u16);
        let tensor = Tensor::zeros((2, 3), DType::F16, &Device::Cpu).unwrap();
        let tensors = vec![tensor.clone(), tensor.clone()];
        let handle = size_of::<Tensor>() as u64;
        // The references are what the host writes; they order the three traits.
        #[allow(clippy::needless_borrow)]
        let summaries = [
            (&&&Seen(&tensor)).summary(),
            (&&&Seen(&tensors)).summary(),
            (&&&Seen(&Opaque(1))).summary(),
            (&&&Seen(&7_i32)).summary(),
        ];
        let sizes = summaries.each_ref().map(|summary| summary.bytes);
        assert_eq!(sizes, [12, 2 * handle + 24, 2, 4]);
        assert_eq!(summaries[0].shape, "[2, 3] f16");
        assert_eq!(summaries[1].shape, "2 items");
        assert_eq!(summaries[3].value, "7");
    }

    #[test]
    fn models_tell_their_parameters() {
        let vlm = Vlm::tiny(&Device::Cpu).unwrap();
        #[allow(clippy::needless_borrow)]
        let (whole, part) = (
            (&&&Seen(&vlm)).summary(),
            (&&&Seen(&vlm.projector)).summary(),
        );
        assert!(part.shape.ends_with("parameters"), "{part:?}");
        assert!(
            whole.bytes > part.bytes && part.bytes > 1000,
            "{whole:?} {part:?}"
        );
    }

    #[test]
    fn the_table_names_every_variable_and_marks_lower_bounds() {
        let list = vec![String::from("a")];
        let table = Variables::new()
            .with("é", "Vec<String>", list.summary())
            .with("text", "String", "long ".repeat(40).summary());
        let plain = table.render().plain().to_owned();
        assert!(
            plain.contains('é') && plain.contains("Vec<String>"),
            "{plain}"
        );
        assert!(plain.contains("≥ 24 B") && plain.contains('…'), "{plain}");
    }
}
