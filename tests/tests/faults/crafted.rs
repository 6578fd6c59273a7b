//! Images that nobody makes by accident: archives byte by byte, and documents that lie about them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use cofferdam_digest::Digest;
use serde_json::{Value, json};

/// A member of an archive: header and content, padded.
pub fn member(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = content.len().next_multiple_of(512) - content.len();
    [&block[..], content, &vec![0; padding]].concat()
}

/// A file.
pub fn file(name: &str, content: &[u8]) -> Vec<u8> {
    member(name, b'0', "", content)
}

/// A PAX header for the member behind it.
pub fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while format!("{length}{rest}").len() != length {
        length = format!("{length}{rest}").len();
    }
    member("pax", b'x', "", format!("{length}{rest}").as_bytes())
}

/// A GNU header with a long name for the member behind it.
pub fn long_name(name: &str) -> Vec<u8> {
    member("././@LongLink", b'L', "", format!("{name}\0").as_bytes())
}

/// A whole archive.
pub fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

/// Compressed with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// An image in an OCI layout, with all documents in order until a test changes them.
pub struct Crafted {
    pub directory: PathBuf,
    pub config: Value,
    pub layers: Vec<Value>,
}

impl Crafted {
    /// Without layers.
    pub fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory.join("blobs/sha256")).expect("writable");
        let config =
            json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
        Self { directory: directory.to_path_buf(), config, layers: Vec::new() }
    }

    /// Adds a layer of an archive.
    pub fn layer(self, archive: &[u8]) -> Self {
        self.blob(&gzip(archive), Digest::of(archive))
    }

    /// Adds a layer of a blob that is already compressed.
    pub fn blob(mut self, blob: &[u8], diff_id: Digest) -> Self {
        let descriptor = self.put("application/vnd.oci.image.layer.v1.tar+gzip", blob);
        self.layers.push(descriptor);
        self.config["rootfs"]["diff_ids"].as_array_mut().expect("a list").push(json!(diff_id.to_string()));
        self
    }

    /// Stores a blob; answers its descriptor.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.path(&digest.to_string()), bytes).expect("writable");
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    /// Where a blob is.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs").join(digest.replace(':', "/"))
    }

    /// The manifest.
    pub fn manifest(&self) -> Value {
        let config = self.put("application/vnd.oci.image.config.v1+json", self.config.to_string().as_bytes());
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": self.layers,
        })
    }

    /// Writes the documents; answers the value for `--build-context`.
    pub fn finish(&self) -> String {
        self.finish_with(&self.manifest())
    }

    /// The same with another manifest.
    pub fn finish_with(&self, manifest: &Value) -> String {
        let mut descriptor = self.put("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        fs::write(self.directory.join("index.json"), index.to_string()).expect("writable");
        fs::write(self.directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("writable");
        format!("base=oci-layout://{}", self.directory.display())
    }
}
