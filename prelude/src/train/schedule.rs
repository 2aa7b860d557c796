//! Learning-rate schedules: how far a run has come → a factor on the learning rate.

use std::f64::consts::PI;

/// The shape of the learning rate over a run. Lengths are parts of the run, so that a longer run stretches it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// The same rate all the way.
    Constant,
    /// A linear rise over the first `warmup` of the run, then constant.
    Warmup {
        /// Part of the run, 0 to 1.
        warmup: f64,
    },
    /// A linear rise, then half a cosine down to `floor`.
    WarmupCosine {
        /// Part of the run that rises, 0 to 1.
        warmup: f64,
        /// Where the cosine ends, as a factor of the full rate.
        floor: f64,
    },
}

impl Schedule {
    /// The factor at `progress`, the part of the run that is done (0 at the first step, 1 at the end).
    pub fn factor(self, progress: f64) -> f64 {
        let progress = progress.clamp(0.0, 1.0);
        let rise = |warmup: f64| {
            if progress < warmup {
                (progress / warmup).max(0.01)
            } else {
                1.0
            }
        };
        match self {
            Schedule::Constant => 1.0,
            Schedule::Warmup { warmup } => rise(warmup),
            Schedule::WarmupCosine { warmup, .. } if progress < warmup => rise(warmup),
            Schedule::WarmupCosine { warmup, floor } => {
                let down = (progress - warmup) / (1.0 - warmup).max(f64::EPSILON);
                floor + (1.0 - floor) * 0.5 * (1.0 + (PI * down).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warmup_rises_and_cosine_falls_to_the_floor() {
        let schedule = Schedule::WarmupCosine {
            warmup: 0.1,
            floor: 0.05,
        };
        assert!((schedule.factor(0.05) - 0.5).abs() < 1e-12);
        assert!((schedule.factor(0.1) - 1.0).abs() < 1e-12);
        assert!((schedule.factor(0.55) - 0.525).abs() < 1e-12);
        assert!((schedule.factor(1.0) - 0.05).abs() < 1e-12);
        assert!(
            schedule.factor(0.0) > 0.0,
            "the first step must not be lost"
        );
        assert_eq!(Schedule::Constant.factor(0.7), 1.0);
        assert_eq!(Schedule::Warmup { warmup: 0.2 }.factor(0.7), 1.0);
    }
}
