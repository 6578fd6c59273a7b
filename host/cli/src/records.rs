//! Files that say under which names the image was pushed, for the steps of a pipeline that come after.

use std::path::PathBuf;

use cofferdam_engine::Built;
use cofferdam_image::StoreError;

/// Where to write what.
#[derive(Debug, Default)]
pub struct Records {
    /// `NAME@DIGEST`, a line for each name.
    pub with_digest: Option<PathBuf>,
    /// `NAME:TAG@DIGEST`, a line for each name.
    pub with_tag_and_digest: Option<PathBuf>,
    /// A JSON object with `name` and `digest` for each name, a line each.
    pub builder_output: Option<PathBuf>,
    /// The digest of the configuration, which Docker calls the image's id.
    pub id: Option<PathBuf>,
    /// A JSON object with the keys that BuildKit gives its clients (`containerimage.digest` and its kin).
    pub metadata: Option<PathBuf>,
}

/// A record can't be written. The image is built, and pushed if it was to be.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}; the image is complete", path.display())]
pub struct RecordError {
    path: PathBuf,
    #[source]
    source: StoreError,
}

impl Records {
    /// Writes them, each whole or not at all.
    ///
    /// # Errors
    /// The first file that can't be written.
    pub fn write(&self, built: &Built) -> Result<(), RecordError> {
        let lines =
            |line: &dyn Fn(&str) -> String| built.names.iter().map(|name| line(name) + "\n").collect::<String>();
        let digest = built.digest;
        let files = [
            (&self.with_digest, lines(&|name| format!("{}@{digest}", without_tag(name)))),
            (&self.with_tag_and_digest, lines(&|name| format!("{name}@{digest}"))),
            (
                &self.builder_output,
                lines(&|name| serde_json::json!({ "name": name, "digest": digest.to_string() }).to_string()),
            ),
            // Of several images none is the one: their index stands for them.
            (&self.id, built.config_digest.unwrap_or(digest).to_string()),
            (&self.metadata, metadata(built)),
        ];
        for (path, text) in files {
            let Some(path) = path else { continue };
            let written = cofferdam_image::export::write_file(path, text.as_bytes());
            written.map_err(|source| RecordError { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// As `docker buildx build --metadata-file` writes it.
fn metadata(built: &Built) -> String {
    let root = &built.root;
    let mut object = serde_json::json!({
        "containerimage.descriptor": {
            "mediaType": root.media_type.to_string(),
            "digest": root.digest.to_string(),
            "size": root.size,
        },
        "containerimage.digest": built.digest.to_string(),
    });
    if !root.annotations.is_empty() {
        object["containerimage.descriptor"]["annotations"] = serde_json::json!(root.annotations);
    }
    if let Some(digest) = &built.config_digest {
        object["containerimage.config.digest"] = digest.to_string().into();
    }
    if !built.names.is_empty() {
        object["image.name"] = built.names.join(",").into();
    }
    format!("{object:#}")
}

/// A name whose tag, if it has one, stands behind the last colon after the last slash.
fn without_tag(name: &str) -> &str {
    let path = name.rfind('/').map_or(0, |slash| slash + 1);
    name[path..].rfind(':').map_or(name, |colon| &name[..path + colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        for (name, without) in [("r:5000/a/b:1", "r:5000/a/b"), ("r:5000/a", "r:5000/a"), ("alpine:3", "alpine")] {
            assert_eq!(without_tag(name), without);
        }
    }
}
