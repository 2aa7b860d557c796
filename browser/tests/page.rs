//! The page's model says what the prelude's says, natively and, where there is a Chromium, in the page itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use glassbox_browser::{Page, Question};
use glassbox_prelude::prelude::*;

/// The folder of static files, as it is handed out.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pages/try")
}

/// What the page writes of a scene, one most probable token after the other.
fn written(page: &Page, scene: u64, untrained: bool) -> Result<String> {
    let pixels = page.scene(scene)?;
    let mut question = Question {
        untrained,
        ..Question::default()
    };
    for _ in 0..40 {
        let step = page.step(&pixels, &question)?;
        match step.top.first() {
            Some(next) if !next.ends => question.written.push(next.id),
            _ => return Ok(step.text),
        }
    }
    Ok(page.step(&pixels, &question)?.text)
}

#[test]
fn the_page_writes_what_the_model_generates() -> Result<()> {
    let page = Page::new()?;
    let shapes = Shapes::new(ShapesConfig {
        image_size: page.size(),
        ..ShapesConfig::default()
    })?;
    let mut right = 0;
    for scene in 0..20 {
        let said = written(&page, scene, false)?;
        let picture = shapes.draw(&shapes.scene(Split::Val, scene))?;
        let made = page
            .trained()
            .generate(&picture)?
            .max_new_tokens(40)
            .run()?;
        assert_eq!(said.trim(), made.text.trim(), "scene {scene}");
        let truth = SceneAttributes::from_caption(&page.captions(scene)[0]);
        right += usize::from(SceneAttributes::from_caption(&said) == truth);
    }
    assert!(right >= 14, "{right} of 20 scenes are described rightly");
    assert_ne!(written(&page, 3, true)?, written(&page, 3, false)?);
    Ok(())
}

#[test]
fn what_is_covered_or_zeroed_changes_what_comes_next() -> Result<()> {
    let page = Page::new()?;
    let pixels = page.scene(3)?;
    let ask = |question: &Question| page.step(&pixels, question);
    let whole = ask(&Question::default())?;
    assert!(whole.strip.contains('<'), "the strip is HTML");
    for row in whole.attention.iter().flatten() {
        assert_eq!(row.len(), 1 + page.across() * page.across());
        assert!(row.iter().sum::<f32>() <= 1.0 + 1e-4);
    }
    let all = (0..page.across() * page.across()).collect();
    let covered = ask(&Question {
        covered: all,
        ..Question::default()
    })?;
    assert_ne!(covered.top, whole.top);
    let zeroed = ask(&Question {
        zeroed: Some((0, 1)),
        ..Question::default()
    })?;
    assert_ne!(zeroed.top, whole.top);
    Ok(())
}

#[test]
fn what_there_is_not_is_refused_by_name() -> Result<()> {
    let page = Page::new()?;
    let pixels = page.scene(3)?;
    let refused = |pixels: &[u8], question: Question| {
        let said = page.step(pixels, &question).map(|step| step.text);
        said.expect_err("it is refused").to_string()
    };
    let patch = Question {
        covered: vec![25],
        ..Question::default()
    };
    assert!(refused(&pixels, patch).contains("no patch 25"));
    assert!(refused(&pixels[4..], Question::default()).contains("128"));
    let head = Question {
        zeroed: Some((9, 0)),
        ..Question::default()
    };
    assert!(refused(&pixels, head).contains("layers[9]"));
    Ok(())
}

#[test]
fn the_folder_is_small_and_asks_nobody_else() -> Result<(), Box<dyn std::error::Error>> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        let content = std::fs::read(&path)?;
        bytes += content.len();
        if path.extension().is_some_and(|end| end != "gz") {
            let text = String::from_utf8(content)?;
            for mark in ["http://", "https://", "//cdn"] {
                let found = text
                    .lines()
                    .find(|line| line.contains(mark) && !line.contains("http.server"));
                assert_eq!(found, None, "{}", path.display());
            }
        }
    }
    assert!(bytes < 10_000_000, "{bytes} bytes");
    Ok(())
}

/// Answers one request with a file of the folder, or says that there is none.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let length = stream.read(&mut request)?;
    let text = String::from_utf8_lossy(&request[..length]).into_owned();
    let name = text
        .split(' ')
        .nth(1)
        .unwrap_or("/")
        .trim_start_matches('/');
    let name = name.split('?').next().unwrap_or_default();
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("gz") => "application/gzip",
        _ => "text/plain",
    };
    match std::fs::read(folder().join(name)) {
        Ok(content) if !name.contains("..") => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                content.len()
            )?;
            stream.write_all(&content)
        }
        _ => write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
    }
}

fn chromium() -> Option<&'static str> {
    let runs = |name: &&str| {
        let mut asked = Command::new(name);
        asked
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(runs)
}

#[test]
fn in_a_browser_the_caption_is_the_native_one() -> Result<(), Box<dyn std::error::Error>> {
    let Some(chromium) = chromium() else {
        writeln!(
            std::io::stderr(),
            "NOT RUN: there is no chromium to open the page with"
        )?;
        return Ok(());
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    let page = Page::new()?;
    let profile = tempfile::tempdir()?;
    for scene in [3, 12] {
        let shown = Command::new(chromium)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--dump-dom",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(["--virtual-time-budget=120000", "--timeout=120000"])
            .arg(format!(
                "http://127.0.0.1:{port}/index.html?scene={scene}&write"
            ))
            .output()?;
        let dom = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(
            dom.contains("data-ready=\"yes\""),
            "the page did not get ready: {dom}"
        );
        let text = dom
            .split("id=\"text\"")
            .nth(1)
            .and_then(|rest| rest.split(['>', '<']).nth(1));
        let said = written(&page, scene, false)?;
        assert_eq!(text.map(str::trim), Some(said.trim()), "scene {scene}");
    }
    Ok(())
}
