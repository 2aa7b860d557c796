//! New rows of an embedding table, and of the LM head, that train while the table stays frozen and gets no gradient.
//!
//! New tokens of a tokenizer land on rows that the table has but never used (Phi-3: 32,011 tokens, 32,064 rows), or behind
//! its end. Either way these rows are kept apart, in f32, and take the place of the table's.

use super::linear::Linear;
use super::parameter::{Weight, shared};
use super::role::Role;
use crate::{Error, Result};
use candle_core::{D, DType, Device, Tensor};

/// Rows that stand in for some of a table's.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::TokenRows;
///
/// # fn main() -> Result<()> {
/// let values = Tensor::ones((2, 16), DType::F32, &Device::Cpu)?;
/// let rows = TokenRows::new("new_rows", &[99, 100], &values, 100)?; // one of the table, one behind it
/// assert_eq!((rows.ids(), rows.vocabulary(100)), (&[99, 100][..], 101));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenRows {
    /// The token ids, ascending.
    ids: Vec<u32>,
    /// `[n, D]`, f32.
    pub weight: Weight,
}

impl TokenRows {
    /// Rows for `ids` in place of those of a table of `vocabulary` rows, or behind it; `values` is `[n, D]`.
    ///
    /// # Errors
    /// When the ids are not ascending, leave a gap behind the table, or are not as many as the values.
    pub fn new(name: &str, ids: &[u32], values: &Tensor, vocabulary: usize) -> Result<Self> {
        if ids.is_empty() || ids.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::Input(format!(
                "new rows need ascending token ids, got {ids:?}"
            )));
        }
        let behind = ids.iter().filter(|&&id| id as usize >= vocabulary);
        if let Some((place, id)) = behind
            .enumerate()
            .find(|(i, id)| **id as usize != vocabulary + i)
        {
            return Err(Error::Input(format!(
                "token id {id} leaves a gap behind the table: the next free row is {}",
                vocabulary + place
            )));
        }
        let (count, _) = values.dims2()?;
        if count != ids.len() {
            return Err(Error::Input(format!(
                "{count} rows of values for {} token ids",
                ids.len()
            )));
        }
        Ok(Self {
            ids: ids.to_vec(),
            weight: Weight::frozen(name, values.to_dtype(DType::F32)?.detach())
                .with_role(Role::NewRows),
        })
    }

    /// The token ids, ascending.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Rows of a table of `vocabulary` rows together with these.
    pub fn vocabulary(&self, vocabulary: usize) -> usize {
        self.ids
            .last()
            .map_or(vocabulary, |&last| vocabulary.max(last as usize + 1))
    }

    /// Rows by id, `[N, D]` in the table's dtype: these where they stand in, the table's elsewhere.
    ///
    /// # Errors
    /// When an id is in neither.
    pub(crate) fn look_up(&self, table: &Weight, ids: &[u32]) -> Result<Tensor> {
        let (device, dtype) = (table.tensor().device(), table.tensor().dtype());
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let own: Vec<Option<usize>> = ids.iter().map(|id| self.place(*id)).collect();
        for (id, own) in ids.iter().zip(&own) {
            match own {
                Some(place) => new.push(*place as u32),
                None => old.push(*id),
            }
        }
        let old_rows = |ids: Vec<u32>| -> Result<Tensor> { table.rows(&Tensor::new(ids, device)?) };
        if new.is_empty() {
            return old_rows(old);
        }
        // Old rows, then new ones; the order of the text comes last.
        let (mut next_old, mut next_new) = (0, old.len() as u32);
        let order: Vec<u32> = own
            .iter()
            .map(|own| {
                let next = if own.is_some() {
                    &mut next_new
                } else {
                    &mut next_old
                };
                *next += 1;
                *next - 1
            })
            .collect();
        let new = Tensor::new(new, device)?;
        let new = self.weight.tensor().index_select(&new, 0)?; // [Nn, D]
        let new = new.to_dtype(dtype)?;
        let all = match old.is_empty() {
            true => new,
            false => Tensor::cat(&[old_rows(old)?, new], 0)?, // [N, D]
        };
        Ok(all.index_select(&Tensor::new(order, device)?, 0)?)
    }

    /// Logits of a head, `[.., V]` in f32, with those of these rows in place; `hidden` is `[.., D]`.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(crate) fn logits(&self, hidden: &Tensor, logits: &Tensor) -> Result<Tensor> {
        let head = Linear::new(self.weight.name(), shared(&self.weight), None);
        let own = head.forward(&hidden.to_dtype(DType::F32)?)?; // [.., n]
        let vocabulary = logits.dim(D::Minus1)?;
        let last = logits.rank() - 1;
        let (mut pieces, mut from) = (Vec::new(), 0);
        for (place, &id) in self.ids.iter().enumerate() {
            let id = id as usize;
            if id > from && from < vocabulary {
                pieces.push(logits.narrow(last, from, id - from)?);
            }
            pieces.push(own.narrow(last, place, 1)?);
            from = id + 1;
        }
        if from < vocabulary {
            pieces.push(logits.narrow(last, from, vocabulary - from)?);
        }
        Ok(Tensor::cat(&pieces, last)?)
    }

    /// The table with these rows in it.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(crate) fn in_table(&self, table: &Tensor) -> Result<Tensor> {
        let table = table.detach().to_device(&Device::Cpu)?;
        let rows = self.vocabulary(table.dim(0)?);
        let ids: Vec<u32> = (0..rows as u32).collect();
        let own = Self {
            ids: self.ids.clone(),
            weight: Weight::frozen(
                self.weight.name(),
                self.weight.tensor().detach().to_device(&Device::Cpu)?,
            ),
        };
        own.look_up(&Weight::frozen("table", table), &ids)
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};

    const WIDTH: usize = 5;

    /// Rows 1, 6 and 7 stand in for those of a table of 7: one is behind its end.
    fn rows(values: &Tensor) -> Result<TokenRows> {
        let mut rows = TokenRows::new("rows", &[1, 6, 7], values, 7)?;
        // As trained: the values that the gradient is taken of.
        rows.weight = Weight::frozen("rows", values.clone());
        Ok(rows)
    }

    /// The whole table, put together row by row.
    fn whole(table: &Tensor, values: &Tensor) -> Result<Tensor> {
        let row = |t: &Tensor, i| t.narrow(0, i, 1);
        let all = [
            row(table, 0)?,
            row(values, 0)?,
            table.narrow(0, 2, 4)?,
            row(values, 1)?,
            row(values, 2)?,
        ];
        Ok(Tensor::cat(&all, 0)?)
    }

    #[test]
    fn rows_stand_in_and_get_their_gradient() -> Result<()> {
        let (table, values) = (random(&[7, WIDTH], 1.0, 1), random(&[3, WIDTH], 1.0, 2));
        let frozen = Weight::frozen("table", table.clone());
        let ids = [6u32, 0, 1, 7, 3, 6];
        let wanted = Tensor::new(&ids, table.device())?;
        check_gradient(
            std::slice::from_ref(&values),
            |a| rows(&a[0])?.look_up(&frozen, &ids),
            |a| Ok(whole(&table, &a[0])?.index_select(&wanted, 0)?),
            1e-6,
        )?;
        let none = rows(&values)?.look_up(&frozen, &[0, 5])?;
        assert_close(
            &none,
            &table.index_select(&Tensor::new(&[0u32, 5], table.device())?, 0)?,
            0.0,
        );
        assert_close(
            &rows(&values)?.in_table(&table)?,
            &whole(&table, &values)?,
            0.0,
        );
        assert_eq!(rows(&values)?.vocabulary(7), 8);
        Ok(())
    }

    #[test]
    fn logits_are_those_of_the_whole_table() -> Result<()> {
        let (table, values) = (random(&[7, WIDTH], 1.0, 1), random(&[3, WIDTH], 1.0, 2));
        let hidden = random(&[2, 3, WIDTH], 1.0, 3);
        let head = |hidden: &Tensor, table: &Tensor| -> Result<Tensor> {
            Ok(hidden.broadcast_matmul(&table.t()?)?)
        };
        check_gradient(
            &[hidden, values],
            |a| rows(&a[1])?.logits(&a[0], &head(&a[0], &table)?),
            |a| head(&a[0], &whole(&table, &a[1])?),
            1e-5,
        )
    }

    #[test]
    fn ids_that_leave_a_gap_are_refused() -> Result<()> {
        let values = random(&[2, WIDTH], 1.0, 2);
        for ids in [[3, 3], [5, 2], [6, 8], [8, 9]] {
            assert!(matches!(
                TokenRows::new("rows", &ids, &values, 7),
                Err(Error::Input(_))
            ));
        }
        assert!(TokenRows::new("rows", &[6], &values, 7).is_err());
        TokenRows::new("rows", &[7, 8], &values, 7)?;
        Ok(())
    }
}
