//! LLaVA's recipe for data: what is known of a picture as text → who sees no picture writes conversations about it → each claim judged.
//!
//! ```text
//! scene │ captions and boxes ─▶ Sheet ─ Teacher: templates, or a language model ─▶ Lesson ─ the scene says what is true ─▶ Lessons
//! ```
//! # Layout
//! - `sheet`: what a teacher is told; COCO's boxes come from [`Instances`](super::coco::instances::Instances)
//! - `template`: writes by rule, and never a false word; `language_model`: has any model write
//! - `lessons`: what was written, judged where the scene is known, and saved as LLaVA's data

mod language_model;
mod lessons;
mod sheet;
mod template;

pub use language_model::{LlmTeacher, TeacherPrompts};
pub use lessons::{Lesson, Lessons};
pub use sheet::{NamedBox, Sheet};
pub use template::TemplateTeacher;

use crate::Result;

/// What is written of a picture: LLaVA's three kinds.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let sheet = Shapes::new(ShapesConfig::default())?.sheet(Split::Train, 0);
/// for kind in LessonKind::ALL {
///     let written = TemplateTeacher::new(0).write(&sheet, kind)?.unwrap_or_default(); // questions with answers
///     println!("{}: {written:?}", kind.name());
///     assert!(kind != LessonKind::Description || written.len() == 1);
/// }
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LessonKind {
    /// Several questions with short answers.
    Conversation,
    /// One request for a description.
    Description,
    /// A question whose answer takes a thought: a comparison, a relation.
    Reasoning,
}

impl LessonKind {
    /// All three.
    pub const ALL: [LessonKind; 3] = [Self::Conversation, Self::Description, Self::Reasoning];

    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Description => "description",
            Self::Reasoning => "reasoning",
        }
    }
}

/// Writes about pictures that it does not see. Another teacher is one `impl`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// /// Says what there is, and nothing else.
/// struct Lister;
/// impl Teacher for Lister {
///     fn write(&self, sheet: &Sheet, _: LessonKind) -> Result<std::result::Result<Vec<(String, String)>, String>> {
///         Ok(match sheet.boxes.is_empty() {
///             true => Err("sheets without a box".into()),
///             false => Ok(vec![("What is there?".into(), sheet.objects())]),
///         })
///     }
/// }
/// let sheets = [Shapes::new(ShapesConfig::default())?.sheet(Split::Train, 0)];
/// let lessons = Lessons::write(&Lister, &sheets, &[LessonKind::Description])?;
/// assert_eq!(lessons.lessons[0].conversation.questions()[0].1, sheets[0].objects());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub trait Teacher {
    /// Questions with answers about the picture of a sheet; the inner error says, in a few words, why what was written is no lesson.
    ///
    /// # Errors
    /// When writing itself fails.
    fn write(
        &self,
        sheet: &Sheet,
        kind: LessonKind,
    ) -> Result<std::result::Result<Vec<(String, String)>, String>>;
}
