//! HTML that others wrote → HTML that can only be looked at: it runs nothing, loads nothing from elsewhere, and stays in its place.
//!
//! ```text
//! markup ─ tags, attributes ─▶ known to be harmless: written anew │ anything else: shown as text, or left out and counted
//! ```
//! Every `<` that comes out is one that was written here, before a name of the lists below, with each value in quotes: however a browser
//! reads what came in, it reads what goes out in one way. The page's content security policy says the same a second time.
//! No element of the page around it is ended. A style counts for the whole page, and may cover or recolour what is there.

use std::collections::{BTreeMap, HashMap};

use crate::html::escape;

/// Elements that show text, tables, pictures and drawings.
const SHOWN: &[&str] = &[
    "a",
    "abbr",
    "address",
    "article",
    "aside",
    "b",
    "bdi",
    "bdo",
    "big",
    "blockquote",
    "br",
    "button",
    "caption",
    "center",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "del",
    "details",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "fieldset",
    "figcaption",
    "figure",
    "font",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "i",
    "img",
    "input",
    "ins",
    "kbd",
    "label",
    "legend",
    "li",
    "main",
    "mark",
    "meter",
    "nav",
    "nobr",
    "ol",
    "p",
    "picture",
    "pre",
    "progress",
    "q",
    "rp",
    "rt",
    "ruby",
    "s",
    "samp",
    "section",
    "small",
    "span",
    "strike",
    "strong",
    "style",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "time",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
    "wbr",
    // Drawings.
    "svg",
    "circle",
    "clippath",
    "defs",
    "desc",
    "ellipse",
    "feblend",
    "fecolormatrix",
    "fecomposite",
    "fedropshadow",
    "feflood",
    "fegaussianblur",
    "femerge",
    "femergenode",
    "femorphology",
    "feoffset",
    "filter",
    "g",
    "image",
    "line",
    "lineargradient",
    "marker",
    "mask",
    "path",
    "pattern",
    "polygon",
    "polyline",
    "radialgradient",
    "rect",
    "stop",
    "switch",
    "symbol",
    "text",
    "textpath",
    "title",
    "tspan",
    "use",
];
/// Elements that run, load or lead elsewhere: they go with what they hold.
const LEFT_OUT: &[&str] = &[
    "applet",
    "audio",
    "canvas",
    "embed",
    "frame",
    "frameset",
    "iframe",
    "math",
    "noembed",
    "noframes",
    "noscript",
    "object",
    "plaintext",
    "portal",
    "script",
    "select",
    "template",
    "textarea",
    "video",
    "xmp",
];
/// Elements that lead elsewhere and hold nothing, or what may be shown.
const UNWRAPPED: &[&str] = &[
    "animate",
    "animatemotion",
    "animatetransform",
    "base",
    "body",
    "foreignobject",
    "form",
    "head",
    "html",
    "link",
    "meta",
    "param",
    "set",
    "source",
    "track",
];
/// Elements without an end.
const VOID: &[&str] = &["br", "col", "hr", "img", "input", "wbr"];
/// Elements whose end may be missing.
const OPEN_ENDED: &[&str] = &[
    "p", "li", "dt", "dd", "td", "th", "tr", "tbody", "thead", "tfoot", "rp", "rt",
];
/// Attributes that name an address or do something; those that are kept are looked at below.
const DOING: &[&str] = &[
    "action",
    "archive",
    "attributename",
    "autofocus",
    "background",
    "by",
    "cite",
    "classid",
    "codebase",
    "content",
    "data",
    "download",
    "dynsrc",
    "formaction",
    "formmethod",
    "formtarget",
    "from",
    "http-equiv",
    "imagesrcset",
    "is",
    "longdesc",
    "lowsrc",
    "manifest",
    "nonce",
    "ping",
    "popover",
    "popovertarget",
    "poster",
    "profile",
    "shadowrootmode",
    "slot",
    "srcdoc",
    "srcset",
    "target",
    "to",
    "usemap",
    "values",
    "xml:base",
];
/// A longer address is no link.
const LONGEST_ADDRESS: usize = 8192;

