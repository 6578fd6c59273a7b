//! azurite, the emulator of Azure's blobs.

use std::{path::PathBuf, process::Command};

use crate::{Certificates, local_server::LocalServer, requirement::emulator, run};

/// A running azurite over TLS, with one account; ends with the handle.
pub struct Azurite {
    server: LocalServer,
    tools: PathBuf,
    authority: PathBuf,
    place: tempfile::TempDir,
}

impl Azurite {
    /// The account.
    pub const ACCOUNT: &str = "cofferdam";
    /// The account's key: base64 of a text.
    pub const KEY: &str = "dGhlIGtleSBvZiBhbiBhY2NvdW50IG9mIHRlc3RzLCBubyBvdGhlcg==";

    /// Starts it with these certificates, which must be for `localhost` too; `None` (reported as a skip) where it is not
    /// installed.
    pub fn start(certificates: &Certificates) -> Option<Self> {
        let tools = emulator("azurite")?;
        let place = tempfile::tempdir().expect("a temporary directory");
        let server = LocalServer::start(|port| {
            let mut command = Command::new("node");
            command.arg(tools.join("node_modules/azurite/dist/src/blob/main.js"));
            command.args([
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                &port.to_string(),
                "--silent",
                "--disableTelemetry",
                "--skipApiVersionCheck",
            ]);
            command.arg("--location").arg(place.path());
            command.arg("--cert").arg(certificates.certificate()).arg("--key").arg(certificates.key());
            command.env("AZURITE_ACCOUNTS", format!("{}:{}", Self::ACCOUNT, Self::KEY));
            command
        });
        Some(Self { server, tools, authority: certificates.authority(), place })
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Runs lines of JavaScript with Azure's own library, in which `service` is a client of this server, and `storage` is the
    /// library; the answer is what they print.
    #[track_caller]
    pub fn javascript(&self, script: &str) -> String {
        let (account, key, port) = (Self::ACCOUNT, Self::KEY, self.server.port());
        let text = format!(
            "const storage = require('@azure/storage-blob');
const credential = new storage.StorageSharedKeyCredential('{account}', '{key}');
const service = new storage.BlobServiceClient('https://localhost:{port}/{account}', credential);
(async () => {{ {script} }})().catch(error => {{ console.error(error.message); process.exit(1); }});"
        );
        let mut command = Command::new("node");
        command.args(["-e", &text]).current_dir(self.place.path());
        command.env("NODE_PATH", self.tools.join("node_modules")).env("NODE_EXTRA_CA_CERTS", &self.authority);
        run(&mut command).success().stdout
    }
}
