//! Docker's `config.json`, as `login` and `logout` change it: everything that they do not know stays.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "writes the one file that the user keeps credentials in"
)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cofferdam_engine::{RegistryHost, Secret};
use serde_json::{Map, Value, json};

/// The file, with what it holds now.
pub struct DockerConfig {
    path: PathBuf,
    document: Map<String, Value>,
}

impl DockerConfig {
    /// Reads it; a file that is not there holds nothing.
    ///
    /// # Errors
    /// It can't be read, or is not JSON. No message quotes it: it is full of secrets.
    pub fn read(path: &Path) -> Result<Self, String> {
        let unusable = |why: &str| format!("`{}` can't be used: {why}", path.display());
        let document = match fs::read(path) {
            Ok(bytes) if bytes.is_empty() => Map::new(),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Value::Object(document)) => document,
                _ => return Err(unusable("it is not a JSON object")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(unusable(&error.to_string())),
        };
        Ok(Self { path: path.to_path_buf(), document })
    }

    /// Keeps a user and a password.
    ///
    /// # Errors
    /// Its `auths` is not an object.
    pub fn put(&mut self, registry: &RegistryHost, username: &str, password: &Secret) -> Result<(), String> {
        let auth = STANDARD.encode(format!("{username}:{}", password.expose()));
        self.auths()?.insert(key(registry), json!({"auth": auth}));
        Ok(())
    }

    /// Forgets a registry, under each of its names. Answers whether it was known.
    ///
    /// # Errors
    /// Its `auths` is not an object.
    pub fn remove(&mut self, registry: &RegistryHost) -> Result<bool, String> {
        let host = registry.to_string();
        let names = [key(registry), host.clone(), format!("https://{host}"), format!("http://{host}")];
        let auths = self.auths()?;
        let removed: Vec<_> = names.iter().filter_map(|name| auths.remove(name)).collect();
        Ok(!removed.is_empty())
    }

    /// The native program that other tools would ask for this registry, and which this builder does not.
    pub fn native_helper(&self, registry: &RegistryHost) -> Option<&str> {
        let of_host = self.document.get("credHelpers").and_then(|helpers| helpers.get(registry.to_string()));
        of_host.or_else(|| self.document.get("credsStore"))?.as_str().filter(|name| !name.is_empty())
    }

    /// Writes it whole, for its user's eyes alone.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn write(&self) -> Result<(), String> {
        let write = || -> io::Result<()> {
            if let Some(directory) = self.path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            // Where it is a link, what it leads to is replaced.
            let place = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
            let temporary = place.with_extension(format!("{}.partial", std::process::id()));
            let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            let written = file
                .write_all(format!("{:#}\n", Value::Object(self.document.clone())).as_bytes())
                .and_then(|()| fs::rename(&temporary, &place));
            if written.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            written
        };
        write().map_err(|error| format!("can't write `{}`: {error}", self.path.display()))
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, String> {
        let path = self.path.display().to_string();
        let auths = self.document.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        auths.as_object_mut().ok_or_else(|| format!("`{path}` can't be used: its `auths` is not an object"))
    }
}

/// What Docker calls a registry there.
fn key(registry: &RegistryHost) -> String {
    if *registry == RegistryHost::docker_hub() {
        "https://index.docker.io/v1/".to_owned()
    } else {
        registry.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config.json");
        let (hub, other) = (RegistryHost::docker_hub(), "reg.example:5000".parse().unwrap());
        let mut config = DockerConfig::read(&path).unwrap();
        config.put(&hub, "me", &Secret::new("a:b".to_owned())).unwrap();
        config.write().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("{\n", "{\n\"credsStore\": \"desktop\",\n", 1)).unwrap();

        let mut config = DockerConfig::read(&path).unwrap();
        assert_eq!(config.native_helper(&other), Some("desktop"));
        config.put(&other, "you", &Secret::new("c".to_owned())).unwrap();
        assert!(config.remove(&hub).unwrap() && !config.remove(&hub).unwrap());
        config.write().unwrap();
        let left: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(left, json!({"credsStore": "desktop", "auths": {"reg.example:5000": {"auth": "eW91OmM="}}}));
    }

    #[test]
    fn what_is_no_configuration_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        for text in ["[]", "{", "secret"] {
            fs::write(&path, text).unwrap();
            let error = DockerConfig::read(&path).err().unwrap();
            assert!(!error.contains("secret"), "{error}");
        }
        fs::write(&path, r#"{"auths": []}"#).unwrap();
        let mut config = DockerConfig::read(&path).unwrap();
        assert!(config.put(&RegistryHost::docker_hub(), "u", &Secret::new("p".to_owned())).is_err());
    }
}
