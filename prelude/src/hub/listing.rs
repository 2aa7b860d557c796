//! What a repository holds at a revision: one request gives the commit and each file's size and checksum.

use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Repo, RepoType};
use serde::Deserialize;
use ureq::config::RedirectAuthHeaders;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::HubOptions;
use super::cache::{is_hex, is_relative};
use super::error::{HubError, HubResult};
use super::transfer::without_blocking;
use crate::error::Result;

/// How long a server may take to answer before it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(30);

/// The hub as one set of options sees it.
#[derive(Clone)]
pub(super) struct Server {
    api: Api,
    repo: Repo,
    model: String,
    endpoint: String,
    had_token: bool,
    pub(super) agent: ureq::Agent,
    authorization: Option<String>,
}

/// A repository at a commit.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<RemoteFile>,
}

/// One file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub(super) name: String,
    pub(super) size: u64,
    /// Also its name in the cache.
    pub(super) checksum: Checksum,
}

/// How the hub identifies bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// Of large files.
    Sha256(String),
    /// Of small files: git's object id, sha1 over `blob SIZE\0` and the bytes.
    GitSha1(String),
}

impl Checksum {
    pub(super) fn hex(&self) -> &str {
        match self {
            Checksum::Sha256(hex) | Checksum::GitSha1(hex) => hex,
        }
    }
}

/// The answer of `GET /api/models/NAME/revision/REVISION?blobs=true`.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: String,
    size: u64,
}

impl Server {
    /// Prepares requests for `model`. Nothing is sent.
    pub(super) fn new(model: &str, options: &HubOptions) -> HubResult<Self> {
        let token = options
            .token
            .as_ref()
            .filter(|_| may_carry_a_secret(&options.endpoint))
            .map(|token| token.reveal().to_owned());
        let bad = |what: String| HubError::BadAnswer {
            url: options.endpoint.clone(),
            what,
        };
        let api = ApiBuilder::new()
            .with_endpoint(options.endpoint.clone())
            .with_cache_dir(options.cache_dir.clone())
            .with_token(token.clone())
            .with_progress(false)
            .build()
            .map_err(|error| bad(error.to_string()))?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .tls_config(tls())
            .build()
            .new_agent();
        Ok(Self {
            api,
            repo: Repo::with_revision(model.to_owned(), RepoType::Model, options.revision.clone()),
            model: model.to_owned(),
            endpoint: options.endpoint.clone(),
            had_token: token.is_some(),
            agent,
            authorization: token.map(|token| format!("Bearer {token}")),
        })
    }

    /// Asks for the repository's files. An interrupt ends the wait.
    pub(super) fn listing(&self) -> Result<Listing> {
        let url = format!("{}/api/{}", self.endpoint, self.repo.api_url());
        let server = self.clone();
        let (status, code, body) = without_blocking(move || {
            let mut response = server
                .api
                .repo(server.repo.clone())
                .info_request()
                .query("blobs", "true")
                .config()
                .http_status_as_error(false)
                .timeout_global(Some(PATIENCE))
                .tls_config(tls())
                .build()
                .call()?;
            let code = error_code(&response);
            let body = response.body_mut().read_to_vec()?;
            Ok::<_, ureq::Error>((response.status().as_u16(), code, body))
        })?
        .map_err(|error| HubError::Network {
            url: url.clone(),
            what: error.to_string(),
        })?;
        if status != 200 {
            return Err(self.refusal(status, code.as_deref(), &url, None).into());
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| HubError::BadAnswer {
                url: url.clone(),
                what: error.to_string(),
            })?;
        Ok(answer.check(&url)?)
    }

    /// A request for the bytes of `file` at `commit`, from `start` on.
    pub(super) fn request(
        &self,
        file: &str,
        commit: &str,
        start: u64,
    ) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        let mut request = self
            .agent
            .get(self.url(file, commit))
            .header("Accept-Encoding", "identity");
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        match &self.authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }

    /// Where the bytes of `file` at `commit` are.
    pub(super) fn url(&self, file: &str, commit: &str) -> String {
        let repo = Repo::with_revision(self.model.clone(), RepoType::Model, commit.to_owned());
        self.api.repo(repo).url(file)
    }

    /// What a status that is not success means. `code` is the hub's own word for it.
    pub(super) fn refusal(
        &self,
        status: u16,
        code: Option<&str>,
        url: &str,
        file: Option<&str>,
    ) -> HubError {
        let gated = code == Some("GatedRepo");
        let unknown = matches!(
            code,
            Some("RepoNotFound" | "RevisionNotFound" | "EntryNotFound")
        );
        match status {
            404 | 401 | 403 if !gated && (status == 404 || unknown) => HubError::NotFound {
                what: match (file, code) {
                    (Some(file), _) => format!("{file} of {}", self.model),
                    (None, Some("RevisionNotFound")) => {
                        format!("revision {} of {}", self.repo.revision(), self.model)
                    }
                    (None, _) => self.model.clone(),
                },
                endpoint: self.endpoint.clone(),
                status,
            },
            401 | 403 => HubError::NoAccess {
                model: self.model.clone(),
                status,
                had_token: self.had_token,
            },
            _ => HubError::Network {
                url: url.to_owned(),
                what: format!("HTTP {status}"),
            },
        }
    }
}

