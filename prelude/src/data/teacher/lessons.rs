//! What teachers wrote of many pictures: conversations by kind, each claim judged, as a table and as a file that LLaVA's readers read.

use std::collections::BTreeMap;
use std::path::Path;

use super::{LessonKind, Sheet, Teacher};
use crate::data::llava::{self, Conversation, Said, Speaker, Turn};
use crate::data::shapes::statements::{self, Claim, ClaimKind, Verdict};
use crate::display::facts::{debug_by_first_line, shown_by_facts};
use crate::display::{Cell, Facts, MimeBundle, Progress, Render, Table};
use crate::{Error, Result};

/// What a teacher wrote of one picture.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let sheets = [shapes.sheet(Split::Train, 0)];
/// let written = Lessons::write(&TemplateTeacher::new(0), &sheets, &[LessonKind::Description])?;
/// let lesson: &Lesson = &written.lessons[0];
/// let [right, wrong, _] = lesson.verdicts(); // of its claims, against the scene
/// assert!(right > 0 && wrong == 0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Lesson {
    /// What it is.
    pub kind: LessonKind,
    /// As data to train on; the picture stands in front of the first question.
    pub conversation: Conversation,
    /// What its answers claim. Without a scene to judge by every answer is one claim that is not judged.
    pub claims: Vec<Claim>,
}

impl Lesson {
    fn new(kind: LessonKind, sheet: &Sheet, said: &[(String, String)]) -> Self {
        let mut turns = Vec::with_capacity(2 * said.len());
        let mut claims = Vec::new();
        for (number, (question, answer)) in said.iter().enumerate() {
            let mut asked = vec![Said::Text(question.clone())];
            if number == 0 {
                asked.insert(0, Said::Picture(0));
            }
            turns.push(Turn {
                speaker: Speaker::Human,
                said: asked,
            });
            turns.push(Turn {
                speaker: Speaker::Model,
                said: vec![Said::Text(answer.clone())],
            });
            claims.extend(match &sheet.scene {
                Some(scene) => scene.judge(Some(question), answer),
                None => vec![Claim {
                    sentence: answer.clone(),
                    kind: ClaimKind::Unknown,
                    verdict: Verdict::Unjudged,
                }],
            });
        }
        Self {
            kind,
            conversation: Conversation {
                id: format!("{}-{}", sheet.image_id, kind.name()),
                system: None,
                turns,
                pictures: vec![sheet.picture.clone()],
            },
            claims,
        }
    }

    /// How many claims are true, false, and not judged.
    pub fn verdicts(&self) -> [usize; 3] {
        sum(statements::by_kind(&self.claims).into_values())
    }

    fn facts(&self) -> Facts {
        let [right, wrong, unjudged] = self.verdicts();
        let facts = Facts::new(format!("Lesson: a {}", self.kind.name()))
            .fact("picture", self.conversation.pictures.join(", "))
            .fact(
                "claims",
                format!("{right} true, {wrong} false, {unjudged} not judged"),
            );
        self.conversation
            .questions()
            .into_iter()
            .fold(facts, |facts, (question, answer)| {
                facts.fact("asks", question).fact("answers", answer)
            })
    }
}

shown_by_facts!(Lesson);

/// What a teacher wrote of many pictures.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let sheets: Vec<Sheet> = (0..5).map(|index| shapes.sheet(Split::Train, index)).collect();
/// let lessons = Lessons::write(&TemplateTeacher::new(0), &sheets, &[LessonKind::Conversation])?;
/// assert_eq!(lessons.lessons.len(), 5);
/// assert_eq!(lessons.share_true(), Some(1.0)); // a rule that sees the scene says nothing false
/// assert_eq!(lessons.without_false().lessons.len(), 5); // what is left to train on
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Lessons {
    /// In the order of the sheets, kind by kind.
    pub lessons: Vec<Lesson>,
    /// Texts that no lesson could be made of, by the reason why.
    pub unusable: BTreeMap<String, usize>,
}

