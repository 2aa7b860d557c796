//! Learning-rate schedules: how far a run has come → a factor on the learning rate.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The shape of the learning rate over a run. Lengths are parts of the run, so that a longer run stretches it. In a file:
/// `"constant"`, or `{"warmup_cosine": {"warmup": 0.05, "floor": 0.05}}`, where what is left out is as here.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let schedule = Schedule::WarmupLinear { warmup: 0.1, floor: 0.0 };
/// let factors = [0.05, 0.1, 0.55, 1.0].map(|done| schedule.factor(done)); // of the learning rate
/// assert_eq!(factors[..2], [0.5, 1.0]); // up in the first tenth of the steps
/// assert!((factors[2] - 0.5).abs() < 1e-9 && factors[3] == 0.0); // then down
/// let settings = TrainerSettings { schedule, ..TrainerSettings::tour() };
/// settings.validate()?;
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The same rate all the way.
    Constant,
    /// A linear rise over the first `warmup` of the run, then constant.
    Warmup {
        /// Part of the run, 0 to 1.
        #[serde(default = "twentieth")]
        warmup: f64,
    },
    /// A linear rise, then half a cosine down to `floor`.
    WarmupCosine {
        /// Part of the run that rises, 0 to 1.
        #[serde(default = "twentieth")]
        warmup: f64,
        /// Where the cosine ends, as a factor of the full rate.
        #[serde(default = "twentieth")]
        floor: f64,
    },
    /// A linear rise, then a straight line down to `floor`.
    WarmupLinear {
        /// Part of the run that rises, 0 to 1.
        #[serde(default = "twentieth")]
        warmup: f64,
        /// Where the line ends, as a factor of the full rate.
        #[serde(default)]
        floor: f64,
    },
    /// Warm-up, stable, decay: a linear rise, the full rate, and over the last part of the run a straight line down to `floor`.
    WarmupStableDecay {
        /// Part of the run that rises, 0 to 1.
        #[serde(default = "twentieth")]
        warmup: f64,
        /// Part of the run, at its end, that falls, 0 to 1.
        #[serde(default = "fifth")]
        decay: f64,
        /// Where the fall ends, as a factor of the full rate.
        #[serde(default)]
        floor: f64,
    },
}

fn twentieth() -> f64 {
    0.05
}

fn fifth() -> f64 {
    0.2
}

impl Schedule {
    /// The factor at `progress`, the part of the run that is done (0 at the first step, 1 at the end).
    pub fn factor(self, progress: f64) -> f64 {
        let progress = progress.clamp(0.0, 1.0);
        let (warmup, floor) = match self {
            Schedule::Constant => return 1.0,
            Schedule::Warmup { warmup } => (warmup, 1.0),
            Schedule::WarmupCosine { warmup, floor }
            | Schedule::WarmupLinear { warmup, floor }
            | Schedule::WarmupStableDecay { warmup, floor, .. } => (warmup, floor),
        };
        if progress < warmup {
            return (progress / warmup).max(0.01); // the first step must not be lost
        }
        let down = (progress - warmup) / (1.0 - warmup).max(f64::EPSILON);
        let line = |part: f64| floor + (1.0 - floor) * (1.0 - part);
        match self {
            Schedule::Constant | Schedule::Warmup { .. } => 1.0,
            Schedule::WarmupCosine { .. } => {
                floor + (1.0 - floor) * 0.5 * (1.0 + (PI * down).cos())
            }
            Schedule::WarmupLinear { .. } => line(down),
            Schedule::WarmupStableDecay { decay, .. } => {
                line(((progress - (1.0 - decay)) / decay.max(f64::EPSILON)).max(0.0))
            }
        }
    }

    /// Checks that parts of the run are parts, and fit into it.
    ///
    /// # Errors
    /// `Config`, naming the part.
    pub fn validate(self) -> Result<()> {
        let (warmup, decay, floor) = match self {
            Schedule::Constant => (0.0, 0.0, 0.0),
            Schedule::Warmup { warmup } => (warmup, 0.0, 0.0),
            Schedule::WarmupCosine { warmup, floor } | Schedule::WarmupLinear { warmup, floor } => {
                (warmup, 0.0, floor)
            }
            Schedule::WarmupStableDecay {
                warmup,
                decay,
                floor,
            } => (warmup, decay, floor),
        };
        for (name, part) in [("warmup", warmup), ("decay", decay), ("floor", floor)] {
            if !(0.0..=1.0).contains(&part) {
                return Err(Error::Config(format!(
                    "schedule: {name} is {part}, it must be from 0 to 1"
                )));
            }
        }
        match warmup + decay > 1.0 {
            true => Err(Error::Config(format!(
                "schedule: warmup {warmup} and decay {decay} are more than the whole run together"
            ))),
            false => Ok(()),
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

    #[test]
    fn a_line_falls_all_the_way_and_a_stable_rate_only_at_the_end() {
        let linear = Schedule::WarmupLinear {
            warmup: 0.2,
            floor: 0.1,
        };
        for (at, factor) in [(0.1, 0.5), (0.2, 1.0), (0.6, 0.55), (1.0, 0.1)] {
            assert!((linear.factor(at) - factor).abs() < 1e-12, "{at}");
        }
        let stable = Schedule::WarmupStableDecay {
            warmup: 0.1,
            decay: 0.4,
            floor: 0.0,
        };
        for (at, factor) in [(0.05, 0.5), (0.1, 1.0), (0.6, 1.0), (0.8, 0.5), (1.0, 0.0)] {
            assert!((stable.factor(at) - factor).abs() < 1e-12, "{at}");
        }
    }

    #[test]
    fn a_schedule_is_read_from_a_file_and_checked() {
        let read = |json: &str| serde_json::from_str::<Schedule>(json);
        let cosine = Schedule::WarmupCosine {
            warmup: 0.05,
            floor: 0.05,
        };
        assert_eq!(read("\"constant\"").expect("known"), Schedule::Constant);
        assert_eq!(read(r#"{"warmup_cosine":{}}"#).expect("known"), cosine);
        for (json, named) in [
            ("\"cosin\"", "warmup_cosine"),
            (r#"{"warmup":{"warmpu":0.1}}"#, "warmpu"),
        ] {
            let error = read(json).expect_err("unknown").to_string();
            assert!(error.contains(named), "{error}");
        }
        let long = Schedule::WarmupStableDecay {
            warmup: 0.7,
            decay: 0.5,
            floor: 0.0,
        };
        assert!(long.validate().is_err());
        assert!(Schedule::Warmup { warmup: f64::NAN }.validate().is_err());
    }
}
