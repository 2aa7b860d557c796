//! A hub on the loopback interface: enough of the Hugging Face protocol to be fetched from, and to misbehave on purpose.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What every repository here is at.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server answers requests for bytes.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// Answers every request with this status and this word for it.
    pub refuse: Option<(u16, &'static str)>,
    /// Ends the connection after this many bytes of a large file's answer.
    pub cut_after: Option<usize>,
    /// How many answers are cut; the rest come whole.
    pub cuts: usize,
    /// Sends the whole file whatever range was asked for.
    pub ignores_ranges: bool,
    /// Sends bytes that do not have the checksum of the listing.
    pub corrupts: bool,
    /// Sends the head of an answer and then nothing.
    pub falls_silent: bool,
    /// Sends the client to this server for large files.
    pub redirects_to: Option<String>,
}

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

/// A file in the repository; large ones are identified by sha256, small ones by git's object id.
#[derive(Clone)]
pub struct ServedFile {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub large: bool,
}

impl ServedFile {
    pub fn checksum(&self) -> String {
        if self.large {
            hex(&Sha256::digest(&self.bytes))
        } else {
            let head = format!("blob {}\0", self.bytes.len());
            hex(&Sha1::new()
                .chain_update(head)
                .chain_update(&self.bytes)
                .finalize())
        }
    }
}

/// Names of repositories with their files.
pub type Repositories = Vec<(&'static str, Vec<ServedFile>)>;

/// A running server; it ends with the process.
pub struct Server {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serves `files` as the repository `owner/name`.
    pub fn start(files: Vec<ServedFile>, manners: Manners) -> std::io::Result<Self> {
        Self::start_all(vec![("owner/name", files)], manners)
    }

    /// Serves several repositories, each with its name.
    pub fn start_all(repositories: Repositories, manners: Manners) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        let cuts_left = Arc::new(Mutex::new(manners.cuts));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (repositories, manners) = (repositories.clone(), manners.clone());
                let (log, cuts_left) = (log.clone(), cuts_left.clone());
                std::thread::spawn(move || {
                    // A client that hangs up is no concern of the server's.
                    let _ = answer(stream, &repositories, &manners, &log, &cuts_left);
                });
            }
        });
        Ok(Self { endpoint, requests })
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The requests for a file's bytes.
    pub fn requests_for(&self, name: &str) -> Vec<Request> {
        let path = format!("/owner/name/resolve/{COMMIT}/{name}");
        self.requests()
            .into_iter()
            .filter(|request| request.path == path)
            .collect()
    }
}

fn answer(
    stream: TcpStream,
    repositories: &Repositories,
    manners: &Manners,
    log: &Mutex<Vec<Request>>,
    cuts_left: &Mutex<usize>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut authorization) = (None, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.trim().split_once(':') {
            match name.to_lowercase().as_str() {
                "range" => range = Some(value.trim().to_owned()),
                "authorization" => authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Request {
            path: path.clone(),
            range: range.clone(),
            authorization,
        });
    if let Some((status, code)) = manners.refuse {
        return write!(
            stream,
            "HTTP/1.1 {status} No\r\nX-Error-Code: {code}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let listed = repositories
        .iter()
        .find(|(name, _)| path == format!("/api/models/{name}/revision/main?blobs=true"));
    if let Some((name, files)) = listed {
        let listing = listing(name, files);
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{listing}",
            listing.len()
        );
    }
    let file = repositories.iter().find_map(|(repository, files)| {
        let name = path.strip_prefix(&format!("/{repository}/resolve/{COMMIT}/"))?;
        files.iter().find(|file| file.name == name)
    });
    let Some(file) = file else {
        return write!(
            stream,
            "HTTP/1.1 404 No\r\nX-Error-Code: RepoNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    if let Some(elsewhere) = manners.redirects_to.as_ref().filter(|_| file.large) {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {elsewhere}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    send_bytes(&mut stream, file, range.as_deref(), manners, cuts_left)
}

fn send_bytes(
    stream: &mut TcpStream,
    file: &ServedFile,
    range: Option<&str>,
    manners: &Manners,
    cuts_left: &Mutex<usize>,
) -> std::io::Result<()> {
    let mut bytes = file.bytes.clone();
    if manners.corrupts {
        bytes[0] ^= 1;
    }
    let start: usize = range
        .filter(|_| !manners.ignores_ranges)
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let rest = &bytes[start.min(bytes.len())..];
    if start > 0 {
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\n",
            bytes.len() - 1,
            bytes.len()
        )?;
    } else {
        write!(stream, "HTTP/1.1 200 OK\r\n")?;
    }
    write!(
        stream,
        "Content-Length: {}\r\nConnection: close\r\n\r\n",
        rest.len()
    )?;
    if manners.falls_silent {
        stream.flush()?;
        std::thread::sleep(Duration::from_secs(20));
        return Ok(());
    }
    let mut left = cuts_left.lock().unwrap_or_else(PoisonError::into_inner);
    match manners.cut_after {
        Some(limit) if file.large && *left > 0 && rest.len() > limit => {
            *left -= 1;
            stream.write_all(&rest[..limit])
        }
        _ => stream.write_all(rest),
    }
}

fn listing(repository: &str, files: &[ServedFile]) -> String {
    let siblings: Vec<serde_json::Value> = files
        .iter()
        .map(|file| {
            let size = file.bytes.len();
            if file.large {
                let pointer = hex(&Sha1::digest(file.name));
                serde_json::json!({"rfilename": file.name, "size": size, "blobId": pointer,
                    "lfs": {"sha256": file.checksum(), "size": size, "pointerSize": 134}})
            } else {
                serde_json::json!({"rfilename": file.name, "size": size, "blobId": file.checksum()})
            }
        })
        .collect();
    serde_json::json!({"id": repository, "sha": COMMIT, "siblings": siblings}).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
