//! `--output`: where the image goes, in the forms of `docker buildx build`.

use std::path::PathBuf;

use cofferdam_engine::{Annotation, Compression, Output, OutputKind, split_fields};

use crate::request::{Result, UsageError, form, level};

/// What all `--output` flags say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Files and directories.
    pub files: Vec<Output>,
    /// Further names of the image.
    pub names: Vec<String>,
    /// Whether the image is pushed.
    pub push: bool,
    /// Whether that is without a tag.
    pub by_digest: bool,
    /// Whether the store lists it by its digest too.
    pub canonical_names: bool,
    /// Docker's media types, or OCI's, where something is said of that.
    pub docker_media_types: Option<bool>,
    /// Of the layers, where something is said of that.
    pub compression: Option<Compression>,
    /// Whether layers of bases are compressed anew.
    pub force_compression: bool,
    /// Whether what is said about the image is stored as artifacts (`oci-artifact=true`).
    pub as_artifacts: bool,
    /// Of the image.
    pub annotations: Vec<Annotation>,
}

/// What `--output` takes, for messages.
const FORM: &str = "type=oci|docker|tar|local,dest=PATH[,tar=false], type=registry|image[,name=REF][,push=true]\
    [,push-by-digest=true][,oci-artifact=true], a directory, or `-`; images take oci-mediatypes=, compression=gzip|zstd|uncompressed, \
    compression-level=, force-compression= and annotation.KEY= too";

/// zstd's, as the library behind it has it.
const ZSTD_DEFAULT_LEVEL: i32 = 3;

impl Outputs {
    /// Reads the values of the flag.
    ///
    /// # Errors
    /// A value has another form, or two want different images: a build makes one.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut outputs = Self::default();
        for text in texts {
            let said = Said::parse(text).ok_or_else(|| form("--output", text, FORM))?;
            outputs.add(said)?;
        }
        Ok(outputs)
    }

    fn add(&mut self, said: Said) -> Result<()> {
        self.files.extend(said.file);
        self.names.extend(said.names);
        self.push |= said.push;
        self.by_digest |= said.by_digest;
        self.canonical_names |= said.canonical_names;
        self.force_compression |= said.force_compression;
        self.as_artifacts |= said.as_artifacts;
        self.annotations.extend(said.annotations);
        join("oci-mediatypes", &mut self.docker_media_types, said.docker_media_types)?;
        join("compression", &mut self.compression, said.compression)
    }
}

/// What is said twice must be the same.
fn join<T: PartialEq>(name: &str, all: &mut Option<T>, one: Option<T>) -> Result<()> {
    match (&all, &one) {
        (Some(before), Some(now)) if before != now => {
            let text = format!("a build makes one image: `{name}` must be the same in every `--output`");
            Err(UsageError::Combination(text))
        }
        _ => {
            *all = one.or(all.take());
            Ok(())
        }
    }
}

/// What one flag says.
#[derive(Default)]
struct Said {
    file: Option<Output>,
    names: Vec<String>,
    push: bool,
    by_digest: bool,
    canonical_names: bool,
    docker_media_types: Option<bool>,
    compression: Option<Compression>,
    force_compression: bool,
    as_artifacts: bool,
    annotations: Vec<Annotation>,
}

impl Said {
    fn parse(text: &str) -> Option<Self> {
        let fields = split_fields(text)?;
        // A path alone is the file system there, and on standard output an archive.
        if let [path] = &fields[..]
            && !path.contains('=')
        {
            let kind = match path.as_str() {
                "" => return None,
                "-" => OutputKind::FileSystemArchive,
                _ => OutputKind::FileSystemDirectory,
            };
            let file = Some(Output { kind, destination: path.into() });
            return Some(Self { file, ..Self::default() });
        }
        let mut said = Self::default();
        let (mut kind, mut destination, mut tar, mut push, mut by_digest) = (None, None, None, None, None);
        let (mut format, mut level, mut is_of_an_image) = (None, None, false);
        for field in &fields {
            let (key, value) = field.split_once('=')?;
            match key {
                "type" => kind = Some(value),
                "dest" if !value.is_empty() => destination = Some(PathBuf::from(value)),
                "tar" => tar = Some(value.parse().ok()?),
                "push" => push = Some(value.parse().ok()?),
                "push-by-digest" => by_digest = Some(value.parse().ok()?),
                "name-canonical" => said.canonical_names = value.parse().ok()?,
                "name" => said.names.extend(value.split(',').map(str::to_owned)),
                _ => {
                    is_of_an_image = true;
                    match key {
                        "oci-mediatypes" => said.docker_media_types = Some(!value.parse::<bool>().ok()?),
                        "oci-artifact" => said.as_artifacts = value.parse().ok()?,
                        "compression" => format = Some(value),
                        "compression-level" => level = Some(value.parse().ok()?),
                        "force-compression" => said.force_compression = value.parse().ok()?,
                        _ => said.annotations.push(annotation(key, value)?),
                    }
                }
            }
        }
        said.compression = compression(format, level)?;
        said.by_digest = by_digest.unwrap_or_default();
        let kind = match (kind?, tar) {
            (kind @ ("registry" | "image"), None) if destination.is_none() => {
                said.push = push.unwrap_or(kind == "registry");
                return Some(said);
            }
            _ if push.is_some() || by_digest.is_some() || said.canonical_names => return None,
            ("oci", None | Some(true)) => OutputKind::OciArchive,
            ("oci", Some(false)) => OutputKind::OciDirectory,
            ("docker", None | Some(true)) => OutputKind::DockerArchive,
            ("tar" | "local", _) if is_of_an_image => return None,
            ("tar", None) => OutputKind::FileSystemArchive,
            ("local", None) => OutputKind::FileSystemDirectory,
            _ => return None,
        };
        said.file = Some(Output { kind, destination: destination? });
        Some(said)
    }
}

