//! What the composed form adds to scores so that hidden keys count nothing: geometry → a tensor on the scores' device.
//!
//! The layers of a forward pass hide the same keys. So the last tensor stays, and is copied to a GPU once a pass; where no key is hidden, as
//! for one new token, there is none.

use super::geometry::Geometry;
use crate::Result;
use candle_core::{Device, Tensor};
use std::cell::RefCell;

/// Far below any score, and finite: −∞ would make a row that sees nothing not a number.
const LOW: f32 = -1e30;

/// What hides keys.
#[derive(Clone)]
pub(super) struct Hidden {
    /// Added to the scores: 0, or [`LOW`] where the query does not see the key, `[B, 1, Tq, Tk]`.
    pub low: Tensor,
    /// 0 for queries that see nothing, else 1, `[B, 1, Tq, 1]`; absent where each sees something.
    pub seeing: Option<Tensor>,
}

/// The last one, with what it was made of.
struct Last {
    /// 1 where hidden, `[B · Tq · Tk]`.
    bytes: Vec<u8>,
    sizes: (usize, usize, usize),
    hidden: Hidden,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// Of a call of attention; `None` where every query sees every key.
///
/// # Errors
/// When it does not fit on the device.
pub(super) fn on_device(geometry: &Geometry, device: &Device) -> Result<Option<Hidden>> {
    if geometry.sees_all() {
        return Ok(None);
    }
    let bytes = geometry.hidden();
    if !bytes.contains(&1) {
        return Ok(None);
    }
    let sizes = (geometry.batch, geometry.queries, geometry.keys);
    let known = LAST.with_borrow(|last| {
        let last = last.as_ref()?;
        let same = last.sizes == sizes
            && last.hidden.low.device().same_device(device)
            && last.bytes == bytes;
        same.then(|| last.hidden.clone())
    });
    if known.is_some() {
        return Ok(known);
    }
    let (batch, queries, keys) = sizes;
    let low: Vec<f32> = bytes
        .iter()
        .map(|&hidden| f32::from(hidden) * LOW)
        .collect();
    let rows = bytes.chunks_exact(keys);
    let seeing: Vec<f32> = rows
        .map(|row| f32::from(u8::from(row.contains(&0))))
        .collect();
    let hidden = Hidden {
        low: Tensor::from_vec(low, (batch, 1, queries, keys), device)?, // [B, 1, Tq, Tk]
        seeing: match seeing.contains(&0.0) {
            false => None,
            true => Some(Tensor::from_vec(seeing, (batch, 1, queries, 1), device)?), // [B, 1, Tq, 1]
        },
    };
    let last = Last {
        bytes,
        sizes,
        hidden: hidden.clone(),
    };
    LAST.set(Some(last));
    Ok(Some(hidden))
}