/// What was left out of a page, by kind, each with its number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    kinds: BTreeMap<Kind, usize>,
}

/// What it is called, one and several of them.
type Kind = (&'static str, &'static str);

impl LeftOut {
    fn count(&mut self, kind: Kind) {
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// "2 scripts, 1 event handler", if there is anything.
    pub fn said(&self) -> Option<String> {
        let each = self
            .kinds
            .iter()
            .map(|((one, several), count)| match count {
                1 => format!("1 {one}"),
                _ => format!("{count} {several}"),
            });
        (!self.kinds.is_empty()).then(|| each.collect::<Vec<_>>().join(", "))
    }
}

const SCRIPT: Kind = ("script", "scripts");
const EMBEDDED: Kind = ("embedded element", "embedded elements");
const HANDLER: Kind = ("event handler", "event handlers");
const ADDRESS: Kind = ("address that is no link", "addresses that are no links");
const STYLE: Kind = ("style that loads", "styles that load");
const PICTURE: Kind = (
    "picture that is not in the notebook's folder",
    "pictures that are not in the notebook's folder",
);

/// The harmless part of `html`.
pub fn clean(html: &str, left_out: &mut LeftOut) -> String {
    let mut cleaner = Cleaner {
        out: String::with_capacity(html.len()),
        open: Vec::new(),
        counts: HashMap::new(),
        unfinished: Vec::new(),
        patience: html.len().saturating_mul(8).saturating_add(1 << 16),
        left_out,
    };
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        cleaner.out.push_str(&rest[..at]);
        rest = cleaner.markup(&rest[at..]);
    }
    cleaner.out.push_str(rest);
    while let Some(name) = cleaner.open.pop() {
        cleaner.end(&name);
    }
    cleaner.out
}

struct Cleaner<'a> {
    out: String,
    /// The elements whose ends are still to come.
    open: Vec<String>,
    /// How many of each name those are.
    counts: HashMap<String, usize>,
    /// Ends that were looked for in vain: they are not in the rest either.
    unfinished: Vec<String>,
    /// So many bytes may still be read for tags that turn out not to end: what is no tag is text.
    patience: usize,
    left_out: &'a mut LeftOut,
}

/// A tag as it was written.
struct Tag<'a> {
    name: String,
    written: &'a str,
    attributes: Vec<(&'a str, Option<&'a str>)>,
    /// `/>`
    closed: bool,
    rest: &'a str,
}

