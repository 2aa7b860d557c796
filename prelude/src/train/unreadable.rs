//! Examples that can't be read: left out, named once, counted; another takes their place, too many are an error.
//!
//! What can't be read is a file that is gone, cut off, of another kind or no file: the errors `Io`, `Image` and `Json`; by the
//! settings also a sample that is too long, and one whose loss is no finite number. Any other error of a
//! [`TrainingSet`](super::TrainingSet) ends the run.

use serde::{Deserialize, Serialize};

use crate::display::{DisplayHandle, MimeBundle, display_live, html, number};
use crate::{Error, Result};

/// Part of a set that may be unreadable unless said otherwise.
pub(crate) const MOST: f64 = 0.25;
/// So many are named where the run is shown; all are in the report.
const NAMED: usize = 8;

/// An example that was left out.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # struct Files;
/// # impl TrainingSet for Files {
/// #     fn len(&self) -> usize {
/// #         4
/// #     }
/// #     fn example(&self, _: &Vlm, position: usize) -> Result<Example> {
/// #         let image = match position {
/// #             2 => Image::load("photos/2.jpg")?,
/// #             _ => Image::filled(64, 64, [200, 30, 40])?,
/// #         };
/// #         Ok(Example::new(&image, "a red square"))
/// #     }
/// # }
/// # let set = Files;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// // A set of 4 whose third picture is not there.
/// let report = answer_accuracy(&vlm, &set, 3)?;
/// let left_out: Vec<String> = report.unreadable.iter().map(Unreadable::to_string).collect();
/// assert!(left_out[0].contains("example 2") && left_out[0].contains("photos/2.jpg"));
/// assert_eq!(report.answers.len(), 3); // the next one took its place
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Whether it is one of the held-out set.
    pub held_out: bool,
    /// Its position in its set.
    pub position: usize,
    /// What is wrong with it; names the file.
    pub why: String,
    /// Whether it stays left out when the run goes on: it can be read, but is too long or has no finite loss. Files are tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lasting: bool,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = if self.held_out {
            "held-out"
        } else {
            "training"
        };
        write!(f, "{set} example {}: {}", self.position, self.why)
    }
}

/// The examples that were left out so far.
#[derive(Clone, Default)]
pub(crate) struct LeftOut {
    list: Vec<Unreadable>,
    shown: Option<DisplayHandle>,
}

impl LeftOut {
    /// Those of earlier sittings.
    pub(crate) fn resumed(list: Vec<Unreadable>) -> Self {
        Self { list, shown: None }
    }

    pub(crate) fn list(&self) -> &[Unreadable] {
        &self.list
    }

    /// Notes that the example at `place` (of the held-out set?, position) failed with `error`, and shows it. `limits`: the part of
    /// its set that may be left out, and the set's size.
    ///
    /// # Errors
    /// `error` itself where it is of another kind or nothing may be unreadable; `Input` when it is one too many.
    pub(crate) fn add(
        &mut self,
        place: (bool, usize),
        error: Error,
        limits: (f64, usize),
    ) -> Result<()> {
        match error {
            Error::Io { .. } | Error::Image { .. } | Error::Json { .. } => {
                self.note(place, error, limits, false)
            }
            error => Err(error),
        }
    }

    /// The same of an example that can be read and is of no use: it is left out from then on, whatever `error` is.
    ///
    /// # Errors
    /// As [`LeftOut::add`].
    pub(crate) fn add_unusable(
        &mut self,
        place: (bool, usize),
        error: Error,
        limits: (f64, usize),
    ) -> Result<()> {
        self.note(place, error, limits, true)
    }

    fn note(
        &mut self,
        (held_out, position): (bool, usize),
        error: Error,
        (most, size): (f64, usize),
        lasting: bool,
    ) -> Result<()> {
        // At least one must be left to learn from.
        let allowed = ((most * size as f64).ceil() as usize).min(size.saturating_sub(1));
        if allowed == 0 {
            return Err(error);
        }
        let known = |one: &&Unreadable| (one.held_out, one.position) == (held_out, position);
        if self.list.iter().any(|one| known(&one)) {
            return Ok(());
        }
        self.list.push(Unreadable {
            held_out,
            position,
            why: error.to_string(),
            lasting,
        });
        let count = self
            .list
            .iter()
            .filter(|one| one.held_out == held_out)
            .count();
        if count > allowed {
            let set = if held_out { "held-out" } else { "training" };
            return Err(Error::Input(format!(
                "{count} of {size} {set} examples can't be read or used, more than max_unreadable = {most} allows: mend or \
                 remove them, or raise it; the last is {error}"
            )));
        }
        self.show();
        Ok(())
    }

    fn show(&mut self) {
        let bundle = self.bundle();
        match &self.shown {
            Some(shown) => shown.replace(bundle),
            None => self.shown = Some(display_live(&bundle)),
        }
    }

    /// The first of them by name, and how many there are.
    fn bundle(&self) -> MimeBundle {
        let heading = words(self.list.len());
        let mut names: Vec<String> = self
            .list
            .iter()
            .take(NAMED)
            .map(ToString::to_string)
            .collect();
        if self.list.len() > NAMED {
            let more = number::count((self.list.len() - NAMED) as u64);
            names.push(format!(
                "… and {more} more, all in the report's `unreadable`"
            ));
        }
        let lines = names
            .iter()
            .map(|name| format!("<li>{}</li>", html::escape(name)));
        let markup = format!(
            "<div style=\"font-family:{};font-size:13px\">{}<ul style=\"margin:2px 0\">{}</ul></div>",
            html::SANS,
            html::chip(&heading, html::RED, "#ffffff"),
            lines.collect::<String>()
        );
        MimeBundle::text(format!("{heading}:\n  {}", names.join("\n  "))).with_html(markup)
    }
}

/// `3 unreadable examples left out`
pub(crate) fn words(count: usize) -> String {
    let examples = if count == 1 { "example" } else { "examples" };
    format!(
        "{} unreadable {examples} left out",
        number::count(count as u64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(position: usize) -> Error {
        Error::Io {
            path: format!("/data/{position}.jpg").into(),
            source: std::io::ErrorKind::NotFound.into(),
        }
    }

    #[test]
    fn each_is_named_once_and_too_many_are_an_error() -> Result<()> {
        let mut left_out = LeftOut::default();
        for position in [0, 1, 1, 0] {
            left_out.add((false, position), gone(position), (0.25, 8))?;
        }
        assert_eq!(left_out.list().len(), 2);
        assert!(
            left_out
                .bundle()
                .plain()
                .contains("training example 1: /data/1.jpg")
        );
        left_out.add((true, 1), gone(1), (0.25, 8))?; // of the other set
        let error = left_out.add((false, 2), gone(2), (0.25, 8)).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("3 of 8 training examples can't be read"),
            "{error}"
        );
        Ok(())
    }

    #[test]
    fn one_may_always_be_unless_none_may_or_none_would_be_left() {
        let add = |error, most, size| LeftOut::default().add((false, 0), error, (most, size));
        assert!(add(gone(0), 0.01, 2).is_ok());
        assert!(matches!(add(gone(0), 0.0, 100), Err(Error::Io { .. })));
        assert!(matches!(add(gone(0), 1.0, 1), Err(Error::Io { .. })));
        let other = add(Error::Input("a spectrum of 3 values".into()), 1.0, 100);
        assert!(matches!(other, Err(Error::Input(_))));
    }
}
