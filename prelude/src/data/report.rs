//! What opening a dataset found: what is kept, what was read though it was written oddly, and what was left out.

use crate::display::{Cell, MimeBundle, Render, Table};

/// Longest example that is kept, in characters.
const LONGEST_EXAMPLE: usize = 60;

/// One kind of oddity in a dataset's files.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = Captions::of_images([(image.clone(), vec!["red"]), (image, vec![" "])])?;
/// for finding in set.report().skipped {
///     println!("{} × {}, such as {}", finding.count, finding.kind, finding.example);
/// }
/// let empty: &CocoFinding = &set.report().skipped[0];
/// assert_eq!(empty.count, 1);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CocoFinding {
    /// What it is, in the plural: `missing pictures`.
    pub kind: String,
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub example: String,
}

/// What opening a dataset found, and what it left out.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = Captions::of_images([(image.clone(), vec!["red", ""]), (image, vec!["all red"])])?;
/// let report: CocoReport = set.report();
/// assert_eq!((report.pictures, report.captions, report.empty_captions), (2, 2, 1));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CocoReport {
    /// Pictures that can be used.
    pub pictures: usize,
    /// Captions that can be used.
    pub captions: usize,
    /// Listed pictures whose file is not in the folder.
    pub missing_pictures: usize,
    /// Listed pictures without any usable caption.
    pub without_caption: usize,
    /// Pictures whose id was listed before; the first counts.
    pub repeated_picture_ids: usize,
    /// Captions whose id was listed before; the first counts.
    pub repeated_caption_ids: usize,
    /// Captions whose `image_id` is not listed.
    pub orphan_captions: usize,
    /// Captions of nothing but white space, or null.
    pub empty_captions: usize,
    /// What was written oddly and is read all the same, because only one thing can be meant.
    pub repaired: Vec<CocoFinding>,
    /// What was left out, each kind with its number; those that are counted above are here too.
    pub skipped: Vec<CocoFinding>,
}

impl CocoReport {
    /// Entries that were left out because nothing usable stands in them.
    pub fn skipped_count(&self) -> usize {
        self.skipped.iter().map(|finding| finding.count).sum()
    }

    pub(super) fn repair(&mut self, kind: &str, example: &str) {
        note(&mut self.repaired, kind, example);
    }

    pub(super) fn skip(&mut self, kind: &str, example: &str) {
        note(&mut self.skipped, kind, example);
    }
}

fn note(findings: &mut Vec<CocoFinding>, kind: &str, example: &str) {
    if let Some(finding) = findings.iter_mut().find(|finding| finding.kind == kind) {
        finding.count += 1;
        return;
    }
    let mut short: String = example.chars().take(LONGEST_EXAMPLE).collect();
    if short.len() < example.len() {
        short.push('…');
    }
    findings.push(CocoFinding {
        kind: kind.to_string(),
        count: 1,
        example: short,
    });
}

impl std::fmt::Display for CocoReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pictures, {} captions", self.pictures, self.captions)?;
        for (words, findings) in [
            ("left out", &self.skipped),
            ("read all the same", &self.repaired),
        ] {
            let parts = findings
                .iter()
                .map(|finding| format!("{} {} ({})", finding.count, finding.kind, finding.example));
            let parts: Vec<String> = parts.collect();
            if !parts.is_empty() {
                write!(f, "; {words}: {}", parts.join(", "))?;
            }
        }
        Ok(())
    }
}

impl Render for CocoReport {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["", "number", "what", "the first"]);
        for (count, what) in [(self.pictures, "pictures"), (self.captions, "captions")] {
            table.push(vec!["kept".into(), count.into(), what.into(), "".into()]);
        }
        for (words, findings) in [("repaired", &self.repaired), ("skipped", &self.skipped)] {
            for finding in findings {
                table.push(vec![
                    words.into(),
                    finding.count.into(),
                    finding.kind.as_str().into(),
                    Cell::code(finding.example.clone()),
                ]);
            }
        }
        table.render()
    }
}
