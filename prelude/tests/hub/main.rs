//! Models from the cache and over the network, against a hub on the loopback interface.

mod pretrained;
mod server;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use glassbox_prelude::hub::{HubError, HubOptions, Token, resolve};
use glassbox_prelude::{Error, session};
use server::{COMMIT, Manners, ServedFile, Server};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// The interrupt flag is one per process, so the tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A safetensors file with one tensor of 600 000 bytes: several pieces of a transfer.
fn weights() -> Vec<u8> {
    let size = 600_000;
    let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..size).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8));
    bytes
}

fn repository() -> Vec<ServedFile> {
    let file = |name, bytes: &[u8], large| ServedFile {
        name,
        bytes: bytes.to_vec(),
        large,
    };
    vec![
        file("README.md", b"not wanted", false),
        file("config.json", br#"{"model_type": "phi3"}"#, false),
        file("model.safetensors", &weights(), true),
        file("onnx/model.onnx", b"not wanted either", true),
    ]
}

fn options(cache: &Path, endpoint: &str) -> HubOptions {
    let mut options = HubOptions::from_env()
        .cache_dir(cache)
        .endpoint(endpoint)
        .token(None)
        .allow_download(true);
    options.offline = false;
    options
}

fn hub_error(result: glassbox_prelude::Result<PathBuf>) -> Result<HubError, String> {
    match result {
        Err(Error::Hub(error)) => Ok(error),
        other => Err(format!("expected a hub error, got {other:?}")),
    }
}

/// Every file and link below the model's folder in the cache, with a link's target.
fn tree(cache: &Path) -> std::io::Result<Vec<String>> {
    let root = cache.join("models--owner--name");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(&root)
                .unwrap_or(&path)
                .display()
                .to_string();
            match std::fs::read_link(&path) {
                Ok(target) => found.push(format!("{name} -> {}", target.display())),
                Err(_) => found.push(name),
            }
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn a_download_has_the_layout_of_the_python_tools_and_is_not_repeated() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let server = Server::start(repository(), Manners::default())?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let options = options(cache.path(), &server.endpoint).on_progress(move |progress| {
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(progress.clone());
    });

    let folder = resolve("owner/name", &options)?;

    assert_eq!(std::fs::read(folder.join("model.safetensors"))?, weights());
    let files = repository();
    let (config, model) = (files[1].checksum(), files[2].checksum());
    let mut expected = [
        format!("blobs/{config}"),
        format!("blobs/{model}"),
        "refs/main".to_owned(),
        format!("snapshots/{COMMIT}/config.json -> ../../blobs/{config}"),
        format!("snapshots/{COMMIT}/model.safetensors -> ../../blobs/{model}"),
    ];
    expected.sort();
    assert_eq!(tree(cache.path())?, expected);
    assert_eq!(
        std::fs::read_to_string(cache.path().join("models--owner--name/refs/main"))?,
        COMMIT
    );

    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let last = seen.last().ok_or("no progress")?;
    assert_eq!(
        (last.bytes, last.file_number, last.file_count),
        (last.total_bytes, 2, 2)
    );
    assert!(seen.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));

    let before = server.requests().len();
    assert_eq!(resolve("owner/name", &options)?, folder);
    assert_eq!(
        server.requests().len(),
        before,
        "a complete model is not asked for again"
    );
    Ok(())
}

#[test]
fn nothing_is_sent_unless_a_download_is_asked_for() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let server = Server::start(repository(), Manners::default())?;
    let asked = options(cache.path(), &server.endpoint);

    let error = hub_error(resolve("owner/name", &asked.clone().allow_download(false)))?;
    assert!(
        error.to_string().contains("allow_download(true)"),
        "{error}"
    );

    let mut offline = asked.clone();
    offline.offline = true;
    let error = hub_error(resolve("owner/name", &offline))?;
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");

    for name in ["../name", "a b", "no/such/folder", "./nothing"] {
        hub_error(resolve(name, &asked))?;
    }
    assert_eq!(server.requests(), []);
    Ok(())
}

#[test]
fn a_connection_cut_half_way_is_continued() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let manners = Manners {
        cut_after: Some(250_000),
        cuts: 2,
        ..Manners::default()
    };
    let server = Server::start(repository(), manners)?;

    let folder = resolve("owner/name", &options(cache.path(), &server.endpoint))?;

    assert_eq!(std::fs::read(folder.join("model.safetensors"))?, weights());
    let ranges: Vec<_> = server
        .requests_for("model.safetensors")
        .into_iter()
        .map(|request| request.range)
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=250000-".to_owned()),
            Some("bytes=500000-".to_owned())
        ]
    );
    Ok(())
}

