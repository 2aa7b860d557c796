//! What a figure says in numbers and words. Nothing of it is written down here: `measure` fills it from a model that runs.

/// A rule by its name, and for each token that looks which tokens it sees.
pub type Mask = (&'static str, Vec<Vec<bool>>);

/// The sizes of a model, and one caption as its tokenizer cuts it.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Side of a picture, in pixels.
    pub side: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Width, layers and vectors a picture (patches and CLS) of the encoder.
    pub encoder: (usize, usize, usize),
    /// What the encoder's LoRA is on.
    pub encoder_lora: String,
    /// Output and input width of the projector's two matrices.
    pub projector: [(usize, usize); 2],
    /// Values of the projector, with its biases.
    pub projector_values: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Width of the language model.
    pub width: usize,
    /// Layers, key-value heads and width of a head of the language model.
    pub layers: (usize, usize, usize),
    /// Bytes of a number in the cache.
    pub bytes: usize,
    /// Tokens of start vector, image tokens, end vector and query vector, in the order in which they are read.
    pub prompt: [usize; 4],
    /// Tokens of a caption as they are shown, the end of the sequence among them.
    pub caption: Vec<String>,
    /// A layer with LoRA: its name, output and input width.
    pub layer: (String, usize, usize),
    /// Rank of the LoRA on it, and the factor alpha / rank.
    pub lora: (usize, f64),
    /// Of the tokens in [`Sizes::shots`]: who looks at whom, under each rule.
    pub masks: Vec<Mask>,
    /// An interleaved sequence: whether the part is a picture, and how many tokens it has.
    pub shots: Vec<(bool, usize)>,
}

impl Sizes {
    /// Tokens of the prompt before a caption.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt.iter().sum()
    }
}

/// `[a, b]`, as a shape is written.
pub fn shape(sizes: &[usize]) -> String {
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

/// A count with a comma before each three digits.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
