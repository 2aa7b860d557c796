//! What stands between picture and caption, for captions in a batch: the model's own query, or words in its place.

/// What stands between picture and caption.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let written = vlm.generate(&image)?.query("What colour is it?").max_new_tokens(4).run()?; // words make a query
/// assert_eq!(Query::from("What colour is it?"), Query::Words("What colour is it?".into()));
/// assert!(written.ids.len() <= 4);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Query {
    /// The model's own `query_vec`.
    #[default]
    Vector,
    /// A question in words, in the wording that the settings ask for.
    Words(String),
    /// The same token ids for every picture of the batch.
    Shared(Vec<u32>),
    /// Token ids for each picture of the batch.
    Each(Vec<Vec<u32>>),
}

impl From<&str> for Query {
    fn from(question: &str) -> Self {
        Self::Words(question.to_owned())
    }
}

impl From<&String> for Query {
    fn from(question: &String) -> Self {
        Self::Words(question.clone())
    }
}

impl From<String> for Query {
    fn from(question: String) -> Self {
        Self::Words(question)
    }
}