/// `annotation.KEY`, `annotation-index.KEY`, `annotation-manifest[OS/ARCH].KEY` and so on.
fn annotation(key: &str, value: &str) -> Option<Annotation> {
    let (place, key) = key.strip_prefix("annotation")?.split_once('.')?;
    let (level, platform) = match place.strip_prefix('-') {
        Some(place) => level(place)?,
        None => level(&format!("manifest{place}"))?,
    };
    (!key.is_empty()).then(|| Annotation { level, platform, key: key.to_owned(), value: value.to_owned() })
}

/// What a format and a level mean together; `None` where they mean nothing.
fn compression(format: Option<&str>, level: Option<i32>) -> Option<Option<Compression>> {
    Some(Some(match (format, level) {
        (None, None) => return Some(None),
        (None | Some("gzip"), Some(level @ 0..=9)) => Compression::Gzip { level: level.unsigned_abs() },
        (Some("gzip"), None) => Compression::default(),
        (Some("zstd"), Some(level @ 0..=22)) => {
            Compression::Zstd { level: if level == 0 { ZSTD_DEFAULT_LEVEL } else { level } }
        }
        (Some("zstd"), None) => Compression::Zstd { level: ZSTD_DEFAULT_LEVEL },
        (Some("uncompressed"), None) => Compression::None,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use cofferdam_engine::AnnotationLevel;

    use super::*;

    fn parse(text: &str) -> Option<Outputs> {
        Outputs::parse(&[text.to_owned()]).ok()
    }

    fn file(kind: OutputKind, path: &str) -> Option<Outputs> {
        Some(Outputs { files: vec![Output { kind, destination: path.into() }], ..Outputs::default() })
    }

    #[test]
    fn files_have_a_type_and_a_place() {
        assert_eq!(parse("type=oci,dest=x.tar"), file(OutputKind::OciArchive, "x.tar"));
        assert_eq!(parse("type=oci,dest=x,tar=false"), file(OutputKind::OciDirectory, "x"));
        assert_eq!(parse("type=docker,dest=-"), file(OutputKind::DockerArchive, "-"));
        assert_eq!(parse("type=tar,dest=x.tar"), file(OutputKind::FileSystemArchive, "x.tar"));
        assert_eq!(parse("type=local,\"dest=a,b\""), file(OutputKind::FileSystemDirectory, "a,b"));
        assert_eq!(parse("out/put"), file(OutputKind::FileSystemDirectory, "out/put"));
        assert_eq!(parse("-"), file(OutputKind::FileSystemArchive, "-"));
        for text in [
            "type=oci",
            "dest=x",
            "type=zip,dest=x",
            "type=oci,dest=x,level=9",
            "",
            "type=local,dest=",
            "type=tar,dest=x,tar=true",
            "type=tar,dest=x,compression=gzip",
            "type=oci,dest=x,compression=estargz",
            "type=oci,dest=x,compression=gzip,compression-level=10",
            "type=oci,dest=x,compression=uncompressed,compression-level=1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn images_have_names_and_may_be_pushed() {
        let names = |push, names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Some(Outputs { push, names, ..Outputs::default() })
        };
        assert_eq!(parse("type=registry"), names(true, &[]));
        assert_eq!(parse("type=image,\"name=a:1,b:2\",push=true"), names(true, &["a:1", "b:2"]));
        assert_eq!(parse("type=image,name=a"), names(false, &["a"]));
        let by_digest = Outputs { by_digest: true, canonical_names: true, ..names(true, &["a"]).expect("made here") };
        assert_eq!(parse("type=image,name=a,push-by-digest=true,name-canonical=true,push=true"), Some(by_digest));
        for text in [
            "type=oci,dest=x,push-by-digest=true",
            "type=image,dest=x",
            "type=oci,dest=x,push=true",
            "type=registry,push=maybe",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_image_of_a_build_is_the_same() {
        let parse =
            |texts: &[&str]| Outputs::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).ok();
        let outputs =
            parse(&["type=oci,dest=x,compression=zstd", "type=registry,compression-level=22,compression=zstd"]);
        assert_eq!(outputs, None);
        let said = "type=registry,oci-mediatypes=false,compression-level=9,force-compression=true,annotation.a=b,\
            annotation-manifest-descriptor[linux/arm64].org.example.c=d,annotation-index.e=f";
        let outputs = parse(&[said, "type=oci,dest=x,tar=false"]).expect("no contradiction");
        assert_eq!((outputs.docker_media_types, outputs.force_compression), (Some(true), true));
        assert_eq!(outputs.compression, Some(Compression::Gzip { level: 9 }));
        let at: Vec<(AnnotationLevel, Option<String>, &str)> = (outputs.annotations.iter())
            .map(|a| (a.level, a.platform.as_ref().map(ToString::to_string), a.key.as_str()))
            .collect();
        let arm = Some("linux/arm64".to_owned());
        use AnnotationLevel::{Index, Manifest, ManifestDescriptor};
        assert_eq!(at, [(Manifest, None, "a"), (ManifestDescriptor, arm, "org.example.c"), (Index, None, "e")]);
    }
}
