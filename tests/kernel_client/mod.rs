//! A Jupyter client for tests: starts the built `glassbox kernel` and talks to it over its sockets.

// Each test program uses a part of this.
#![allow(dead_code)]

// Tests that hold sessions too have it from there as well.
#[allow(clippy::duplicate_mod)]
#[path = "../session_support/analyst.rs"]
mod analyst;
pub mod raw;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jupyter_protocol::{ConnectionInfo, JupyterMessage, Transport, UnknownMessage};
use jupyter_zmq_client::{
    ClientControlConnection, ClientHeartbeatConnection, ClientIoPubConnection,
    ClientShellConnection, ClientStdinConnection, create_client_control_connection,
    create_client_heartbeat_connection, create_client_iopub_connection,
    create_client_shell_connection_with_identity, create_client_stdin_connection_with_identity,
    peek_ports_with_listeners, peer_identity_for_session, wait_for_iopub_welcome,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

/// The first cell of a machine waits for the prelude to be built.
pub const COLD: Duration = Duration::from_secs(30 * 60);
/// Everything else.
pub const WARM: Duration = Duration::from_secs(60);

/// Runs a test to its end on a runtime of its own.
pub fn block_on<T>(test: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(test)
}

/// A kernel process and a client connected to it.
pub struct Kernel {
    pub process: Child,
    pub connection: ConnectionInfo,
    pub shell: ClientShellConnection,
    pub control: ClientControlConnection,
    pub iopub: ClientIoPubConnection,
    pub stdin: ClientStdinConnection,
    pub heartbeat: ClientHeartbeatConnection,
    folder: tempfile::TempDir,
}

/// An output on iopub: its type and content.
pub type Output = (String, Value);

/// What a cell did.
#[derive(Debug)]
pub struct Ran {
    pub reply: Value,
    pub outputs: Vec<Output>,
}

impl Ran {
    /// All text of one stream.
    pub fn text(&self, stream: &str) -> String {
        let of = |o: &&Output| o.0 == "stream" && o.1["name"] == stream;
        self.outputs
            .iter()
            .filter(of)
            .filter_map(|o| o.1["text"].as_str())
            .collect()
    }

    /// The types of the outputs, in order.
    pub fn kinds(&self) -> Vec<&str> {
        self.outputs.iter().map(|o| o.0.as_str()).collect()
    }

    /// The content of the first output of this type.
    pub fn first(&self, kind: &str) -> &Value {
        self.outputs
            .iter()
            .find(|o| o.0 == kind)
            .map_or(&Value::Null, |o| &o.1)
    }

    /// Fails with the error of the cell, if it has one.
    pub fn ok(self) -> Result<Ran> {
        ensure!(
            self.reply["status"] == "ok",
            "the cell failed: {:#}",
            self.reply
        );
        Ok(self)
    }
}

impl Kernel {
    /// Starts the kernel and connects to it; returns once the subscription to iopub stands.
    pub async fn start() -> Result<Kernel> {
        Kernel::start_with(&[]).await
    }

    /// The same with environment variables.
    pub async fn start_with(environment: &[(&str, &str)]) -> Result<Kernel> {
        Kernel::start_in(&std::env::current_dir()?, environment).await
    }

    /// The same in the notebook's folder.
    pub async fn start_in(notebook: &Path, environment: &[(&str, &str)]) -> Result<Kernel> {
        Kernel::start_where(notebook, 1024, environment).await
    }

    /// The same with so many descriptors at most.
    pub async fn start_limited(
        files: libc::rlim_t,
        environment: &[(&str, &str)],
    ) -> Result<Kernel> {
        Kernel::start_where(&std::env::current_dir()?, files, environment).await
    }

    async fn start_where(
        notebook: &Path,
        files: libc::rlim_t,
        environment: &[(&str, &str)],
    ) -> Result<Kernel> {
        analyst::beside();
        let folder = tempfile::tempdir()?;
        let (ports, listeners) = peek_ports_with_listeners("127.0.0.1".parse()?, 5).await?;
        let &[shell_port, iopub_port, stdin_port, control_port, hb_port] = ports.as_slice() else {
            bail!("five ports were asked for, {} came", ports.len());
        };
        let connection = ConnectionInfo {
            ip: "127.0.0.1".to_owned(),
            transport: Transport::TCP,
            shell_port,
            iopub_port,
            stdin_port,
            control_port,
            hb_port,
            key: "a key of the test".to_owned(),
            signature_scheme: "hmac-sha256".to_owned(),
            kernel_name: Some("glassbox".to_owned()),
        };
        let file = folder.path().join("connection.json");
        std::fs::write(&file, serde_json::to_string(&connection)?)?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        drop(listeners);
        let process = Command::new("/bin/sh")
            .args(["-c", "ulimit -n \"$0\" && exec \"$@\""])
            .arg(files.to_string())
            .arg(env!("CARGO_BIN_EXE_glassbox"))
            .args(["kernel", "--connection-file"])
            .arg(&file)
            .env("GLASSBOX_HISTORY", folder.path().join("history.jsonl"))
            .envs(environment.iter().copied())
            .current_dir(notebook)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()?;
        let session = uuid::Uuid::new_v4().to_string();
        let identity = peer_identity_for_session(&session)?;
        wait_for_port(&connection).await?;
        let mut iopub = create_client_iopub_connection(&connection, "", &session).await?;
        wait_for_iopub_welcome(&mut iopub, Duration::from_secs(5))
            .await?
            .context("no iopub_welcome came")?;
        Ok(Kernel {
            process,
            shell: create_client_shell_connection_with_identity(
                &connection,
                &session,
                identity.clone(),
            )
            .await?,
            control: create_client_control_connection(&connection, &session).await?,
            iopub,
            stdin: create_client_stdin_connection_with_identity(&connection, &session, identity)
                .await?,
            heartbeat: create_client_heartbeat_connection(&connection).await?,
            connection,
            folder,
        })
    }

    /// Connects the heartbeat anew, as clients do that lost it.
    pub async fn beat_anew(&mut self) -> Result<()> {
        self.heartbeat = create_client_heartbeat_connection(&self.connection).await?;
        Ok(())
    }

    /// Leaves iopub and comes back as another listener.
    pub async fn listen_anew(&mut self) -> Result<()> {
        let session = uuid::Uuid::new_v4().to_string();
        self.iopub = create_client_iopub_connection(&self.connection, "", &session).await?;
        wait_for_iopub_welcome(&mut self.iopub, Duration::from_secs(5))
            .await?
            .context("no iopub_welcome came")?;
        Ok(())
    }

    /// The memory of the kernel's process, in MiB.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().next());
        Ok(size
            .context("no VmRSS: the kernel has ended")?
            .parse::<u64>()?
            / 1024)
    }

    /// The most memory that the kernel's process has had, in MiB.
    pub fn most_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let size = line.and_then(|line| line.split_whitespace().next());
        Ok(size
            .context("no VmHWM: the kernel has ended")?
            .parse::<u64>()?
            / 1024)
    }

    /// The processor time that the kernel's own process has used.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let rest = stat.rsplit(')').next().context("no stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // 100 a second everywhere that Linux runs.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// What the kernel wrote to stderr.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("log"))?)
    }

    /// The file in which the kernel keeps its history.
    pub fn history_file(&self) -> PathBuf {
        self.folder.path().join("history.jsonl")
    }

    /// Sends on shell and returns the message's id.
    pub async fn send(&mut self, kind: &str, content: Value) -> Result<String> {
        let message = request(kind, content);
        let id = message.header.msg_id.clone();
        self.shell.send(message).await?;
        Ok(id)
    }

    /// Sends on shell and waits for the reply.
    pub async fn ask(&mut self, kind: &str, content: Value) -> Result<Value> {
        let id = self.send(kind, content).await?;
        self.reply(&id, WARM).await
    }

    /// Sends on control and waits for the reply.
    pub async fn ask_control(&mut self, kind: &str, content: Value) -> Result<Value> {
        let message = request(kind, content);
        let id = message.header.msg_id.clone();
        self.control.send(message).await?;
        loop {
            let message = timeout(WARM, self.control.read())
                .await
                .context("no reply on control")??;
            if is_child_of(&message, &id) {
                return Ok(serde_json::to_value(&message.content)?);
            }
        }
    }

    /// The reply to a message on shell; replies to others are passed over.
    pub async fn reply(&mut self, id: &str, patience: Duration) -> Result<Value> {
        loop {
            let next = timeout(patience, self.shell.read()).await;
            let message = next.with_context(|| {
                format!("no reply on shell; the kernel's log: {:?}", self.log())
            })??;
            if is_child_of(&message, id) {
                return Ok(serde_json::to_value(&message.content)?);
            }
        }
    }

    /// The next message on iopub, of whatever request: type, parent's id, content.
    pub async fn next_output(&mut self) -> Result<(String, String, Value)> {
        let message = timeout(COLD, self.iopub.read())
            .await
            .context("no message on iopub")??;
        let parent = message
            .parent_header
            .as_ref()
            .map_or_else(String::new, |parent| parent.msg_id.clone());
        Ok((
            message.header.msg_type.clone(),
            parent,
            serde_json::to_value(&message.content)?,
        ))
    }

    /// Waits for a status that the request `id` caused.
    pub async fn wait_for_status(&mut self, id: &str, state: &str) -> Result<()> {
        loop {
            let (kind, parent, content) = self.next_output().await?;
            if kind == "status" && parent == id && content["execution_state"] == state {
                return Ok(());
            }
        }
    }

    /// Waits until the cell `id` has printed `text`.
    pub async fn wait_for_text(&mut self, id: &str, text: &str) -> Result<()> {
        let mut seen = String::new();
        loop {
            let (kind, parent, content) = self.next_output().await?;
            if parent != id {
                continue;
            }
            if kind == "stream" {
                seen.push_str(content["text"].as_str().unwrap_or(""));
                if seen.contains(text) {
                    return Ok(());
                }
            }
            ensure!(
                kind != "error",
                "the cell failed before it printed {text:?}: {content:#}"
            );
        }
    }

    /// Runs a cell to its end.
    pub async fn run(&mut self, code: &str) -> Result<Ran> {
        self.run_with(json!({ "code": code })).await
    }

    /// Runs a cell given as the content of `execute_request`.
    pub async fn run_with(&mut self, content: Value) -> Result<Ran> {
        let id = self.send("execute_request", content).await?;
        self.finish(&id).await
    }

    /// Collects the outputs of a cell up to `idle`, then its reply.
    pub async fn finish(&mut self, id: &str) -> Result<Ran> {
        let mut outputs = Vec::new();
        loop {
            let (kind, parent, content) = self.next_output().await?;
            match kind.as_str() {
                _ if parent != id => {}
                "status" if content["execution_state"] == "idle" => break,
                "status" | "execute_input" => {}
                _ => outputs.push((kind, content)),
            }
        }
        Ok(Ran {
            reply: self.reply(id, WARM).await?,
            outputs,
        })
    }

    /// Waits for the process to end by itself and returns its exit code.
    pub async fn wait_for_exit(&mut self, patience: Duration) -> Result<Option<i32>> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status.code());
            }
            ensure!(
                begun.elapsed() < patience,
                "the kernel is still there; its log: {}",
                self.log()?
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // A test that failed half-way must not leave a kernel behind.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A message of these four parts as a client with this key sends it, whatever stands in them.
pub fn signed(key: &str, parts: [&[u8]; 4]) -> zeromq::ZmqMessage {
    let block = |pad: u8| -> Vec<u8> {
        let byte = |at| key.as_bytes().get(at).copied().unwrap_or(0);
        (0..64).map(|at| byte(at) ^ pad).collect()
    };
    let inner = Sha256::digest([block(0x36), parts.concat()].concat());
    let outer = Sha256::digest([block(0x5c), inner.to_vec()].concat());
    let signature: String = outer.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut message = zeromq::ZmqMessage::from("<IDS|MSG>");
    message.push_back(signature.into_bytes().into());
    for part in parts {
        message.push_back(part.to_vec().into());
    }
    message
}

/// The type, the header of the parent and the content of a message, as they stand in its frames.
pub fn parts_of(message: zeromq::ZmqMessage) -> Result<(String, Value, Value)> {
    let frames = message.into_vec();
    let mark = frames.iter().position(|frame| &frame[..] == b"<IDS|MSG>");
    let parts = &frames[mark.context("no delimiter")? + 2..];
    let part = |at: usize| -> Result<Value> {
        Ok(serde_json::from_slice(parts.get(at).context("too short")?)?)
    };
    let kind = part(0)?["msg_type"].as_str().unwrap_or("").to_owned();
    Ok((kind, part(1)?, part(3)?))
}

/// A request with this type and content.
pub fn request(kind: &str, content: Value) -> JupyterMessage {
    JupyterMessage::new(
        UnknownMessage {
            msg_type: kind.to_owned(),
            content,
        },
        None,
    )
}

fn is_child_of(message: &JupyterMessage, id: &str) -> bool {
    message
        .parent_header
        .as_ref()
        .is_some_and(|parent| parent.msg_id == id)
}

async fn wait_for_port(connection: &ConnectionInfo) -> Result<()> {
    let begun = Instant::now();
    // stdin is bound last.
    while tokio::net::TcpStream::connect((connection.ip.as_str(), connection.stdin_port))
        .await
        .is_err()
    {
        ensure!(begun.elapsed() < WARM, "the kernel does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
