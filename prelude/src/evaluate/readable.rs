//! The readable examples of a set, batch by batch: what can't be read is left out, counted, and another takes its place.

use crate::Result;
use crate::train::unreadable::{self, LeftOut};
use std::ops::Range;

/// How far a set has been read.
pub(super) struct Readable {
    positions: Range<usize>,
    size: usize,
    /// What could not be read so far.
    pub left_out: LeftOut,
}

impl Readable {
    /// Of a set of `size` examples, from its beginning.
    pub fn of(size: usize) -> Self {
        Self {
            positions: 0..size,
            size,
            left_out: LeftOut::default(),
        }
    }

    /// The next `wanted` that `read` can read, with their positions; fewer at the set's end.
    ///
    /// # Errors
    /// When more than a quarter of the set can't be read, or the error is no file's.
    pub fn next<T>(
        &mut self,
        wanted: usize,
        read: impl Fn(usize) -> Result<T>,
    ) -> Result<Vec<(usize, T)>> {
        let mut batch = Vec::with_capacity(wanted.min(self.size));
        for position in self.positions.by_ref() {
            match read(position) {
                Ok(example) => batch.push((position, example)),
                Err(error) => {
                    let limits = (unreadable::MOST, self.size);
                    self.left_out.add((true, position), error, limits)?;
                }
            }
            if batch.len() == wanted {
                break;
            }
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn what_cannot_be_read_is_replaced_and_counted() -> Result<()> {
        let mut set = Readable::of(8);
        let read = |position: usize| match position {
            1 | 4 => Err(Error::Io {
                path: format!("{position}.png").into(),
                source: std::io::ErrorKind::NotFound.into(),
            }),
            _ => Ok(position * 10),
        };
        assert_eq!(set.next(3, read)?, [(0, 0), (2, 20), (3, 30)]);
        assert_eq!(set.next(4, read)?, [(5, 50), (6, 60), (7, 70)]);
        assert!(set.next(1, read)?.is_empty());
        assert_eq!(set.left_out.list().len(), 2);
        let broken = |_| Err::<(), _>(Error::Input("no file's error".into()));
        assert!(Readable::of(8).next(1, broken).is_err());
        Ok(())
    }
}