impl Cleaner<'_> {
    /// Takes what begins with `<`; gives back what follows it.
    fn markup<'t>(&mut self, text: &'t str) -> &'t str {
        if let Some(comment) = text.strip_prefix("<!--")
            && let Some(end) = self.find(comment, "-->")
        {
            return &comment[end + 3..];
        }
        if let Some(characters) = text.strip_prefix("<![CDATA[")
            && let Some(end) = self.find(characters, "]]>")
        {
            self.out.push_str(&escape(&characters[..end]));
            return &characters[end + 3..];
        }
        if text.starts_with("<!") || text.starts_with("<?") {
            return match self.find(text, ">") {
                Some(end) => &text[end + 1..],
                None => self.as_text(text),
            };
        }
        let end = text.starts_with("</");
        if self.patience == 0 {
            return self.as_text(text);
        }
        let tag = match read_tag(&text[1 + usize::from(end)..]) {
            Ok(tag) => tag,
            Err(read) => {
                self.patience = self.patience.saturating_sub(read);
                return self.as_text(text);
            }
        };
        let rest = tag.rest;
        let name = tag.name.as_str();
        match (end, SHOWN.contains(&name)) {
            (true, true) => self.end_tag(name),
            (false, true) if name == "style" => return self.style(&tag),
            (false, true) => self.begin(&tag),
            (true, false) if LEFT_OUT.contains(&name) || UNWRAPPED.contains(&name) => {}
            (false, false) if LEFT_OUT.contains(&name) => {
                self.left_out
                    .count(if name == "script" { SCRIPT } else { EMBEDDED });
                // What it holds is no text to be read. Without an end it holds nothing.
                if let Some(at) = self.find_end(rest, name) {
                    return &rest[at..];
                }
            }
            (false, false) if UNWRAPPED.contains(&name) => self.left_out.count(EMBEDDED),
            // `Vec<String>`
            _ => return self.as_text(text),
        }
        rest
    }

    /// The `<` is text.
    fn as_text<'t>(&mut self, text: &'t str) -> &'t str {
        self.out.push_str("&lt;");
        &text[1..]
    }

    /// Where something is in the rest of the text, which is not searched in vain twice.
    fn find(&mut self, text: &str, wanted: &str) -> Option<usize> {
        if self.unfinished.iter().any(|known| known == wanted) {
            return None;
        }
        let found = text.find(wanted);
        if found.is_none() {
            self.unfinished.push(wanted.to_owned());
        }
        found
    }

    /// Where the end tag of an element begins.
    fn find_end(&mut self, text: &str, name: &str) -> Option<usize> {
        let end = format!("</{name}");
        if self.unfinished.contains(&end) {
            return None;
        }
        let bytes = text.as_bytes();
        let mut from = 0;
        while let Some(at) = text[from..].find("</").map(|at| from + at) {
            let same = bytes
                .get(at..at + end.len())
                .is_some_and(|found| found.eq_ignore_ascii_case(end.as_bytes()));
            let over = bytes
                .get(at + end.len())
                .is_none_or(|next| !next.is_ascii_alphanumeric());
            if same && over {
                return Some(at);
            }
            from = at + 2;
        }
        self.unfinished.push(end);
        None
    }

    fn begin(&mut self, tag: &Tag<'_>) {
        let name = tag.name.as_str();
        let mut kept = String::new();
        let mut source = false;
        let checkbox = |(key, value): &(&str, Option<&str>)| {
            key.eq_ignore_ascii_case("type")
                && value.is_some_and(|value| value.eq_ignore_ascii_case("checkbox"))
        };
        if name == "input" && !tag.attributes.iter().any(checkbox) {
            return self.left_out.count(EMBEDDED);
        }
        for &(key, value) in &tag.attributes {
            let lower = key.to_ascii_lowercase();
            let value = value.unwrap_or_default();
            let plain = !key.is_empty()
                && key.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.')
                });
            if lower.starts_with("on") {
                self.left_out.count(HANDLER);
            } else if !plain || DOING.contains(&lower.as_str()) {
                // It says nothing to a page that is only looked at, or it leads elsewhere.
                if outside(value) {
                    self.left_out.count(ADDRESS);
                }
            } else if lower == "src" && name == "img" {
                source = is_picture(value);
                if source {
                    write_attribute(&mut kept, key, value);
                }
            } else if lower == "src" || lower.ends_with("href") {
                let leads = match name {
                    "a" if lower != "src" => is_link(value),
                    "image" => is_picture(value),
                    _ => lower != "src" && value.starts_with('#'),
                };
                match leads {
                    true => write_attribute(&mut kept, key, value),
                    false if name == "image" => self.left_out.count(PICTURE),
                    false => self.left_out.count(ADDRESS),
                }
            } else if !is_quiet_value(&lower, value) {
                self.left_out.count(STYLE);
            } else {
                write_attribute(&mut kept, key, value);
            }
        }
        if name == "img" && !source {
            self.left_out.count(PICTURE);
            let alt = tag
                .attributes
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case("alt"));
            let alt = alt.and_then(|(_, value)| *value).unwrap_or_default();
            let alt = alt.replace('<', "&lt;");
            self.out
                .push_str(&format!("<span class=\"missing\">[picture: {alt}]</span>"));
            return;
        }
        if name == "a" {
            write_attribute(&mut kept, "rel", "noopener noreferrer");
        }
        if name == "input" {
            write_attribute(&mut kept, "disabled", "");
        }
        self.out.push_str(&format!("<{}{kept}", tag.written));
        // In a drawing it is the end; elsewhere browsers pass over it.
        self.out.push_str(if tag.closed { "/>" } else { ">" });
        let drawn = self.counts.get("svg").is_some_and(|&open| open > 0) || name == "svg";
        if !(VOID.contains(&name) || OPEN_ENDED.contains(&name) || tag.closed && drawn) {
            *self.counts.entry(tag.name.clone()).or_default() += 1;
            self.open.push(tag.name.clone());
        }
    }

    /// Ends an element and those in it; what ends elements that were not begun here ends nothing.
    fn end_tag(&mut self, name: &str) {
        if VOID.contains(&name) {
            return;
        }
        if OPEN_ENDED.contains(&name) {
            return self.out.push_str(&format!("</{name}>"));
        }
        if self.counts.get(name).is_none_or(|&open| open == 0) {
            return;
        }
        while let Some(open) = self.open.pop() {
            self.end(&open);
            if open == name {
                break;
            }
        }
    }

    fn end(&mut self, name: &str) {
        if let Some(count) = self.counts.get_mut(name) {
            *count = count.saturating_sub(1);
        }
        self.out.push_str(&format!("</{name}>"));
    }

    /// A style sheet is text to a browser in HTML and markup in a drawing: one with a `<` is left out.
    fn style<'t>(&mut self, tag: &Tag<'t>) -> &'t str {
        let Some(end) = self.find_end(tag.rest, "style") else {
            self.left_out.count(STYLE);
            return tag.rest;
        };
        let sheet = &tag.rest[..end];
        let bare = sheet
            .trim()
            .trim_start_matches("<![CDATA[")
            .trim_end_matches("]]>");
        match !bare.contains('<') && is_quiet(bare) {
            true => self.out.push_str(&format!("<style>{bare}</style>")),
            false => self.left_out.count(STYLE),
        }
        let rest = &tag.rest[end..];
        rest.find('>').map_or("", |end| &rest[end + 1..])
    }
}