#[test]
fn a_download_that_gave_up_goes_on_the_next_time() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let half = 300_000;
    let whole = repository()[2].clone();
    let partial = cache.path().join(format!(
        "models--owner--name/blobs/{}.incomplete",
        whole.checksum()
    ));
    let manners = Manners {
        cut_after: Some(0),
        cuts: usize::MAX,
        ..Manners::default()
    };
    std::fs::create_dir_all(partial.parent().ok_or("no parent")?)?;
    std::fs::write(&partial, &whole.bytes[..half])?;
    // The listing promises the whole file, but its last half never comes.
    let server = Server::start(repository(), manners)?;

    let error = hub_error(resolve(
        "owner/name",
        &options(cache.path(), &server.endpoint),
    ))?;
    assert!(
        matches!(&error, HubError::Cut { have: 300_000, size, .. } if *size == whole.bytes.len() as u64),
        "{error}"
    );
    assert_eq!(std::fs::metadata(&partial)?.len(), half as u64);
    assert!(!cache.path().join("models--owner--name/refs/main").exists());

    let server = Server::start(repository(), Manners::default())?;
    let folder = resolve("owner/name", &options(cache.path(), &server.endpoint))?;
    assert_eq!(std::fs::read(folder.join("model.safetensors"))?, weights());
    assert_eq!(
        server.requests_for("model.safetensors")[0].range.as_deref(),
        Some("bytes=300000-")
    );
    assert!(!partial.exists());
    Ok(())
}

#[test]
fn a_server_without_ranges_sends_the_file_anew() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let manners = Manners {
        cut_after: Some(200_000),
        cuts: 1,
        ignores_ranges: true,
        ..Manners::default()
    };
    let server = Server::start(repository(), manners)?;
    let folder = resolve("owner/name", &options(cache.path(), &server.endpoint))?;
    assert_eq!(std::fs::read(folder.join("model.safetensors"))?, weights());
    Ok(())
}

#[test]
fn wrong_bytes_never_reach_the_cache() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let manners = Manners {
        corrupts: true,
        ..Manners::default()
    };
    let server = Server::start(repository(), manners)?;
    let error = hub_error(resolve(
        "owner/name",
        &options(cache.path(), &server.endpoint),
    ))?;
    assert!(matches!(error, HubError::Checksum { .. }), "{error}");
    assert_eq!(tree(cache.path())?, Vec::<String>::new());

    let server = Server::start(repository(), Manners::default())?;
    resolve("owner/name", &options(cache.path(), &server.endpoint))?;
    Ok(())
}

#[test]
fn refusals_say_what_to_do() -> TestResult {
    let _turn = turn();
    let refused = |status,
                   code,
                   token: Option<&str>|
     -> Result<(HubError, Server), Box<dyn std::error::Error>> {
        let cache = tempfile::tempdir()?;
        let manners = Manners {
            refuse: Some((status, code)),
            ..Manners::default()
        };
        let server = Server::start(repository(), manners)?;
        let options = options(cache.path(), &server.endpoint).token(token.and_then(Token::new));
        Ok((hub_error(resolve("owner/name", &options))?, server))
    };

    let (error, _) = refused(401, "GatedRepo", None)?;
    assert!(
        matches!(error, HubError::NoAccess { status: 401, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("set HF_TOKEN"), "{error}");

    let (error, server) = refused(403, "GatedRepo", Some("hf_secret"))?;
    assert!(error.to_string().contains("request access"), "{error}");
    assert!(!error.to_string().contains("hf_secret"));
    assert_eq!(
        server.requests()[0].authorization.as_deref(),
        Some("Bearer hf_secret")
    );

    let (error, _) = refused(404, "RepoNotFound", None)?;
    assert!(
        error.to_string().starts_with("owner/name was not found"),
        "{error}"
    );
    let (error, _) = refused(404, "RevisionNotFound", None)?;
    assert!(
        error.to_string().starts_with("revision main of owner/name"),
        "{error}"
    );
    // So the hub answers about private repositories and about names that do not exist.
    let (error, _) = refused(401, "RepoNotFound", None)?;
    assert!(
        error
            .to_string()
            .contains("or set HF_TOKEN if it is private"),
        "{error}"
    );
    let (error, _) = refused(500, "", None)?;
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    Ok(())
}

#[test]
fn an_unreachable_server_is_named() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let error = hub_error(resolve(
        "owner/name",
        &options(cache.path(), &format!("http://127.0.0.1:{port}")),
    ))?;
    assert!(
        matches!(&error, HubError::Network { url, .. } if url.contains(&port.to_string())),
        "{error}"
    );
    Ok(())
}

#[test]
fn the_token_stays_with_the_hub() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let storage = Server::start(repository(), Manners::default())?;
    let manners = Manners {
        redirects_to: Some(storage.endpoint.replace("127.0.0.1", "localhost")),
        ..Manners::default()
    };
    let hub = Server::start(repository(), manners)?;
    let options = options(cache.path(), &hub.endpoint).token(Token::new("hf_secret"));

    let folder = resolve("owner/name", &options)?;

    assert_eq!(std::fs::read(folder.join("model.safetensors"))?, weights());
    assert!(
        hub.requests()
            .iter()
            .all(|request| request.authorization.is_some())
    );
    let elsewhere = storage.requests();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!(elsewhere[0].authorization, None);
    Ok(())
}

