//! Escaping, and the styles that every display shares.
//!
//! The HTML here has to survive JupyterLab's sanitizer, which is what a notebook that someone else executed goes
//! through: only inline styles of a known list, no `<style>`, no `<svg>`, no scripts; pictures as `data:` URIs.
//! Text keeps the theme's own colour, and surfaces are half-transparent grey, so that light and dark themes both read.
//! A coloured chip brings its own background and its own text colour.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Background of table heads and other quiet surfaces, on any theme.
pub const SURFACE: &str = "rgba(128,128,128,0.14)";
/// Lines between things, on any theme.
pub const LINE: &str = "rgba(128,128,128,0.38)";
/// Background of "right" chips; white text reads on it.
pub const GREEN: &str = "#1a7f37";
/// Background of "wrong" chips and warnings; white text reads on it.
pub const RED: &str = "#c62828";
/// Font stack of labels and figures.
pub const SANS: &str = "system-ui, sans-serif";
/// Font stack of names, shapes and tokens.
pub const MONO: &str = "ui-monospace, monospace";

/// `text` with everything that means something to HTML made harmless, inside elements and quoted attributes alike.
///
/// Control characters other than tab and newline become visible substitutes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// An `<img>` of a picture in the page itself. `width` is in CSS pixels; the picture shrinks in a narrower page.
pub fn image(mime: &str, bytes: &[u8], width: u32, alternative: &str) -> String {
    format!(
        "<img src=\"{}\" alt=\"{}\" width=\"{width}\" style=\"max-width:100%;height:auto;display:block\">",
        data_uri(mime, bytes),
        escape(alternative),
    )
}

/// A small label with its own background; `text` is escaped here.
pub fn chip(text: &str, background: &str, color: &str) -> String {
    format!(
        "<span style=\"display:inline-block;padding:1px 7px;margin:1px 2px;border-radius:9px;\
         background-color:{background};color:{color};font-size:12px;line-height:1.5;white-space:nowrap\">{}</span>",
        escape(text),
    )
}

/// A horizontal bar filled to `fraction` (0 to 1; anything else is clamped) of `width` CSS pixels.
pub fn bar(fraction: f64, width: u32, height: u32, color: &str) -> String {
    let percent = if fraction.is_finite() {
        fraction.clamp(0.0, 1.0) * 100.0
    } else {
        0.0
    };
    format!(
        "<div style=\"display:inline-block;vertical-align:middle;width:{width}px;max-width:100%;height:{height}px;\
         background-color:{SURFACE};border-radius:3px;overflow:hidden\">\
         <div style=\"width:{percent:.1}%;height:{height}px;background-color:{color}\"></div></div>",
    )
}

/// A `data:` URI, the only way for a picture to be inside HTML that links to nothing.
pub fn data_uri(mime: &str, bytes: &[u8]) -> String {
    format!("data:{mime};base64,{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_text_can_become_markup() {
        let escaped = escape("<script>alert('x' & \"y\")</script>\u{1b}[31m\u{0}\n\té");
        assert_eq!(
            escaped,
            "&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)&lt;/script&gt;\u{fffd}[31m\u{fffd}\n\té"
        );
    }

    #[test]
    fn a_bar_stays_within_its_box() {
        assert!(bar(7.0, 100, 8, "red").contains("width:100.0%"));
        assert!(bar(f64::NAN, 100, 8, "red").contains("width:0.0%"));
    }
}
