//! What makes prompts: one function for each way of putting inputs and words together.
//!
//! - [`caption`]: the blog's, a picture and what is said of it; also with a question in the query's place
//! - [`conversation`]: several turns, of which the answers carry loss; few-shot examples in front of a question
//! - [`infilling`]: a caption with a gap, and what belongs into it
//! - [`text`]: a text in which a published model's own word marks the places of pictures; `whole_text`: such a
//!   model's conversations

pub mod caption;
pub mod conversation;
pub mod infilling;
pub mod text;
mod whole_text;
