//! Attestations: what is said about an image, stored beside it in its index.
//!
//! The form is BuildKit's ("Attestation storage"): a manifest of its own, which the index lists for the platform
//! `unknown/unknown` with annotations that name the image, and whose layers are statements (in-toto Attestation Framework 1.0).

use std::collections::BTreeMap;

use cofferdam_digest::Digest;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Descriptor, Family, Manifest, MediaType, Platform, json::canonical};

/// In-toto's statement, version 1.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// The annotation of a manifest that is about another one of the same index, whose digest is its value (BuildKit,
/// docs/attestations/attestation-storage.md).
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const ATTESTATION_MANIFEST: &str = "attestation-manifest";
const ARTIFACT_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// A subject without a name of its own: its digest is what counts, so that the same image has the same statements
/// wherever it goes (ResourceDescriptor of in-toto: `_` where there is no name).
const NAMELESS: &str = "_";

/// One statement about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    predicate_type: String,
    bytes: Vec<u8>,
}

/// All statements about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationManifest {
    manifest: Manifest,
    config: Vec<u8>,
    statements: Vec<Statement>,
    image: Digest,
}

impl Statement {
    /// The statement that `predicate` holds for the image whose manifest has this digest.
    pub fn new(image: &Digest, predicate_type: &str, predicate: &impl Serialize) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'s, P> {
            #[serde(rename = "_type")]
            kind: &'s str,
            predicate_type: &'s str,
            subject: [Value; 1],
            predicate: &'s P,
        }
        let bytes = canonical(&Document {
            kind: STATEMENT_TYPE,
            predicate_type,
            subject: [json!({ "name": NAMELESS, "digest": { "sha256": image.hex() } })],
            predicate,
        });
        Self { predicate_type: predicate_type.to_owned(), bytes }
    }

    fn descriptor(&self) -> Descriptor {
        let annotations = [(PREDICATE_TYPE.to_owned(), self.predicate_type.clone())].into();
        Descriptor { annotations, ..Descriptor::of(MediaType::from(IN_TOTO), &self.bytes) }
    }
}

impl AttestationManifest {
    /// The manifest of statements about an image. As an artifact (OCI image specification 1.1) it names the image as its
    /// subject; otherwise it has the configuration of an image, which older registries and tools ask of every manifest.
    pub fn new(image: &Descriptor, statements: Vec<Statement>, as_artifact: bool) -> Self {
        let layers: Vec<Descriptor> = statements.iter().map(Statement::descriptor).collect();
        let (media_type, config) = match as_artifact {
            true => (MediaType::Empty, b"{}".to_vec()),
            false => {
                let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
                let config = json!({
                    "architecture": "unknown",
                    "config": Map::new(),
                    "os": "unknown",
                    "rootfs": { "diff_ids": diff_ids, "type": "layers" },
                });
                (MediaType::Config(Family::Oci), canonical(&config))
            }
        };
        let mut manifest = Manifest::new(Family::Oci, Descriptor::of(media_type, &config), layers);
        if as_artifact {
            manifest.artifact_type = Some(ARTIFACT_TYPE.to_owned());
            manifest.subject = Some(Descriptor::new(image.media_type.clone(), image.digest, image.size));
        }
        Self { manifest, config, statements, image: image.digest }
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How the image's index lists it.
    pub fn entry(&self) -> Descriptor {
        let unknown = "unknown".to_owned();
        let annotations: BTreeMap<String, String> = [
            (REFERENCE_TYPE.to_owned(), ATTESTATION_MANIFEST.to_owned()),
            (REFERENCE_DIGEST.to_owned(), self.image.to_string()),
        ]
        .into();
        Descriptor {
            annotations,
            platform: Some(Platform { os: unknown.clone(), architecture: unknown, os_version: None, variant: None }),
            artifact_type: self.manifest.artifact_type.clone(),
            ..self.manifest.descriptor()
        }
    }

    /// What the manifest names: its configuration and its statements.
    pub fn blobs(&self) -> impl Iterator<Item = (&Descriptor, &[u8])> {
        let statements = self.statements.iter().map(|statement| statement.bytes.as_slice());
        [(&self.manifest.config, self.config.as_slice())].into_iter().chain(self.manifest.layers.iter().zip(statements))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    fn image() -> Descriptor {
        Descriptor::of(MediaType::Manifest(Family::Oci), b"image")
    }

    #[test]
    fn a_statement_is_about_the_digest_of_the_image() {
        let image = image();
        let statement = Statement::new(&image.digest, "https://x.example/y", &json!({ "a": 1 }));
        let text = String::from_utf8(statement.bytes.clone()).unwrap();
        let expected = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://x.example/y","subject":[{{"digest":{{"sha256":"{}"}},"name":"_"}}],"predicate":{{"a":1}}}}"#,
            image.digest.hex()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn both_forms_read_back_and_name_the_image() {
        let image = image();
        for as_artifact in [false, true] {
            let statement = Statement::new(&image.digest, "https://x.example/y", &Map::new());
            let attestation = AttestationManifest::new(&image, vec![statement], as_artifact);
            let entry = attestation.entry();
            assert_eq!(entry.platform.as_ref().unwrap().to_string(), "unknown/unknown");
            assert_eq!(entry.annotations[REFERENCE_TYPE], "attestation-manifest");
            assert_eq!(entry.annotations[REFERENCE_DIGEST], image.digest.to_string());
            let Document::Manifest(read) = Document::parse(&attestation.manifest().to_json(), None).unwrap() else {
                panic!()
            };
            assert_eq!(read.layers[0].annotations[PREDICATE_TYPE], "https://x.example/y");
            assert_eq!(read.layers[0].media_type.to_string(), IN_TOTO);
            assert_eq!(read.subject.is_some(), as_artifact);
            for (descriptor, bytes) in attestation.blobs() {
                assert_eq!(
                    *descriptor,
                    Descriptor {
                        annotations: descriptor.annotations.clone(),
                        ..Descriptor::of(descriptor.media_type.clone(), bytes)
                    }
                );
            }
            oci_spec::image::ImageManifest::from_reader(&attestation.manifest().to_json()[..]).unwrap();
        }
    }
}
