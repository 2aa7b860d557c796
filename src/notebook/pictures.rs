//! Pictures that a text cell names → data URIs, so that the page needs no file beside it.
//!
//! `![…](attachment:a.png)`, `![…](plots/my%20plot.png)` or `<img src="…">` → the attachment, or a file in the notebook's folder.
//! What lies elsewhere, is no regular file or is too large stays a link: a page must not carry off what its reader did not put beside it.

use std::cell::Cell;
use std::path::Path;

use base64::Engine as _;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::document::joined;
use crate::html::escape;
use crate::regular;

/// Where the pictures that a text names are to be found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pictures<'a> {
    /// The cell's attachments (`attachment:name`).
    pub attachments: Option<&'a Map<String, Value>>,
    /// The notebook's folder, for relative paths.
    pub folder: Option<&'a Path>,
    /// How many bytes of pictures the page has.
    pub taken: Option<&'a Cell<u64>>,
}

/// Largest picture file that is put into the page, in bytes.
const LARGEST: u64 = 20 << 20;
/// All pictures of a page together, in bytes: one may be named a thousand times.
const ALL: u64 = 200 << 20;

impl Pictures<'_> {
    /// The data URI of a picture that a text names, if it is an attachment or a file in the notebook's folder. `url` may be
    /// percent-encoded.
    pub fn data_uri(&self, url: &str) -> Option<String> {
        match url.strip_prefix("attachment:") {
            Some(name) => self.attachment(name),
            None => self.file(url),
        }
    }

    /// How many bytes of pictures still go into the page.
    fn room(&self) -> u64 {
        ALL.saturating_sub(self.taken.map_or(0, Cell::get))
    }

    fn take(&self, bytes: u64) {
        if let Some(taken) = self.taken {
            taken.set(taken.get() + bytes);
        }
    }

    fn attachment(&self, name: &str) -> Option<String> {
        let attachments = self.attachments?;
        let wanted = decoded(name);
        let found = attachments.get(name).or_else(|| {
            let named = attachments.iter().find(|(key, _)| decoded(key) == wanted);
            named.map(|(_, bundle)| bundle)
        });
        let (mime, data) = found?
            .as_object()?
            .iter()
            .find(|(mime, _)| mime.starts_with("image/"))?;
        let data: String = joined(data).split_whitespace().collect();
        if data.len() as u64 > self.room() {
            return None;
        }
        self.take(data.len() as u64);
        Some(format!("data:{mime};base64,{data}"))
    }

    fn file(&self, url: &str) -> Option<String> {
        if url.starts_with("//") || url.contains("://") {
            return None;
        }
        let folder = std::fs::canonicalize(self.folder?).ok()?;
        // As it stands, as it is meant, and without what only a web server understands.
        let bare = url.split(['?', '#']).next().unwrap_or(url);
        let names = [url.to_owned(), decoded(url), decoded(bare)];
        names.iter().find_map(|name| {
            let mime = mime(name)?;
            let path = std::fs::canonicalize(folder.join(name)).ok()?;
            if !path.starts_with(&folder) {
                return None;
            }
            let bytes = regular::read(&path, LARGEST.min(self.room())).ok()?;
            self.take(bytes.len() as u64);
            let data = base64::engine::general_purpose::STANDARD.encode(bytes);
            Some(format!("data:{mime};base64,{data}"))
        })
    }

    /// HTML of a text cell, with the pictures of its `<img>` elements inside.
    pub fn inside(&self, html: &str) -> String {
        let mut out = String::with_capacity(html.len());
        let mut rest = html;
        while let Some(at) = find_tag(rest) {
            let (before, tag) = rest.split_at(at);
            out.push_str(before);
            let Some(source) = source_of(tag) else {
                out.push_str(&tag[..4]);
                rest = &tag[4..];
                continue;
            };
            let url = unescaped(source.text);
            match self.data_uri(url.trim()) {
                Some(uri) => {
                    out.push_str(&tag[..source.begin]);
                    out.push_str(&format!("\"{}\"", escape(&uri)));
                }
                None => out.push_str(&tag[..source.end]),
            }
            rest = &tag[source.end..];
        }
        out.push_str(rest);
        out
    }
}

/// Where `<img` begins as a tag.
fn find_tag(html: &str) -> Option<usize> {
    let bytes = html.as_bytes();
    (0..bytes.len()).find(|&at| {
        bytes[at..]
            .get(..4)
            .is_some_and(|tag| tag.eq_ignore_ascii_case(b"<img"))
            && bytes
                .get(at + 4)
                .is_some_and(|next| next.is_ascii_whitespace() || *next == b'/')
    })
}

/// The value of a tag's `src`, with its place, quotes included.
struct Source<'a> {
    begin: usize,
    end: usize,
    text: &'a str,
}

