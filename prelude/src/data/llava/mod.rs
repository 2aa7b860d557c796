//! Conversations about pictures, as LLaVA's instruction data has them.
//!
//! `[{"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": …}]}]`
//! and a picture folder → [`Conversations`] → [`Conversation`]: turns of text and places of pictures. A list of names in `image`
//! is several pictures; a sample without is text only, and counted. JSON lines are read too.

mod entry;
mod write;

pub use write::save;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_name;
use super::folder::Folder;
use super::json::{self, Fault};
use super::report::CocoReport;
use crate::display::facts::debug_by_first_line;
use crate::display::{MimeBundle, Render, Table};
use crate::vision::Image;
use crate::{Error, Result, files};

/// Longest file that is read: four times that of LLaVA-1.5's 665,298 samples.
const MOST_BYTES: u64 = 4 << 30;

/// Who says something.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::Speaker;
///
/// # fn main() -> Result<()> {
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let kinds = [LessonKind::Conversation];
/// let lessons = Lessons::write(&TemplateTeacher::new(0), &[shapes.sheet(Split::Train, 0)], &kinds)?;
/// let turns = &lessons.lessons[0].conversation.turns;
/// assert_eq!((turns[0].speaker, turns[1].speaker), (Speaker::Human, Speaker::Model));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Who asks.
    Human,
    /// Who answers.
    Model,
}

/// A piece of what is said.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::Said;
///
/// # fn main() -> Result<()> {
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let kinds = [LessonKind::Conversation];
/// let lessons = Lessons::write(&TemplateTeacher::new(0), &[shapes.sheet(Split::Train, 0)], &kinds)?;
/// let turns = &lessons.lessons[0].conversation.turns;
/// assert!(turns[0].said.contains(&Said::Picture(0))); // the picture stands in the first question
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Words.
    Text(String),
    /// The place of a picture, by its number among the sample's pictures.
    Picture(usize),
}

/// What one says at a time.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::Turn;
///
/// # fn main() -> Result<()> {
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let kinds = [LessonKind::Conversation];
/// let lessons = Lessons::write(&TemplateTeacher::new(0), &[shapes.sheet(Split::Train, 0)], &kinds)?;
/// let turns = &lessons.lessons[0].conversation.turns;
/// let last: Option<&Turn> = turns.last();
/// assert!(last.is_some_and(|turn| !turn.text().is_empty())); // the last answer
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who.
    pub speaker: Speaker,
    /// What, in order.
    pub said: Vec<Said>,
}

impl Turn {
    /// The words without the pictures.
    pub fn text(&self) -> String {
        let words = self.said.iter().filter_map(|piece| match piece {
            Said::Text(text) => Some(text.as_str()),
            Said::Picture(_) => None,
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The numbers of the pictures that are shown, among the sample's.
    pub fn pictures(&self) -> impl Iterator<Item = usize> + '_ {
        self.said.iter().filter_map(|piece| match piece {
            Said::Picture(number) => Some(*number),
            Said::Text(_) => None,
        })
    }
}

/// Questions and answers in turn: the human first, the model last.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let kinds = [LessonKind::Conversation];
/// let lessons = Lessons::write(&TemplateTeacher::new(0), &[shapes.sheet(Split::Train, 0)], &kinds)?;
/// let conversation: &Conversation = &lessons.lessons[0].conversation;
/// for (question, answer) in conversation.questions() {
///     println!("{question} – {answer}");
/// }
/// assert_eq!(conversation.turns.len(), 2 * conversation.questions().len());
/// assert_eq!(conversation.pictures.len(), 1);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Conversation {
    /// The sample's own id, or empty.
    pub id: String,
    /// What stands above the conversation.
    pub system: Option<String>,
    /// At least a question and an answer.
    pub turns: Vec<Turn>,
    /// File names of the pictures, in the order of their places.
    pub pictures: Vec<String>,
}

impl Conversation {
    /// Each question with its answer.
    pub fn questions(&self) -> Vec<(String, String)> {
        let pairs = self.turns.chunks_exact(2);
        pairs.map(|pair| (pair[0].text(), pair[1].text())).collect()
    }
}

/// Conversations with their pictures. Cheap to clone; pictures are decoded when asked for.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("conversations-{}", std::process::id()));
/// # let (file, folder) = (folder.join("lessons.json"), folder.as_path());
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// shapes.write_coco(folder, 2, 1)?; // the pictures
/// let sheets = [shapes.sheet(Split::Train, 0), shapes.sheet(Split::Train, 1)];
/// Lessons::write(&TemplateTeacher::new(0), &sheets, &[LessonKind::Description])?.save(&file)?;
/// let conversations = Conversations::open(&file, folder.join("train2017"))?; // reads LLaVA's own files too
/// assert_eq!(conversations.len(), 2);
/// assert_eq!(conversations.images(0)?[0].width(), 64);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Conversations {
    source: PathBuf,
    pictures: PathBuf,
    entries: Arc<Vec<Conversation>>,
    report: Arc<CocoReport>,
    text_only: usize,
}

