//! `--output`: where the image goes, in the forms of `docker buildx build`.

use std::path::PathBuf;

use cofferdam_engine::{Output, OutputKind, split_fields};

use crate::request::{Result, form};

/// What all `--output` flags say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Files and directories.
    pub files: Vec<Output>,
    /// Further names of the image.
    pub names: Vec<String>,
    /// Whether the image is pushed.
    pub push: bool,
}

/// What `--output` takes, for messages.
const FORM: &str =
    "type=oci|docker|tar|local,dest=PATH[,tar=false], type=registry|image[,name=REF][,push=true], a directory, or `-`";

impl Outputs {
    /// Reads the values of the flag.
    ///
    /// # Errors
    /// A value has another form.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut outputs = Self::default();
        for text in texts {
            outputs.add(text).ok_or_else(|| form("--output", text, FORM))?;
        }
        Ok(outputs)
    }

    fn add(&mut self, text: &str) -> Option<()> {
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
            self.files.push(Output { kind, destination: path.into() });
            return Some(());
        }
        let (mut kind, mut destination, mut tar, mut push) = (None, None, None, None);
        for field in &fields {
            match field.split_once('=')? {
                ("type", value) => kind = Some(value),
                ("dest", value) if !value.is_empty() => destination = Some(PathBuf::from(value)),
                ("tar", value) => tar = Some(value.parse().ok()?),
                ("push", value) => push = Some(value.parse().ok()?),
                ("name", value) => self.names.extend(value.split(',').map(str::to_owned)),
                _ => return None,
            }
        }
        let kind = match (kind?, tar) {
            ("registry", None) if destination.is_none() => {
                self.push |= push.unwrap_or(true);
                return Some(());
            }
            ("image", None) if destination.is_none() => {
                self.push |= push.unwrap_or(false);
                return Some(());
            }
            _ if push.is_some() => return None,
            ("oci", None | Some(true)) => OutputKind::OciArchive,
            ("oci", Some(false)) => OutputKind::OciDirectory,
            ("docker", None | Some(true)) => OutputKind::DockerArchive,
            ("tar", None) => OutputKind::FileSystemArchive,
            ("local", None) => OutputKind::FileSystemDirectory,
            _ => return None,
        };
        self.files.push(Output { kind, destination: destination? });
        Some(())
    }
}

#[cfg(test)]
mod tests {
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
        for text in ["type=image,dest=x", "type=oci,dest=x,push=true", "type=registry,push=maybe"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