/// Reads a tag behind its `<` or `</`, as a browser does; if it is none or does not end, how far that was read.
fn read_tag(text: &str) -> Result<Tag<'_>, usize> {
    let bytes = text.as_bytes();
    let whole = bytes.len();
    if !bytes.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(1);
    }
    let skip = |mut at: usize, wanted: &dyn Fn(u8) -> bool| {
        while bytes.get(at).copied().is_some_and(wanted) {
            at += 1;
        }
        at
    };
    let blank = |byte: u8| byte.is_ascii_whitespace();
    let name_end = skip(0, &|byte| {
        !blank(byte) && !matches!(byte, b'/' | b'>' | b'<')
    });
    let written = &text[..name_end];
    let mut attributes = Vec::new();
    let mut at = name_end;
    loop {
        let slash = at;
        at = skip(at, &|byte| blank(byte) || byte == b'/');
        match bytes.get(at).ok_or(whole)? {
            b'>' => {
                return Ok(Tag {
                    name: written.to_ascii_lowercase(),
                    written,
                    attributes,
                    closed: text[slash..at].ends_with('/'),
                    rest: &text[at + 1..],
                });
            }
            // Two tags, of which the first never ended; as one its text would be lost.
            b'<' => return Err(at),
            _ => {}
        }
        let begin = at;
        at = skip(at + 1, &|byte| {
            !blank(byte) && !matches!(byte, b'=' | b'>' | b'/')
        });
        // The first character may be of several bytes.
        while !text.is_char_boundary(at) {
            at += 1;
        }
        let key = &text[begin..at];
        let equals = skip(at, &blank);
        if bytes.get(equals) != Some(&b'=') {
            attributes.push((key, None));
            continue;
        }
        let begin = skip(equals + 1, &blank);
        let value = match bytes.get(begin).ok_or(whole)? {
            quote @ (b'"' | b'\'') => {
                let end = skip(begin + 1, &|byte| byte != *quote);
                bytes.get(end).ok_or(whole)?;
                at = end + 1;
                &text[begin + 1..end]
            }
            _ => {
                at = skip(begin, &|byte| !blank(byte) && byte != b'>');
                &text[begin..at]
            }
        };
        attributes.push((key, Some(value)));
    }
}

