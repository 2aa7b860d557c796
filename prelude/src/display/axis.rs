//! One axis of a plot: a range of doubles → shares from 0 to 1, and a few round values to label it with.
//!
//! Any two finite doubles make an axis: differences that overflow, subnormal ranges and ranges of one value too. Nothing here
//! counts up in steps that may be too small to move a large value.

use std::ops::Range;

use plotters::coord::ranged1d::{
    KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter,
};

use super::number;

/// From `low` to `high`, both finite; above 0 where it is logarithmic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    pub(crate) fn linear(low: f64, high: f64) -> Self {
        let finite = |value: f64| {
            if value.is_nan() {
                0.0
            } else {
                value.clamp(f64::MIN, f64::MAX)
            }
        };
        let (low, high) = (finite(low), finite(high));
        Self {
            low: low.min(high),
            high: low.max(high),
            log: false,
        }
    }

    pub(crate) fn logarithmic(low: f64, high: f64) -> Self {
        let least = f64::from_bits(1);
        Self {
            log: true,
            ..Self::linear(low.max(least), high.max(least))
        }
    }

    /// Where `value` lies: 0 at the low end, 1 at the high end, a half where there is only one value.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let place = |value: f64| {
            if self.log {
                return value.ln();
            }
            // As parts of the largest size, so that no difference overflows.
            let size = self.low.abs().max(self.high.abs());
            if size > 0.0 { value / size } else { 0.0 }
        };
        let (low, high) = (place(self.low), place(self.high));
        let share = (place(value) - low) / (high - low);
        if share.is_nan() {
            0.5
        } else {
            share.clamp(-1.0, 2.0)
        }
    }

    /// At most `most` round values inside, or the ends where there are no two.
    pub(crate) fn ticks(&self, most: usize) -> Vec<f64> {
        let mut ticks = match self.log {
            true => self.decades(most),
            false => self.steps(most),
        };
        ticks.retain(|tick| (self.low..=self.high).contains(tick));
        ticks.dedup();
        if ticks.len() < 2 {
            ticks = vec![self.low, self.high];
            ticks.dedup();
        }
        ticks
    }

    /// Multiples of 1, 2 or 5 times a power of ten.
    fn steps(&self, most: usize) -> Vec<f64> {
        let parts = most.max(2) as f64;
        let least = self.high / parts - self.low / parts;
        let decade = power_of_ten(least.log10().floor());
        let sizes = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade);
        let fits = |step: &f64| step.is_finite() && *step > 0.0 && *step >= least;
        let Some(step) = sizes.into_iter().find(fits) else {
            return Vec::new();
        };
        let first = (self.low / step).ceil();
        (0..=most)
            .map(|index| (first + index as f64) * step)
            .collect()
    }

    /// Powers of ten, of which every second, fifth, tenth, … where there are too many; with 2 and 5 times them where there are
    /// few.
    fn decades(&self, most: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor(), self.high.log10().floor());
        let decades = last - first + 1.0;
        let least = decades / most.max(1) as f64;
        let sizes = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
        let every = sizes.into_iter().find(|every| *every >= least);
        let every = every.unwrap_or(1000.0); // more than doubles have
        let factors: &[f64] = match decades * 3.0 <= most as f64 {
            true => &[1.0, 2.0, 5.0],
            false => &[1.0],
        };
        let begin = (first / every).ceil();
        let powers = (0..=most).map(|index| power_of_ten((begin + index as f64) * every));
        powers
            .flat_map(|power| factors.iter().map(move |factor| factor * power))
            .collect()
    }
}

/// The double nearest to it: a product of tens would overflow on the way to the smallest.
fn power_of_ten(exponent: f64) -> f64 {
    format!("1e{exponent}").parse().unwrap_or(f64::NAN)
}

impl From<Range<f64>> for Axis {
    fn from(range: Range<f64>) -> Self {
        Self::linear(range.start, range.end)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let length = f64::from(limit.1) - f64::from(limit.0);
        (f64::from(limit.0) + self.share(*value) * length).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.ticks(hint.max_num_points()),
            KeyPointWeight::Any => Vec::new(), // no light lines
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        number::float(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            Axis::linear(0.0, 100.0).ticks(8),
            [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
        );
        assert_eq!(Axis::linear(-1.2, 2.9).ticks(6), [-1.0, 0.0, 1.0, 2.0]);
        assert_eq!(
            Axis::logarithmic(0.05, 300.0).ticks(6),
            [0.1, 1.0, 10.0, 100.0]
        );
        assert_eq!(Axis::logarithmic(1.5, 9.0).ticks(6), [2.0, 5.0]);
        assert_eq!(Axis::linear(3.0, 3.0).ticks(6), [3.0]);
    }

    #[test]
    fn the_widest_and_the_narrowest_ranges_have_ends_and_a_middle() {
        for axis in [
            Axis::linear(f64::MIN, f64::MAX),
            Axis::linear(-1e308, 1e308),
            Axis::linear(0.0, f64::from_bits(2)),
            Axis::linear(1e16, 1e16 + 2.0),
            Axis::logarithmic((-700f64).exp(), 700f64.exp()),
            Axis::logarithmic(0.0, f64::INFINITY),
        ] {
            assert_eq!(axis.share(axis.low), 0.0, "{axis:?}");
            assert_eq!(axis.share(axis.high), 1.0, "{axis:?}");
            let ticks = axis.ticks(8);
            assert!((2..=9).contains(&ticks.len()), "{axis:?}: {ticks:?}");
            assert!(
                ticks.iter().all(|tick| tick.is_finite()),
                "{axis:?}: {ticks:?}"
            );
        }
        assert_eq!(Axis::linear(-1e308, 1e308).share(0.0), 0.5);
        assert_eq!(Axis::linear(f64::NAN, f64::NAN).share(7.0), 0.5);
    }
}