impl Answer {
    /// The listing, once nothing in it can lead out of the cache and every file has a size and a checksum.
    fn check(self, url: &str) -> HubResult<Listing> {
        let bad = |what: String| HubError::BadAnswer {
            url: url.to_owned(),
            what,
        };
        if !is_hex(&self.sha, 40) {
            return Err(bad(format!("{:?} is not a commit", self.sha)));
        }
        let files = self
            .siblings
            .into_iter()
            .map(|sibling| {
                let name = sibling.rfilename;
                if !is_relative(&name) {
                    return Err(bad(format!("{name:?} is not a file's name")));
                }
                let (size, checksum) = match (sibling.lfs, sibling.size, sibling.blob_id) {
                    (Some(large), _, _) if is_hex(&large.sha256, 64) => {
                        (large.size, Checksum::Sha256(large.sha256))
                    }
                    (None, Some(size), Some(id)) if is_hex(&id, 40) => {
                        (size, Checksum::GitSha1(id))
                    }
                    _ => return Err(bad(format!("{name} has no size or no checksum"))),
                };
                Ok(RemoteFile {
                    name,
                    size,
                    checksum,
                })
            })
            .collect::<HubResult<_>>()?;
        Ok(Listing {
            commit: self.sha,
            files,
        })
    }
}

/// The hub's own word for a failure.
pub(super) fn error_code(response: &ureq::http::Response<ureq::Body>) -> Option<String> {
    let value = response.headers().get("x-error-code")?;
    value.to_str().ok().map(str::to_owned)
}

/// A token goes out encrypted, or not beyond this machine.
fn may_carry_a_secret(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else {
        return true;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// Trusts the certificates in `REQUESTS_CA_BUNDLE` or `SSL_CERT_FILE`, as the Python tools do, else Mozilla's.
fn tls() -> TlsConfig {
    let builder = TlsConfig::builder();
    let bundle = ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"]
        .iter()
        .filter_map(std::env::var_os)
        .find_map(|path| crate::files::bytes(path).ok());
    let certificates: Vec<_> = bundle
        .iter()
        .flat_map(|pem| parse_pem(pem))
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        builder.build()
    } else {
        builder
            .root_certs(RootCerts::new_with_certs(&certificates))
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_leave_the_machine_unencrypted() {
        for (endpoint, may) in [
            ("https://huggingface.co", true),
            ("http://127.0.0.1:8080", true),
            ("http://localhost", true),
            ("http://[::1]:80", true),
            ("http://mirror.example", false),
            ("http://127.0.0.1.example", false),
            ("http://localhost@mirror.example", false),
        ] {
            assert_eq!(may_carry_a_secret(endpoint), may, "{endpoint}");
        }
    }

    #[test]
    fn a_listing_that_could_do_harm_is_refused() {
        let parse = |text: &str| {
            let answer: Answer = serde_json::from_str(text).map_err(|error| error.to_string())?;
            answer.check("url").map_err(|error| error.to_string())
        };
        let commit = "a".repeat(40);
        let with = |file: &str| format!(r#"{{"sha":"{commit}","siblings":[{file}]}}"#);
        for file in [
            format!(r#"{{"rfilename":"../../x","size":1,"blobId":"{commit}"}}"#),
            format!(r#"{{"rfilename":"/etc/x","size":1,"blobId":"{commit}"}}"#),
            r#"{"rfilename":"x","size":1,"blobId":"../../x"}"#.to_owned(),
            r#"{"rfilename":"x","size":1,"blobId":"00","lfs":{"sha256":"zz","size":1}}"#.to_owned(),
            r#"{"rfilename":"x"}"#.to_owned(),
        ] {
            assert!(parse(&with(&file)).is_err(), "{file}");
        }
        assert!(parse(r#"{"sha":"../x","siblings":[]}"#).is_err());
        let good = format!(r#"{{"rfilename":"sub/x.json","size":3,"blobId":"{commit}"}}"#);
        assert_eq!(
            parse(&with(&good)).map(|listing| listing.files.len()),
            Ok(1)
        );
    }
}