/// Writes an attribute whose value may hold character references.
fn write_attribute(out: &mut String, key: &str, value: &str) {
    let value = value
        .replace('"', "&quot;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    out.push_str(&format!(" {key}=\"{value}\""));
}

/// The value without character references, and whether all of them are known here; others stand as one odd character.
fn unescaped(value: &str) -> (String, bool) {
    let mut text = String::with_capacity(value.len());
    let mut all = true;
    let mut rest = value;
    while let Some(at) = rest.find('&') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (character, length) = reference(rest).unwrap_or_else(|| {
            all = false;
            (char::REPLACEMENT_CHARACTER, 0)
        });
        text.push(character);
        rest = &rest[length..];
    }
    text.push_str(rest);
    (text, all)
}

/// The value as a browser reads an address: without references, blanks at its ends, tabs and line ends.
fn address(value: &str) -> Option<String> {
    let (mut text, known) = unescaped(value);
    text.retain(|c| !matches!(c, '\t' | '\n' | '\r'));
    known.then(|| text.trim_matches(|c: char| c <= ' ').to_owned())
}

/// Whether an attribute that may be a style, or part of one in a drawing, loads nothing.
fn is_quiet_value(key: &str, value: &str) -> bool {
    let (text, known) = unescaped(value);
    let lower = text.to_ascii_lowercase();
    // A reference that is not known may be the bracket.
    let loads = ["url(", "url\u{fffd}"]
        .iter()
        .any(|word| lower.contains(word));
    let loading = key == "style" || loads;
    !loading || known && is_quiet(&text)
}

/// The character that a reference behind its `&` stands for, and how long the reference is.
fn reference(text: &str) -> Option<(char, usize)> {
    if let Some(number) = text.strip_prefix('#') {
        let (digits, base, mark) = match number.strip_prefix(['x', 'X']) {
            Some(digits) => (digits, 16, 2),
            None => (number, 10, 1),
        };
        let end = digits
            .find(|c: char| !c.is_digit(base))
            .unwrap_or(digits.len());
        let code = u32::from_str_radix(&digits[..end], base).ok()?;
        let ended = usize::from(digits[end..].starts_with(';'));
        return Some((char::from_u32(code)?, mark + end + ended));
    }
    let named = [
        ("amp", '&'),
        ("lt", '<'),
        ("gt", '>'),
        ("quot", '"'),
        ("apos", '\''),
        ("colon", ':'),
        ("Tab", '\t'),
        ("NewLine", '\n'),
        ("sol", '/'),
        ("num", '#'),
        ("nbsp", '\u{a0}'),
    ];
    for (name, character) in named {
        if text
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(';'))
        {
            return Some((character, name.len() + 1));
        }
    }
    // `?a=1&b=2`: a parameter's name, not a reference.
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    (!text[end..].starts_with(';')).then_some(('&', 0))
}

/// Whether a person may follow it: a place in the page, a file beside it, the web, mail.
fn is_link(value: &str) -> bool {
    let Some(address) = address(value).filter(|address| address.len() <= LONGEST_ADDRESS) else {
        return false;
    };
    if address.chars().any(char::is_control) {
        return false;
    }
    let before = address.find(['/', '?', '#', '\\']).unwrap_or(address.len());
    match address[..before].split_once(':') {
        None => true,
        Some((scheme, _)) => ["http", "https", "mailto"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known)),
    }
}