#[test]
fn an_interrupt_ends_a_download_and_keeps_what_came() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let server = Server::start(repository(), Manners::default())?;
    let quiet = options(cache.path(), &server.endpoint);
    let interrupting = quiet.clone().on_progress(|progress| {
        if progress.file == "model.safetensors"
            && progress.bytes > 200_000
            && progress.bytes < 590_000
        {
            session::request_interrupt();
        }
    });
    let result = resolve("owner/name", &interrupting);
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");

    resolve("owner/name", &quiet)?;
    let requests = server.requests_for("model.safetensors");
    assert_eq!(requests.len(), 2);
    assert!(requests[1].range.is_some(), "went on from what was there");
    Ok(())
}

#[test]
fn an_interrupt_is_noticed_while_the_server_is_silent() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let manners = Manners {
        falls_silent: true,
        ..Manners::default()
    };
    let server = Server::start(repository(), manners)?;
    let start = Instant::now();
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(300));
        session::request_interrupt();
    });
    let result = resolve("owner/name", &options(cache.path(), &server.endpoint));
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

#[test]
fn two_downloads_at_once_fetch_each_file_once() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let server = Server::start(repository(), Manners::default())?;
    let options = options(cache.path(), &server.endpoint);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let options = options.clone();
            std::thread::spawn(move || resolve("owner/name", &options))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    assert_eq!(server.requests_for("model.safetensors").len(), 1);
    Ok(())
}

#[test]
fn threads_that_finish_a_download_together_do_not_take_each_others_files() -> TestResult {
    let _turn = turn();
    let server = Server::start(repository(), Manners::default())?;
    for _ in 0..20 {
        let cache = tempfile::tempdir()?;
        let options = options(cache.path(), &server.endpoint);
        let snapshot = resolve("owner/name", &options)?;
        let model = cache.path().join("models--owner--name");
        std::fs::remove_dir_all(model.join("refs"))?;
        std::fs::remove_dir_all(&snapshot)?;
        let together = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        resolve("owner/name", &options)
                    })
                })
                .collect();
            for thread in threads {
                let found = thread.join().map_err(|_| "a thread panicked")??;
                assert_eq!(found, snapshot);
            }
            TestResult::Ok(())
        })?;
        let left: Vec<_> = std::fs::read_dir(model.join("refs"))?
            .chain(std::fs::read_dir(&snapshot)?)
            .map(|entry| Ok(entry?.file_name()))
            .collect::<std::io::Result<_>>()?;
        assert!(
            left.iter()
                .all(|name| !name.to_string_lossy().starts_with('.')),
            "{left:?}"
        );
    }
    Ok(())
}

#[test]
fn what_the_python_tools_left_is_found_and_completed() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let model = cache.path().join("models--owner--name");
    let snapshot = model.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot)?;
    std::fs::create_dir_all(model.join("refs"))?;
    std::fs::write(model.join("refs/main"), COMMIT)?;
    std::fs::write(snapshot.join("config.json"), b"{}")?;
    let server = Server::start(repository(), Manners::default())?;
    let asked = options(cache.path(), &server.endpoint);

    let error = hub_error(resolve("owner/name", &asked.clone().allow_download(false)))?;
    assert!(
        error.to_string().contains("lacks model.safetensors"),
        "{error}"
    );

    std::fs::write(snapshot.join("model.safetensors"), weights())?;
    assert_eq!(
        resolve("owner/name", &asked.clone().allow_download(false))?,
        snapshot
    );
    assert_eq!(
        resolve("owner/name", &asked.clone().revision(COMMIT))?,
        snapshot
    );

    std::fs::write(snapshot.join("model.safetensors"), &weights()[..1000])?;
    let error = hub_error(resolve("owner/name", &asked))?;
    assert!(
        matches!(error, HubError::Truncated { found: 1000, .. }),
        "{error}"
    );
    assert_eq!(server.requests(), []);
    Ok(())
}

#[test]
fn a_repository_without_safetensors_is_refused_before_anything_is_fetched() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let mut files = repository();
    files[2].name = "pytorch_model.bin";
    let server = Server::start(files, Manners::default())?;
    let error = hub_error(resolve(
        "owner/name",
        &options(cache.path(), &server.endpoint),
    ))?;
    assert!(
        error.to_string().contains("only pytorch_model.bin"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
    Ok(())
}