impl Conversations {
    /// Opens a file like `llava_v1_5_mix665k.json` over the folder that its pictures' names begin in.
    ///
    /// # Errors
    /// `Input` for a file of another kind or without a usable sample; `Json` when it is cut off or malformed; `Io`.
    pub fn open(file: impl AsRef<Path>, pictures: impl AsRef<Path>) -> Result<Conversations> {
        let (source, pictures) = (file.as_ref(), pictures.as_ref());
        let bytes = files::read(source, MOST_BYTES)?;
        let samples = json::samples(&bytes).map_err(|fault| match fault {
            Fault::Json(fault) => Error::Json {
                path: source.to_path_buf(),
                source: fault,
            },
            Fault::Kind(words) => not_conversations(source, &words),
        })?;
        let folder = Folder::read(pictures)?;
        let mut report = CocoReport::default();
        let mut entries = Vec::with_capacity(samples.len());
        for raw in &samples {
            let shown = String::from_utf8_lossy(&raw[..raw.len().min(200)]);
            match sample(raw, &folder, &mut report, &shown) {
                Ok(conversation) => entries.push(conversation),
                Err(kind) => report.skip(&kind, &shown),
            }
        }
        if entries.is_empty() {
            return Err(not_conversations(
                source,
                &format!(
                    "none of its {} samples can be used ({report})",
                    samples.len()
                ),
            ));
        }
        report.pictures = entries.iter().map(|entry| entry.pictures.len()).sum();
        report.captions = entries.iter().map(|entry| entry.turns.len() / 2).sum();
        Ok(Conversations {
            source: source.to_path_buf(),
            pictures: pictures.to_path_buf(),
            text_only: entries
                .iter()
                .filter(|entry| entry.pictures.is_empty())
                .count(),
            entries: Arc::new(entries),
            report: Arc::new(report),
        })
    }

    /// Those that have a picture, in the same order.
    ///
    /// # Errors
    /// `Input` when none has.
    pub fn with_pictures_only(mut self) -> Result<Conversations> {
        let kept: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| !entry.pictures.is_empty())
            .cloned()
            .collect();
        if kept.is_empty() {
            return Err(Error::Input(format!(
                "{}: all samples are text only",
                self.source.display()
            )));
        }
        self.text_only = 0;
        self.entries = Arc::new(kept);
        Ok(self)
    }

    /// Number of conversations.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never true: opening an empty dataset is an error.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Those without a picture.
    pub fn text_only(&self) -> usize {
        self.text_only
    }

    /// What was found and what was left out; `captions` counts answers.
    pub fn report(&self) -> CocoReport {
        (*self.report).clone()
    }

    /// The conversation at a position.
    ///
    /// # Errors
    /// `Input` when there is no such position.
    pub fn conversation(&self, position: usize) -> Result<&Conversation> {
        self.entries.get(position).ok_or_else(|| {
            Error::Input(format!(
                "there is no conversation {position} in {}: choose 0 to {}",
                self.source.display(),
                self.len() - 1
            ))
        })
    }

    /// The decoded pictures of a conversation, in the order of their places.
    ///
    /// # Errors
    /// `Input` when there is no such position; `Io` or `Image` for a picture that can't be read.
    pub fn images(&self, position: usize) -> Result<Vec<Image>> {
        self.picture_paths(position)?
            .iter()
            .map(Image::load)
            .collect()
    }

    /// Where they lie.
    ///
    /// # Errors
    /// `Input` when there is no such position.
    pub(crate) fn picture_paths(&self, position: usize) -> Result<Vec<PathBuf>> {
        let names = self.conversation(position)?.pictures.iter();
        Ok(names.map(|name| self.pictures.join(name)).collect())
    }
}