/// Whether it holds the picture itself.
fn is_picture(value: &str) -> bool {
    let kinds = ["png", "jpeg", "gif", "webp", "svg+xml"];
    let Some(rest) = value.strip_prefix("data:image/") else {
        return false;
    };
    let known = kinds.iter().any(|kind| {
        rest.strip_prefix(kind)
            .is_some_and(|rest| rest.starts_with([';', ',']))
    });
    known && !rest.contains('<')
}

/// Whether it may name something elsewhere.
fn outside(value: &str) -> bool {
    !value.starts_with('#') && value.contains([':', '/', '&'])
}

/// Whether a style loads nothing and hides no address.
fn is_quiet(style: &str) -> bool {
    let style = style.to_ascii_lowercase();
    // References (in a drawing) and escapes may spell any word.
    let plain = style.as_str();
    if plain.contains(['\\', '&', '<'])
        || [
            "@import",
            "expression",
            "image-set",
            "-moz-binding",
            "javascript:",
            "src(",
        ]
        .iter()
        .any(|word| plain.contains(word))
    {
        return false;
    }
    let mut addresses = plain
        .match_indices("url")
        .map(|(at, _)| plain[at + 3..].trim_start());
    addresses.all(|after| match after.strip_prefix('(') {
        None => true,
        Some(inside) => {
            let inside = inside.trim_start().trim_start_matches(['\'', '"']);
            inside.starts_with('#')
                || inside.starts_with("data:image/")
                || inside.starts_with("data:font/")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(html: &str) -> (String, String) {
        let mut left_out = LeftOut::default();
        let html = clean(html, &mut left_out);
        (html, left_out.said().unwrap_or_default())
    }

    #[test]
    fn what_only_shows_stays_as_it_is() {
        for html in [
            "a & b &copy; <b>bold</b> <span class=\"x\" style=\"color:#123;width:50%\">t</span>",
            "<p>one<p>two<ul><li>a<li>b</ul><br><hr>",
            "<details open=\"\"><summary>s</summary><table><tr><td colspan=\"2\">1</td></tr></table></details>",
            "<svg viewBox=\"0 0 1 1\"><defs><linearGradient id=\"g\"/></defs><path d=\"M0 0\" fill=\"url(#g)\"/><use href=\"#g\"/></svg>",
            "<img src=\"data:image/png;base64,QUJD\" alt=\"a &lt; b\" width=\"3\">",
            "<style>.a > b { background: url(#x) }</style>",
            "<div title=\"f(x) &copy; url of it\">1</div>",
        ] {
            assert_eq!(cleaned(html), (html.to_owned(), String::new()));
        }
        let link = "<a href=\"https://a.b/?c=1&d=2\">x</a>";
        assert_eq!(
            cleaned(link).0,
            "<a href=\"https://a.b/?c=1&d=2\" rel=\"noopener noreferrer\">x</a>"
        );
        assert_eq!(
            cleaned("Vec<String> 1 < 2 <3 </").0,
            "Vec&lt;String> 1 &lt; 2 &lt;3 &lt;/"
        );
    }

    #[test]
    fn what_runs_or_loads_is_left_out_and_counted() {
        for (html, expected, said) in [
            ("a<script>alert(1)</script>b", "ab", "1 script"),
            ("<ScRiPt/src=//e>alert(1)</sCrIpT >b", "b", "1 script"),
            ("<script>never ends", "never ends", "1 script"),
            (
                "<b onclick=alert(1) OnLoad = 'x'>t</b>",
                "<b>t</b>",
                "2 event handlers",
            ),
            ("<svg/onload=alert(1)>", "<svg></svg>", "1 event handler"),
            (
                "<iframe srcdoc='<script>1</script>'>x</iframe>y",
                "y",
                "1 embedded element",
            ),
            (
                "<meta http-equiv=refresh content='0;url=http://e'><base href=//e>",
                "",
                "2 embedded elements",
            ),
            (
                "<form action=//e><button formaction=//e>x</button></form>",
                "<button>x</button>",
                "1 address that is no link, 1 embedded element",
            ),
            ("<style>@import '//e'</style>", "", "1 style that loads"),
            (
                "<style>a{b:url(http://e)}</style><p style='b:\\75rl(//e)'>",
                "<p>",
                "2 styles that load",
            ),
            (
                "<svg><style><img src=x onerror=alert(1)></style></svg>",
                "<svg></svg>",
                "1 style that loads",
            ),
            (
                "<svg fill='u&#114;l(//e)'>",
                "<svg></svg>",
                "1 style that loads",
            ),
            (
                "<svg><foreignObject><b>x</b></foreignObject><animate attributeName=href to=javascript:1 /></svg>",
                "<svg><b>x</b></svg>",
                "2 embedded elements",
            ),
            (
                "<svg><image href='//e/a.png'/><use xlink:href='//e#a'/></svg>",
                "<svg><image/><use/></svg>",
                "1 address that is no link, 1 picture that is not in the notebook's folder",
            ),
            (
                "<img src=x onerror=alert(1) alt=cat>",
                "<span class=\"missing\">[picture: cat]</span>",
                "1 event handler, 1 picture that is not in the notebook's folder",
            ),
            (
                "<img src=data:text/html,x>",
                "<span class=\"missing\">[picture: ]</span>",
                "1 picture that is not in the notebook's folder",
            ),
        ] {
            assert_eq!(
                cleaned(html),
                (expected.to_owned(), said.to_owned()),
                "{html}"
            );
        }
    }

    #[test]
    fn addresses_that_run_are_none() {
        for value in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            " javascript:1",
            "java\tscript:1",
            "java&#115;cript:1",
            "javascript&colon;1",
            "java&Tab;script:1",
            "java&NewLine;script:1",
            "&#x6A;avascript:1",
            "&#0000106avascript:1",
            "\u{1}javascript:1",
            "vbscript:1",
            "data:text/html,<b>",
            "file:///etc/passwd",
            "jar:1",
            "blob:1",
            "javascript&unknown;:1",
        ] {
            let (html, said) = cleaned(&format!("<a href=\"{value}\">x</a>"));
            assert!(
                !html.contains("href") && said == "1 address that is no link",
                "{value}: {html}"
            );
        }
        for value in [
            "#a",
            "b.html",
            "../c",
            "https://a.b",
            "HTTP://a",
            "mailto:a@b",
            "a?b:c",
            "/d:e",
        ] {
            assert!(
                cleaned(&format!("<a href='{value}'>x</a>"))
                    .0
                    .contains("href"),
                "{value}"
            );
        }
    }

    #[test]
    fn elements_end_where_they_began() {
        assert_eq!(cleaned("<div><b>x").0, "<div><b>x</b></div>");
        assert_eq!(cleaned("</main></div><b>x</i></b></b>").0, "<b>x</b>");
        assert_eq!(cleaned("<i><b>x</i>y").0, "<i><b>x</b></i>y");
    }

    #[test]
    fn time_is_linear_in_the_text() {
        let pieces = [
            "<a b",
            "<a b=\"",
            "<a b='",
            "<!--",
            "<![CDATA[",
            "<?",
            "<script>",
            "<style>",
            "<div>",
            "</div>",
            "<i></b>",
            "<a href=&#",
            "<img ",
            "<",
            "</",
            "&",
        ];
        for piece in pieces {
            let begun = std::time::Instant::now();
            cleaned(&piece.repeat(200_000));
            assert!(
                begun.elapsed().as_secs() < 5,
                "{piece}: {:?}",
                begun.elapsed()
            );
        }
    }
}
