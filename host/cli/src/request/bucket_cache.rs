//! `type=s3` of `--cache-from` and `--cache-to`, with BuildKit's names of fields.

use std::collections::BTreeMap;

use cofferdam_engine::{BucketCache, CloudAccess};

/// Where BuildKit has documents and layers of caches, if nothing else is said.
const MANIFESTS_PREFIX: &str = "manifests/";
const BLOBS_PREFIX: &str = "blobs/";

/// What a cache is called if nothing else is said; BuildKit's own are called otherwise, and have another form.
const NAME: &str = "cofferdam";

/// The fields, each at most once, and none that means nothing.
#[derive(Default)]
pub struct BucketFields(BTreeMap<&'static str, String>);

impl BucketFields {
    const NAMES: [&str; 11] = [
        "access_key_id",
        "blobs_prefix",
        "bucket",
        "endpoint_url",
        "manifests_prefix",
        "name",
        "prefix",
        "region",
        "secret_access_key",
        "session_token",
        "use_path_style",
    ];

    /// Takes a field; `None` if it is not one of these, or has no value.
    pub fn take(&mut self, name: &str, value: &str) -> Option<()> {
        let name = Self::NAMES.into_iter().find(|known| *known == name)?;
        let is_new = !value.is_empty() && self.0.insert(name, value.to_owned()).is_none();
        is_new.then_some(())
    }

    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cache, with what the environment says where the fields say nothing; `None` if something is missing or wrong.
    pub fn cache(mut self, environment: &CloudAccess) -> Option<BucketCache> {
        let mut take = |name| self.0.remove(name);
        let (bucket, prefix) = (take("bucket")?, take("prefix").unwrap_or_default());
        // BuildKit writes one cache under several names at once; here the flag is repeated.
        let name = take("name").unwrap_or_else(|| NAME.to_owned());
        let documents = take("manifests_prefix").unwrap_or_else(|| MANIFESTS_PREFIX.to_owned());
        let layers = take("blobs_prefix").unwrap_or_else(|| BLOBS_PREFIX.to_owned());
        let mut cloud = environment.clone();
        let mut set = |variable: &str, value: String| drop(cloud.variables.insert(variable.to_owned(), value));
        match (take("access_key_id"), take("secret_access_key"), take("session_token")) {
            (Some(id), Some(secret), token) => {
                set("AWS_PROFILE", String::new());
                set("AWS_ACCESS_KEY_ID", id);
                set("AWS_SECRET_ACCESS_KEY", secret);
                set("AWS_SESSION_TOKEN", token.unwrap_or_default());
            }
            (None, None, None) => {}
            _ => return None,
        }
        if let Some(region) = take("region") {
            set("AWS_REGION", region);
        }
        if let Some(endpoint) = take("endpoint_url") {
            set("S3_ENDPOINT", endpoint);
        }
        if let Some(path_style) = take("use_path_style") {
            let path_style = matches!(path_style.as_str(), "true" | "false").then_some(path_style)?;
            set("S3_FORCE_PATH_STYLE", path_style);
        }
        let is_one = !name.contains(';');
        let (document, layers) = (format!("{prefix}{documents}{name}"), format!("{prefix}{layers}"));
        is_one.then_some(BucketCache { bucket, document, layers, cloud })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(fields: &[(&str, &str)]) -> Option<BucketCache> {
        let mut taken = BucketFields::default();
        fields.iter().try_for_each(|(name, value)| taken.take(name, value))?;
        let variables = [("AWS_REGION", "a"), ("AWS_PROFILE", "p"), ("AWS_SESSION_TOKEN", "t")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        taken.cache(&CloudAccess { variables: variables.into(), ..CloudAccess::default() })
    }

    #[test]
    fn keys_are_where_buildkit_has_them() {
        let plain = cache(&[("bucket", "b")]).unwrap();
        assert_eq!((plain.document.as_str(), plain.layers.as_str()), ("manifests/cofferdam", "blobs/"));
        assert_eq!(plain.cloud.variables["AWS_REGION"], "a");
        let fields =
            [("bucket", "b"), ("prefix", "p/"), ("name", "main"), ("manifests_prefix", "m/"), ("blobs_prefix", "l/")];
        let named = cache(&fields).unwrap();
        assert_eq!((named.document.as_str(), named.layers.as_str()), ("p/m/main", "p/l/"));
    }

    #[test]
    fn fields_count_before_the_environment() {
        let keys = [("access_key_id", "i"), ("secret_access_key", "s")];
        let place = [("bucket", "b"), ("region", "r"), ("endpoint_url", "http://h"), ("use_path_style", "true")];
        let variables = cache(&[&keys[..], &place[..]].concat()).unwrap().cloud.variables;
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "i"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_PROFILE", ""),
            ("AWS_REGION", "r"),
            ("S3_ENDPOINT", "http://h"),
            ("S3_FORCE_PATH_STYLE", "true"),
        ] {
            assert_eq!(variables[name], value, "{name}");
        }
        for wrong in [
            &[("region", "r")][..],
            &[("bucket", "b"), ("access_key_id", "i")],
            &[("bucket", "b"), ("session_token", "t")],
            &[("bucket", "b"), ("use_path_style", "maybe")],
            &[("bucket", "b"), ("name", "a;b")],
            &[("bucket", "b"), ("bucket", "c")],
            &[("bucket", "")],
            &[("bucket", "b"), ("touch_refresh", "1h")],
        ] {
            assert!(cache(wrong).is_none(), "{wrong:?}");
        }
    }
}