fn sample(
    raw: &[u8],
    folder: &Folder,
    report: &mut CocoReport,
    shown: &str,
) -> Result<Conversation, String> {
    let mut read = entry::read(raw)?;
    for name in &read.images {
        let file = file_name::resolve(name, &folder.path, &|name| folder.has(name))?;
        if !folder.has(&file.name) {
            report.missing_pictures += 1;
            return Err(match std::fs::metadata(folder.path.join(&file.name)) {
                Ok(about) => format!(
                    "samples with a picture in whose place is {}",
                    files::kind(about.file_type())
                ),
                Err(_) => "samples with a missing picture".into(),
            });
        }
        read.repaired.extend(file.repaired);
        read.conversation.pictures.push(file.name);
    }
    for kind in read.repaired {
        report.repair(kind, shown);
    }
    Ok(read.conversation)
}

fn not_conversations(path: &Path, why: &str) -> Error {
    Error::Input(format!(
        "{} is not a file of conversations: {why}; give a list of {{\"image\": …, \"conversations\": [{{\"from\": \"human\", \
         \"value\": …}}, …]}}, like llava_v1_5_mix665k.json",
        path.display()
    ))
}

debug_by_first_line!(Conversation, Conversations);

impl Render for Conversation {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["who", "says"]).title(format!("Conversation {}", self.id));
        if let Some(system) = &self.system {
            table.push(vec!["system".into(), system.as_str().into()]);
        }
        for turn in &self.turns {
            let who = match turn.speaker {
                Speaker::Human => "human",
                Speaker::Model => "model",
            };
            let said = turn.said.iter().map(|piece| match piece {
                Said::Text(text) => text.clone(),
                Said::Picture(number) => format!(
                    "[{}]",
                    self.pictures.get(*number).map_or("picture", String::as_str)
                ),
            });
            table.push(vec![who.into(), said.collect::<Vec<_>>().join(" ").into()]);
        }
        table.render()
    }
}

