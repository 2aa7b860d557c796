//! How samples and datasets show themselves.

use super::shapes::{
    AttributeScore, CaptionOrder, Colour, Group, Object, PixelBox, Relation, Shape, Size,
};
use super::{
    Captions, QuestionAnswer, QuestionFormat, Sample, Samples, Scene, SceneAttributes, Shapes,
    ShapesConfig, Split,
};
use crate::display::facts::{debug_by_facts, shown_by_facts, shown_by_fields};
use crate::display::html::escape;
use crate::display::{Facts, MimeBundle, Render};

impl Render for Sample {
    fn render(&self) -> MimeBundle {
        let mut plain = format!("{} ({}, id {})", self.file_name, self.image, self.image_id);
        let mut list = String::new();
        for caption in &self.captions {
            plain.push_str(&format!("\n  {caption}"));
            list.push_str(&format!("<li>{}</li>", escape(caption)));
        }
        MimeBundle::text(plain).with_html(format!(
            "<div style=\"display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start\">\
             <figure style=\"margin:0\">{}<figcaption style=\"font-size:12px;opacity:0.75\">{} · id {}</figcaption>\
             </figure><ul style=\"margin:0;padding-left:18px\">{list}</ul></div>",
            self.image.to_html(self.image.shown_width()),
            escape(&self.file_name),
            self.image_id,
        ))
    }
}

impl Render for Captions {
    fn render(&self) -> MimeBundle {
        let report = self.report();
        let text = MimeBundle::text(format!("{self:?}"));
        match report.skipped.is_empty() && report.repaired.is_empty() {
            true => text,
            false => text.with_html(report.render().html().unwrap_or_default()),
        }
    }
}

impl Samples {
    fn facts(&self) -> Facts {
        Facts::new(format!(
            "Samples: {} of {} still to come",
            self.len(),
            self.all()
        ))
        .fact("of", format!("{:?}", self.dataset()))
        .hint("an iterator: `for sample in samples { let sample = sample?; … }`")
    }
}

impl Sample {
    fn facts(&self) -> Facts {
        Facts::new(format!("Sample {} (id {})", self.file_name, self.image_id))
            .fact("image", &self.image)
            .fact("captions", self.captions.len())
    }
}

impl Shapes {
    fn facts(&self) -> Facts {
        Facts::fields(self.config())
            .titled("Shapes: drawn scenes with captions, without end")
            .hint("`.sample(Split::Train, 0)?` draws one with its captions, `.scene(Split::Train, 0)` tells what is in it")
    }
}

shown_by_facts!(Samples, Shapes);
debug_by_facts!(Sample);
shown_by_fields!(
    ShapesConfig,
    CaptionOrder,
    super::CocoFinding,
    super::LessonKind,
    super::NamedBox,
    super::shapes::Claim,
    super::shapes::ClaimKind,
    super::shapes::Verdict,
    super::TextLines,
    super::Speaker,
    super::Said,
    super::Turn,
    Split,
    QuestionFormat,
    AttributeScore,
    Shape,
    Colour,
    Size,
    Relation,
    Object,
    PixelBox,
    Scene,
    Group<'_>,
);

impl Render for QuestionAnswer {
    fn render(&self) -> MimeBundle {
        MimeBundle::text(format!("{}? {}", self.question, self.answer))
    }
}

impl Render for SceneAttributes {
    fn render(&self) -> MimeBundle {
        MimeBundle::text(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::Image;

    #[test]
    fn captions_are_text_in_the_page() -> crate::Result<()> {
        let sample = Sample {
            image: Image::filled(2, 2, [1, 2, 3])?,
            captions: vec!["<b>a & b</b>".into()],
            image_id: 5,
            file_name: "x.jpg".into(),
        };
        let bundle = sample.render();
        assert!(bundle.plain().contains("<b>a & b</b>"));
        assert!(bundle.html().is_some_and(
            |html| html.contains("&lt;b&gt;a &amp; b") && html.contains("data:image/png")
        ));
        Ok(())
    }
}