impl Lessons {
    /// Has a teacher write a lesson of each kind about each sheet, and judges it. What it writes that is no lesson is counted. Shows
    /// progress.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let shapes = Shapes::new(ShapesConfig::default())?;
    /// let sheets: Vec<Sheet> = (0..20).map(|index| shapes.sheet(Split::Train, index)).collect();
    /// let lessons = Lessons::write(&TemplateTeacher::new(0), &sheets, &LessonKind::ALL)?;
    /// assert_eq!(lessons.share_true(), Some(1.0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Input` for no sheet or no kind; `Interrupted`; whatever the teacher reports.
    pub fn write(teacher: &dyn Teacher, sheets: &[Sheet], kinds: &[LessonKind]) -> Result<Self> {
        if sheets.is_empty() || kinds.is_empty() {
            return Err(Error::Input(
                "a teacher needs at least one sheet and one kind of lesson".into(),
            ));
        }
        let progress = Progress::new("writing lessons", sheets.len() * kinds.len());
        let (mut lessons, mut unusable) = (Vec::new(), BTreeMap::new());
        for sheet in sheets {
            for kind in kinds {
                progress.advance(1)?;
                match teacher.write(sheet, *kind)? {
                    Ok(said) if said.is_empty() => count(&mut unusable, "nothing was written"),
                    Ok(said) => lessons.push(Lesson::new(*kind, sheet, &said)),
                    Err(why) => count(&mut unusable, &why),
                }
            }
        }
        progress.finish("");
        Ok(Self { lessons, unusable })
    }

    /// The share of true claims among those that can be judged, 0 to 1; `None` where none can.
    pub fn share_true(&self) -> Option<f64> {
        share(sum(self.lessons.iter().map(Lesson::verdicts)))
    }

    /// Only the lessons of which no claim is false: what a researcher would train on.
    pub fn without_false(&self) -> Self {
        let kept = self
            .lessons
            .iter()
            .filter(|lesson| lesson.verdicts()[1] == 0);
        Self {
            lessons: kept.cloned().collect(),
            unusable: self.unusable.clone(),
        }
    }

    /// Writes the conversations as LLaVA's data has them; [`Conversations`](crate::data::Conversations) reads it over the folder
    /// of the pictures.
    ///
    /// # Errors
    /// `Input` when there is none or a text can't be written; `Io`.
    pub fn save(&self, file: impl AsRef<Path>) -> Result<()> {
        let conversations: Vec<Conversation> = self
            .lessons
            .iter()
            .map(|lesson| lesson.conversation.clone())
            .collect();
        llava::save(file, &conversations)
    }

    fn rows(&self) -> Vec<(String, usize, [usize; 3])> {
        let mut rows = Vec::new();
        for kind in LessonKind::ALL {
            let some: Vec<&Lesson> = self.lessons.iter().filter(|l| l.kind == kind).collect();
            if !some.is_empty() {
                let counts = sum(some.iter().map(|lesson| lesson.verdicts()));
                rows.push((format!("{}s", kind.name()), some.len(), counts));
            }
        }
        let claims = self.lessons.iter().flat_map(|lesson| &lesson.claims);
        for (kind, counts) in statements::by_kind(claims) {
            let name = match kind {
                ClaimKind::Unknown => "claims not understood".to_string(),
                kind => format!("claims of {}", kind.name()),
            };
            rows.push((name, counts.iter().sum(), counts));
        }
        rows
    }
}

fn count(unusable: &mut BTreeMap<String, usize>, why: &str) {
    *unusable.entry(why.to_string()).or_default() += 1;
}

fn sum(counts: impl Iterator<Item = [usize; 3]>) -> [usize; 3] {
    counts.fold([0; 3], |all, one| {
        [all[0] + one[0], all[1] + one[1], all[2] + one[2]]
    })
}

fn share([right, wrong, _]: [usize; 3]) -> Option<f64> {
    (right + wrong > 0).then(|| right as f64 / (right + wrong) as f64)
}

fn written(counts: [usize; 3]) -> Cell {
    Cell::figure(share(counts).map_or("–".into(), |share| format!("{:.1}%", 100.0 * share)))
}