impl Render for Conversations {
    fn render(&self) -> MimeBundle {
        let text = format!(
            "Conversations({}: {} conversations, {} of them text only; {})",
            self.source.display(),
            self.len(),
            self.text_only,
            self.report.to_string().replace(" captions", " answers")
        );
        let bundle = MimeBundle::text(text);
        match self.report.skipped.is_empty() && self.report.repaired.is_empty() {
            true => bundle,
            false => bundle.with_html(self.report.render().html().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

    fn folder(text: &str) -> std::result::Result<tempfile::TempDir, Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join("coco"))?;
        for name in ["coco/1.png", "2.png"] {
            std::fs::write(
                root.path().join(name),
                Image::filled(2, 3, [9, 8, 7])?.to_png()?,
            )?;
        }
        std::fs::write(root.path().join("llava.json"), text)?;
        Ok(root)
    }

    fn open(root: &Path) -> Result<Conversations> {
        Conversations::open(root.join("llava.json"), root)
    }

    #[test]
    fn turns_places_and_several_pictures() -> Outcome {
        let root = folder(
            r#"[{"id": "a", "image": "coco/1.png", "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."},
                {"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": "Grey."}]},
              {"id": 7, "image": ["2.png", "coco/1.png"], "conversations": [
                {"from": "system", "value": "Be short."},
                {"from": "human", "value": "First <image> then <image>: the same?"}, {"from": "gpt", "value": "Yes."}]},
              {"id": "text", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}]"#,
        )?;
        let set = open(root.path())?;
        assert_eq!((set.len(), set.text_only()), (3, 1));
        let one = set.conversation(0)?;
        assert_eq!(
            one.questions(),
            [
                ("What is it?".to_string(), "A cat.".to_string()),
                ("Which colour?".into(), "Grey.".into())
            ]
        );
        assert_eq!(
            one.turns[0].said,
            [Said::Picture(0), Said::Text("What is it?".into())]
        );
        let two = set.conversation(1)?;
        assert_eq!(
            (two.id.as_str(), two.system.as_deref()),
            ("7", Some("Be short."))
        );
        assert_eq!(
            two.turns[0].said,
            [
                Said::Text("First".into()),
                Said::Picture(0),
                Said::Text("then".into()),
                Said::Picture(1),
                Said::Text(": the same?".into())
            ]
        );
        assert_eq!(set.images(1)?.len(), 2);
        assert_eq!(set.report().captions, 4);
        assert!(two.render().plain().contains("[coco/1.png]"));
        assert!(
            set.render()
                .plain()
                .contains("3 conversations, 1 of them text only")
        );
        assert_eq!(set.clone().with_pictures_only()?.len(), 2);
        assert!(set.conversation(3).is_err());
        Ok(())
    }

    #[test]
    fn one_bad_sample_costs_itself_and_is_counted_by_its_kind() -> Outcome {
        let turn = |who: &str, text: &str| format!(r#"{{"from": "{who}", "value": "{text}"}}"#);
        let (ask, say) = (turn("human", "<image> Q"), turn("gpt", "A"));
        let with = |image: &str, turns: &[&str]| {
            format!(r#"{{{image}"conversations": [{}]}}"#, turns.join(","))
        };
        let one = r#""image": "2.png", "#;
        let samples = [
            with(one, &[&ask, &say]),
            with(one, &[&turn("gpt", "I begin"), &ask, &say]),
            with(one, &[&turn("human", "Q"), &say]),
            with(one, &[&ask, &say, &turn("human", "and?")]),
            with(r#""image": "./2.png", "#, &[&ask, &say]),
            with(one, &[&turn("human", "<image><image>"), &say]),
            with("", &[&ask, &say]),
            with(one, &[&ask, &turn("gpt", "<image>")]),
            with(one, &[&ask, &ask]),
            with(one, &[&ask, &turn("gpt", " ")]),
            with(one, &[&ask, &turn("robot", "A")]),
            with(one, &[&ask, "5"]),
            with(one, &[]),
            with(r#""image": "../2.png", "#, &[&ask, &say]),
            with(r#""image": "3.png", "#, &[&ask, &say]),
            with(r#""image": "coco", "#, &[&ask, &say]),
            with(r#""image": 5, "#, &[&ask, &say]),
            r#"{"image": "2.png"}"#.into(),
            "null".into(),
        ];
        let root = folder(&format!("[{}]", samples.join(",\n")))?;
        let set = open(root.path())?;
        assert_eq!(set.len(), 5, "{set:?}");
        let report = set.report();
        let repaired: usize = report.repaired.iter().map(|finding| finding.count).sum();
        assert_eq!((repaired, report.skipped_count()), (4, 14), "{report}");
        for words in [
            "another number of <image> places",
            "a picture in an answer",
            "twice in a row",
            "empty turn",
            "from \"robot\"",
            "turn that is no JSON object",
            "without a question",
            "does not stay inside",
            "missing picture",
            "is a folder",
            "image that is a number",
            "without conversations",
            "no JSON object",
        ] {
            assert!(report.to_string().contains(words), "{words}: {report}");
        }
        // The same as JSON lines.
        let lines = folder(&samples.join("\n"))?;
        assert_eq!(open(lines.path())?.report().skipped_count(), 14);
        Ok(())
    }

    #[test]
    fn other_files_say_what_to_give() -> Outcome {
        for (text, words) in [
            (
                r#"{"images": [],
 "annotations": []}"#,
                "an object, not a list",
            ),
            ("[]", "none of its 0 samples"),
            ("5", "top level is a number"),
            ("[{", "ends in the middle"),
            ("", "not valid"),
        ] {
            let root = folder(text)?;
            let message = open(root.path()).map(|_| ()).expect_err(text).to_string();
            assert!(message.contains(words), "{text}: {message}");
        }
        Ok(())
    }
}
