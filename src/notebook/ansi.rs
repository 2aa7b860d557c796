//! Terminal text → HTML: colours become spans, `\r` and `\b` overwrite as they do on a screen, other control sequences
//! go away, everything else is escaped.

use crate::html::push_escaped;

/// Terminal text as HTML for a `<pre>`.
pub fn to_html(text: &str) -> String {
    let mut screen = Screen::default();
    screen.write(text);
    screen.finish()
}

/// Where rustc's error codes are explained; a report names the page in plain text.
const EXPLAINED: &str = "https://doc.rust-lang.org/error_codes/";

/// Makes links of the addresses of error codes in HTML that [`to_html`] made.
pub fn link_error_codes(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(EXPLAINED) {
        let after = &rest[at + EXPLAINED.len()..];
        let page = after
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
            .map_or(after, |end| &after[..end]);
        let address = &rest[at..at + EXPLAINED.len() + page.len()];
        out.push_str(&rest[..at]);
        out.push_str(&format!("<a href=\"{address}\">{address}</a>"));
        rest = &rest[at + address.len()..];
    }
    out.push_str(rest);
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    /// One of the sixteen named colours, which the page's style sheet defines.
    Named(u8),
    Rgb(u8, u8, u8),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Look {
    foreground: Option<Colour>,
    background: Option<Colour>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    inverse: bool,
}

/// The line being written; lines above it are final.
#[derive(Default)]
struct Screen {
    done: String,
    line: Vec<(char, Look)>,
    column: usize,
    look: Look,
}

impl Screen {
    fn write(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\u{1b}' => rest = self.escape_sequence(rest),
                '\n' => {
                    self.flush();
                    self.done.push('\n');
                }
                '\r' => self.column = 0,
                '\u{8}' => self.column = self.column.saturating_sub(1),
                '\t' => self.put(c),
                c if c.is_control() => {}
                c => self.put(c),
            }
        }
    }

    fn put(&mut self, c: char) {
        if self.column < self.line.len() {
            self.line[self.column] = (c, self.look);
        } else {
            self.line.push((c, self.look));
        }
        self.column += 1;
    }

    /// Obeys one sequence whose ESC was read; gives back what follows it.
    fn escape_sequence<'a>(&mut self, rest: &'a str) -> &'a str {
        if let Some(body) = rest.strip_prefix('[') {
            let Some(end) = body.find(|c: char| ('\u{40}'..='\u{7e}').contains(&c)) else {
                return "";
            };
            let (parameters, last) = (&body[..end], body.as_bytes()[end]);
            match last {
                b'm' => self.set_look(parameters),
                b'K' => match parameters {
                    "1" | "2" => self.line.clear(),
                    _ => self.line.truncate(self.column),
                },
                _ => {}
            }
            if self.column > self.line.len() {
                self.column = self.line.len();
            }
            return &body[end + 1..];
        }
        if rest.starts_with([']', '_', 'P', '^', 'X']) {
            // A string sequence (hyperlink, title): ends with BEL or ESC \.
            return match rest.find(['\u{7}', '\u{1b}']) {
                Some(end) if rest[end..].starts_with('\u{7}') => &rest[end + 1..],
                Some(end) => rest[end + 1..]
                    .strip_prefix('\\')
                    .unwrap_or(&rest[end + 1..]),
                None => "",
            };
        }
        let mut chars = rest.chars();
        chars.next();
        chars.as_str()
    }

    fn set_look(&mut self, parameters: &str) {
        let codes: Vec<u16> = parameters
            .split([';', ':'])
            .map(|p| p.parse().unwrap_or(0))
            .collect();
        let mut at = 0;
        while at < codes.len() {
            let look = &mut self.look;
            match codes[at] {
                0 => *look = Look::default(),
                1 => look.bold = true,
                2 => look.dim = true,
                3 => look.italic = true,
                4 => look.underline = true,
                7 => look.inverse = true,
                22 => (look.bold, look.dim) = (false, false),
                23 => look.italic = false,
                24 => look.underline = false,
                27 => look.inverse = false,
                code @ 30..=37 => look.foreground = Some(Colour::Named(code as u8 - 30)),
                code @ 90..=97 => look.foreground = Some(Colour::Named(code as u8 - 90 + 8)),
                code @ 40..=47 => look.background = Some(Colour::Named(code as u8 - 40)),
                code @ 100..=107 => look.background = Some(Colour::Named(code as u8 - 100 + 8)),
                39 => look.foreground = None,
                49 => look.background = None,
                code @ (38 | 48) => {
                    let (colour, used) = extended(&codes[at + 1..]);
                    at += used;
                    if code == 38 {
                        look.foreground = colour
                    } else {
                        look.background = colour
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn flush(&mut self) {
        let mut current = Look::default();
        for (c, look) in self.line.drain(..) {
            if look != current {
                close(current, &mut self.done);
                open(look, &mut self.done);
                current = look;
            }
            push_escaped(c, &mut self.done);
        }
        close(current, &mut self.done);
        self.column = 0;
    }

    fn finish(mut self) -> String {
        self.flush();
        self.done
    }
}

/// The colour after a 38 or 48, and how many codes it took.
fn extended(codes: &[u16]) -> (Option<Colour>, usize) {
    let byte = |at: usize| codes.get(at).map_or(0, |&code| code.min(255) as u8);
    match codes.first() {
        Some(2) => (Some(Colour::Rgb(byte(1), byte(2), byte(3))), 4),
        Some(5) => {
            let colour = match byte(1) {
                n @ 0..=15 => Colour::Named(n),
                n @ 16..=231 => {
                    let level = |v: u8| if v == 0 { 0 } else { 55 + 40 * v };
                    let n = n - 16;
                    Colour::Rgb(level(n / 36), level(n / 6 % 6), level(n % 6))
                }
                n => {
                    let grey = 8 + 10 * (n - 232);
                    Colour::Rgb(grey, grey, grey)
                }
            };
            (Some(colour), 2)
        }
        _ => (None, 0),
    }
}

fn open(look: Look, out: &mut String) {
    if look == Look::default() {
        return;
    }
    let mut classes = Vec::new();
    let mut style = String::new();
    for (flag, class) in [
        (look.bold, "ab"),
        (look.dim, "ad"),
        (look.italic, "ai"),
        (look.underline, "au"),
        (look.inverse, "av"),
    ] {
        if flag {
            classes.push(class.to_owned());
        }
    }
    for (colour, prefix, property) in [
        (look.foreground, "af", "color"),
        (look.background, "ag", "background"),
    ] {
        match colour {
            Some(Colour::Named(n)) => classes.push(format!("{prefix}{n}")),
            Some(Colour::Rgb(r, g, b)) => {
                style.push_str(&format!("{property}:#{r:02x}{g:02x}{b:02x};"))
            }
            None => {}
        }
    }
    out.push_str("<span");
    if !classes.is_empty() {
        out.push_str(&format!(" class=\"{}\"", classes.join(" ")));
    }
    if !style.is_empty() {
        out.push_str(&format!(" style=\"{style}\""));
    }
    out.push('>');
}

fn close(look: Look, out: &mut String) {
    if look != Look::default() {
        out.push_str("</span>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_become_links() {
        let html =
            to_html("\u{1b}[2mmore: https://doc.rust-lang.org/error_codes/E0308.html\u{1b}[0m <b>");
        let link = "<a href=\"https://doc.rust-lang.org/error_codes/E0308.html\">https://doc.rust-lang.org/error_codes/E0308.html</a>";
        let linked = link_error_codes(&html);
        assert!(
            linked.contains(link) && linked.ends_with("&lt;b&gt;"),
            "{linked}"
        );
        assert_eq!(link_error_codes("none"), "none");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(
            to_html("<b> & \"x\" 'y'"),
            "&lt;b&gt; &amp; &quot;x&quot; &#39;y&#39;"
        );
    }

    #[test]
    fn colours_become_spans_and_end() {
        assert_eq!(
            to_html("\u{1b}[1;31merror\u{1b}[0m: x\n\u{1b}[38;5;9ma\u{1b}[48;2;1;2;3mb"),
            "<span class=\"ab af1\">error</span>: x\n<span class=\"af9\">a</span>\
             <span class=\"af9\" style=\"background:#010203;\">b</span>"
        );
    }

    #[test]
    fn carriage_return_overwrites() {
        assert_eq!(to_html("10%\r100%\rok\n"), "ok0%\n");
        assert_eq!(to_html("progress 10%\r\u{1b}[2Kdone"), "done");
        assert_eq!(to_html("ab\u{8}c\r\nd"), "ac\nd");
    }

    #[test]
    fn other_sequences_go_away() {
        assert_eq!(
            to_html("\u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{1b}\\ \u{1b}[2A\u{1b}=ok\u{1b}"),
            "link ok"
        );
        assert_eq!(to_html("\u{1b}[31"), "");
    }
}