/// Reads the attributes of the `<img` tag at the beginning of `tag`, as a browser does.
fn source_of(tag: &str) -> Option<Source<'_>> {
    let bytes = tag.as_bytes();
    let skip = |mut at: usize, wanted: &dyn Fn(u8) -> bool| {
        while bytes.get(at).copied().is_some_and(wanted) {
            at += 1;
        }
        at
    };
    let space = |byte: u8| byte.is_ascii_whitespace();
    let mut at = 4;
    loop {
        at = skip(at, &|byte| space(byte) || byte == b'/');
        if matches!(bytes.get(at), None | Some(b'>')) {
            return None;
        }
        let name = at;
        at = skip(at + 1, &|byte| {
            !space(byte) && !matches!(byte, b'=' | b'>' | b'/')
        });
        let is_source = tag[name..at].eq_ignore_ascii_case("src");
        let equals = skip(at, &space);
        if bytes.get(equals) != Some(&b'=') {
            continue;
        }
        let begin = skip(equals + 1, &space);
        let (text, end) = match bytes.get(begin)? {
            quote @ (b'"' | b'\'') => {
                let close = skip(begin + 1, &|byte| byte != *quote);
                bytes.get(close)?;
                (&tag[begin + 1..close], close + 1)
            }
            _ => {
                let end = skip(begin, &|byte| !space(byte) && byte != b'>');
                (&tag[begin..end], end)
            }
        };
        if is_source {
            return Some(Source { begin, end, text });
        }
        at = end;
    }
}

/// An attribute's text without HTML's escapes.
fn unescaped(text: &str) -> String {
    let pairs = [
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&apos;", "'"),
        ("&#32;", " "),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    pairs
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn decoded(url: &str) -> String {
    percent_decode_str(url).decode_utf8_lossy().into_owned()
}

fn mime(name: &str) -> Option<&'static str> {
    let extension = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: &str = "data:image/png;base64,QUJD";

    #[test]
    fn percent_encoded_names_are_found() {
        let attachments = serde_json::json!({
            "my plot.png": {"image/png": "QU\nJD"}, "a%20b.png": {"image/png": ["QU", "JD"]}, "100%.png": {"image/png": "QUJD"},
            "page.html": {"text/html": "<script>"},
        });
        let folder = tempfile::tempdir().unwrap();
        for name in ["my plot.png", "größe 1.PNG", "a%20c.png", "sub/x#1.png"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"ABC").unwrap();
        }
        let pictures = Pictures {
            attachments: attachments.as_object(),
            folder: Some(folder.path()),
            taken: None,
        };
        for url in [
            "attachment:my%20plot.png",
            "attachment:my plot.png",
            "attachment:a%20b.png",
            "attachment:a b.png",
            "attachment:100%25.png",
            "my%20plot.png",
            "my plot.png",
            "./my%20plot.png?raw=true",
            "gr%C3%B6%C3%9Fe%201.PNG",
            "a%20c.png",
            "sub/x%231.png",
            "sub/../my%20plot.png",
        ] {
            assert_eq!(pictures.data_uri(url).as_deref(), Some(INSIDE), "{url}");
        }
        for url in [
            "attachment:none.png",
            "attachment:page.html",
            "gone.png",
            "https://x.org/my%20plot.png",
        ] {
            assert_eq!(pictures.data_uri(url), None, "{url}");
        }
    }

    #[test]
    fn img_elements_get_their_pictures() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a & b.png"), b"ABC").unwrap();
        let pictures = Pictures {
            attachments: None,
            folder: Some(folder.path()),
            taken: None,
        };
        let quoted = format!("\"{INSIDE}\"");
        for (html, expected) in [
            (
                r#"<img src="a%20&amp;%20b.png">"#,
                format!("<img src={quoted}>"),
            ),
            (
                r#"<p><IMG alt='a > b' SRC = 'a & b.png' width=3/></p>"#,
                format!("<p><IMG alt='a > b' SRC = {quoted} width=3/></p>"),
            ),
            (
                "<img\n  data-src=\"x\"\n  src=a%20%26%20b.png>",
                format!("<img\n  data-src=\"x\"\n  src={quoted}>"),
            ),
            (
                r#"<img src="a%20%26%20b.png"/><img src="gone.png"><imgx src="a & b.png">"#,
                format!(r#"<img src={quoted}/><img src="gone.png"><imgx src="a & b.png">"#),
            ),
            ("<img alt>", "<img alt>".to_owned()),
            ("<img src=\"unclosed", "<img src=\"unclosed".to_owned()),
            ("<img src", "<img src".to_owned()),
            ("é<img é src=", "é<img é src=".to_owned()),
        ] {
            assert_eq!(pictures.inside(html), expected);
        }
    }

    #[cfg(unix)]
    #[test]
    fn nothing_outside_the_folder_and_nothing_but_files_is_read() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("book");
        std::fs::create_dir_all(folder.join("folder.png")).unwrap();
        std::fs::write(top.path().join("secret.png"), b"ABC").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("passwd.png")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.join("zero.png")).unwrap();
        let pipe = std::process::Command::new("mkfifo")
            .arg(folder.join("pipe.png"))
            .status();
        assert!(pipe.unwrap().success());
        let pictures = Pictures {
            attachments: None,
            folder: Some(&folder),
            taken: None,
        };
        let absolute = top.path().join("secret.png");
        for url in [
            "../secret.png",
            "%2e%2e/secret.png",
            "..%2Fsecret.png",
            absolute.to_str().unwrap(),
            "passwd.png",
            "zero.png",
            "pipe.png",
            "folder.png",
        ] {
            assert_eq!(pictures.data_uri(url), None, "{url}");
        }
    }
}
