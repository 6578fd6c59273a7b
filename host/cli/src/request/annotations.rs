//! `--annotation`, in the form of `docker buildx build`.

use cofferdam_engine::{Annotation, AnnotationLevel, Platform};

use super::{Result, UsageError, form, platform};

const FORM: &str =
    "[LEVEL[PLATFORM],…:]KEY=VALUE, with the levels manifest, manifest-descriptor, index and index-descriptor";

/// The annotations of all `texts`; those without a level are at `default`.
pub fn annotations(texts: &[String], default: AnnotationLevel) -> Result<Vec<Annotation>> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(parse(text, default).ok_or_else(|| form("--annotation", text, FORM))?);
    }
    Ok(all)
}

/// Refuses annotations of what a build does not make: of an index, unless there is one even for one platform, and of images for
/// other platforms.
pub fn check_places(annotations: &[Annotation], platforms: &[Platform], always_index: bool) -> Result<()> {
    let current = [Platform::current()];
    let platforms = if platforms.is_empty() { &current[..] } else { platforms };
    for annotation in annotations {
        let key = &annotation.key;
        if annotation.level.is_of_index() && platforms.len() < 2 && !always_index {
            let text =
                format!("annotation `{key}`: an image for one platform has no index; name several with `--platform`");
            return Err(UsageError::Combination(text));
        }
        if let Some(platform) = annotation.platform.as_ref().filter(|platform| !platforms.contains(platform)) {
            let text = format!("annotation `{key}`: nothing is built for {platform}");
            return Err(UsageError::Combination(text));
        }
    }
    Ok(())
}

/// One text, which may name several levels.
fn parse(text: &str, default: AnnotationLevel) -> Option<Vec<Annotation>> {
    let (name, value) = text.split_once('=')?;
    // A key may have a colon too; what stands before it then is no word.
    let prefix = name.split_once(':').filter(|(levels, _)| levels.split(',').all(is_level_like));
    let (levels, key) = match prefix {
        Some((levels, key)) => (levels.split(',').map(level).collect::<Option<Vec<_>>>()?, key),
        None => (vec![(default, None)], name),
    };
    if key.is_empty() {
        return None;
    }
    let annotation = |(level, platform)| Annotation { level, platform, key: key.to_owned(), value: value.to_owned() };
    Some(levels.into_iter().map(annotation).collect())
}

fn is_level_like(text: &str) -> bool {
    let word = text.split_once('[').map_or(text, |(word, _)| word);
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// `index`, `manifest[linux/arm64]` and so on.
pub fn level(text: &str) -> Option<(AnnotationLevel, Option<Platform>)> {
    let (word, of) = match text.strip_suffix(']') {
        Some(rest) => {
            let (word, of) = rest.split_once('[')?;
            (word, Some(platform(of).ok()?))
        }
        None => (text, None),
    };
    let level = match word {
        "manifest" => AnnotationLevel::Manifest,
        "manifest-descriptor" => AnnotationLevel::ManifestDescriptor,
        "index" => AnnotationLevel::Index,
        "index-descriptor" => AnnotationLevel::IndexDescriptor,
        _ => return None,
    };
    // An index is for all of them.
    if of.is_some() && level.is_of_index() { None } else { Some((level, of)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_stand_before_the_key() {
        use AnnotationLevel::{Index, Manifest, ManifestDescriptor};
        let arm = || Some("linux/arm64".parse().unwrap());
        for (text, places, key) in [
            ("a=b", vec![(Manifest, None)], "a"),
            ("org.example/x:y=b", vec![(Manifest, None)], "org.example/x:y"),
            ("index:a=b", vec![(Index, None)], "a"),
            ("manifest[linux/arm64]:a=b", vec![(Manifest, arm())], "a"),
            ("index,manifest-descriptor[arm64]:a=b", vec![(Index, None), (ManifestDescriptor, arm())], "a"),
        ] {
            let parsed = parse(text, Manifest).unwrap();
            assert!(parsed.iter().all(|annotation| annotation.key == key && annotation.value == "b"), "{text}");
            let found: Vec<_> = parsed.into_iter().map(|annotation| (annotation.level, annotation.platform)).collect();
            assert_eq!(found, places, "{text}");
        }
        for text in
            ["a", "=b", "index:=b", "layer:a=b", "index[linux/arm64]:a=b", "manifest[x/y/z/w]:a=b", "manifest[:a=b"]
        {
            assert_eq!(parse(text, Manifest), None, "{text}");
        }
    }
}