impl Render for Lessons {
    fn render(&self) -> MimeBundle {
        let headings = ["", "number", "true", "false", "not judged", "share true"];
        let mut table = Table::new(headings).title(format!("{} lessons", self.lessons.len()));
        for (name, number, counts) in self.rows() {
            let [right, wrong, unjudged] = counts;
            table.push(vec![
                name.into(),
                number.into(),
                right.into(),
                wrong.into(),
                unjudged.into(),
                written(counts),
            ]);
        }
        let all = sum(self.lessons.iter().map(Lesson::verdicts));
        let table = table.total([
            "all claims".into(),
            all.iter().sum::<usize>().into(),
            all[0].into(),
            all[1].into(),
            all[2].into(),
            written(all),
        ]);
        let lost = self
            .unusable
            .iter()
            .map(|(why, count)| format!("{count} {why}"));
        let lost: Vec<String> = lost.collect();
        let mut note = "the share is of the claims that can be judged".to_string();
        if !lost.is_empty() {
            note.push_str(&format!("; left out: {}", lost.join(", ")));
        }
        table.note(note).render()
    }
}

debug_by_first_line!(Lessons);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        Conversations, LlmTeacher, NamedBox, Shapes, ShapesConfig, Split, TeacherPrompts,
        TemplateTeacher,
    };
    use crate::train::TrainingSet;
    use crate::vlm::Vlm;
    use candle_core::Device;

    type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

    fn sheets(count: u64) -> Result<(Shapes, Vec<Sheet>)> {
        let shapes = Shapes::new(ShapesConfig::default())?;
        let sheets = (0..count).map(|index| shapes.sheet(Split::Train, index));
        Ok((shapes.clone(), sheets.collect()))
    }

    #[test]
    fn templates_write_the_truth_and_nothing_that_is_not_judged() -> Outcome {
        let (_, sheets) = sheets(300)?;
        let lessons = Lessons::write(&TemplateTeacher::new(5), &sheets, &LessonKind::ALL)?;
        for lesson in &lessons.lessons {
            for claim in &lesson.claims {
                assert_eq!(claim.verdict, Verdict::True, "{claim:?} of {lesson:?}");
            }
            assert!(!lesson.claims.is_empty());
        }
        let claims = lessons.lessons.iter().flat_map(|lesson| &lesson.claims);
        let kinds: Vec<ClaimKind> = statements::by_kind(claims).into_keys().collect();
        use ClaimKind::{Colour, Comparison, Count, Existence, Place, Relation};
        assert_eq!(
            kinds,
            [Existence, Count, Colour, Place, Relation, Comparison]
        );
        // A scene of one thing has nothing to compare.
        let lost: usize = lessons.unusable.values().sum();
        assert!(lost > 0 && lost < 150, "{:?}", lessons.unusable);
        assert_eq!(lessons.lessons.len() + lost, 900);
        assert!(lessons.render().plain().contains("100.0%"));
        let again = Lessons::write(&TemplateTeacher::new(5), &sheets[7..8], &LessonKind::ALL)?;
        let of = |lessons: &Lessons, id: u64| {
            let some = lessons
                .lessons
                .iter()
                .map(|lesson| lesson.conversation.clone());
            let id = format!("{id}-");
            some.filter(|one| one.id.starts_with(&id))
                .collect::<Vec<_>>()
        };
        assert!(of(&again, sheets[7].image_id) == of(&lessons, sheets[7].image_id));
        Ok(())
    }

    #[test]
    fn a_teacher_that_lies_is_found_out() -> Outcome {
        struct Liar;
        impl Teacher for Liar {
            fn write(
                &self,
                _: &Sheet,
                _: LessonKind,
            ) -> Result<std::result::Result<Vec<(String, String)>, String>> {
                let answer = "There are nine red circles. A dog sleeps. There is a shape.";
                Ok(Ok(vec![("What is there?".into(), answer.into())]))
            }
        }
        let (_, sheets) = sheets(10)?;
        let lessons = Lessons::write(&Liar, &sheets, &[LessonKind::Description])?;
        let counts = sum(lessons.lessons.iter().map(Lesson::verdicts));
        assert_eq!((counts, lessons.share_true()), ([10, 10, 10], Some(0.5)));
        assert!(lessons.without_false().lessons.is_empty());
        assert!(Lessons::write(&Liar, &[], &LessonKind::ALL).is_err());
        Ok(())
    }

    #[test]
    fn lessons_are_saved_read_back_and_trained_on() -> Outcome {
        let root = tempfile::tempdir()?;
        let (shapes, sheets) = sheets(6)?;
        shapes.write_coco(root.path(), 6, 1)?;
        let lessons = Lessons::write(&TemplateTeacher::new(1), &sheets, &LessonKind::ALL)?;
        let file = root.path().join("lessons.json");
        lessons.save(&file)?;
        let read = Conversations::open(&file, root.path().join("train2017"))?;
        assert_eq!(read.len(), lessons.lessons.len());
        assert_eq!(read.report().repaired, []);
        for (at, lesson) in lessons.lessons.iter().enumerate() {
            assert!(*read.conversation(at)? == lesson.conversation, "{lesson:?}");
        }
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let example = read.example(&vlm, 0)?;
        let prompt = example.prompt(&vlm, Some(0))?;
        let answers = read.conversation(0)?.turns.len() / 2;
        assert_eq!(prompt.answers().count(), answers);
        assert!(vlm.full_sequence_loss_of(&prompt)?.value()? > 0.0);
        assert!(read.name(0).contains(&lessons.lessons[0].conversation.id));
        // A text that spells the place of a picture, and a picture that is not shown.
        let mut odd = lessons.lessons[0].conversation.clone();
        odd.turns[1].said = vec![Said::Text("see <image>".into())];
        assert!(llava::save(&file, &[odd]).is_err_and(|e| e.to_string().contains("<image>")));
        let mut lost = lessons.lessons[0].conversation.clone();
        lost.pictures.push("other.jpg".into());
        assert!(
            llava::save(&file, &[lost]).is_err_and(|e| e.to_string().contains("shows 1 of its 2"))
        );
        assert!(llava::save(&file, &[]).is_err());
        Ok(())
    }

    #[test]
    fn the_tiny_model_describes_lists_and_is_judged() -> Outcome {
        let tiny = Vlm::tiny(&Device::Cpu)?;
        let teacher =
            LlmTeacher::new(&tiny.llm, &tiny.llm_processor).prompts(TeacherPrompts::tiny());
        let shapes = Shapes::new(ShapesConfig::default())?;
        let sheets: Vec<Sheet> = (0..30).map(|at| shapes.sheet(Split::Val, at)).collect();
        let lessons = Lessons::write(&teacher, &sheets, &[LessonKind::Description])?;
        assert_eq!(lessons.lessons.len(), 30);
        let share = lessons.share_true().ok_or("some can be judged")?;
        // It saw few lists, and confuses what belongs to what.
        assert!(share > 0.5, "{}", lessons.render().plain());
        // Told of other pictures, it is wrong about these.
        let mut wrong = sheets.clone();
        for (sheet, other) in wrong
            .iter_mut()
            .zip(sheets.iter().skip(1).chain(&sheets[..1]))
        {
            sheet.boxes.clone_from(&other.boxes);
        }
        let mistaken = Lessons::write(&teacher, &wrong, &[LessonKind::Description])?;
        assert!(
            mistaken
                .share_true()
                .is_some_and(|other| other < share - 0.3)
        );
        let long = teacher.answer(&"red circle ".repeat(400)).map(|_| ());
        assert!(long.is_err_and(|error| error.to_string().contains("no room")));
        Ok(())
    }

    #[test]
    fn boxes_of_photographs_are_told_and_not_judged() -> Outcome {
        let one = |name: &str, left: f64, top: f64| NamedBox {
            name: name.into(),
            left,
            top,
            right: left + 0.2,
            bottom: top + 0.2,
        };
        let sheet = Sheet {
            image_id: 7,
            picture: "000000000007.jpg".into(),
            captions: vec!["Two people walk a dog.".into()],
            boxes: vec![
                one("person", 0.1, 0.1),
                one("person", 0.5, 0.1),
                one("bus", 0.1, 0.7),
            ],
            scene: None,
        };
        assert!(sheet.text().ends_with("bus: [0.100, 0.700, 0.300, 0.900]"));
        let teacher = TemplateTeacher::new(2);
        let lessons = Lessons::write(&teacher, &[sheet], &LessonKind::ALL)?;
        let plain = lessons
            .lessons
            .iter()
            .map(|lesson| format!("{:?}", lesson.conversation.questions()));
        let plain = plain.collect::<String>();
        assert!(
            plain.contains("two people") && plain.contains("more people than buses"),
            "{plain}"
        );
        assert_eq!(lessons.share_true(), None);
        let [right, wrong, unjudged] = sum(lessons.lessons.iter().map(Lesson::verdicts));
        assert!(right + wrong == 0 && unjudged > 2);
        Ok(())
    }
}
