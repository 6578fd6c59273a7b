//! What files of this machine say about registries: registries.conf, and directories with a hosts.toml for each registry.

use std::path::{Path, PathBuf};

use cofferdam_registry::{HostsToml, Prefix, RegistriesConf, RegistryHost, Rule, RuleMirror};
use cofferdam_rootfs::{ConfinedDir, RootPath, read_named_file};

use crate::{
    error::BuildError,
    request::{CertificateFiles, RegistryAccess},
};

/// Such files are not larger, in bytes.
const FILE_LIMIT_BYTES: u64 = 4 << 20;

/// How registries are reached, with what the files say. What the command line says is asked first, and counts before them.
///
/// # Errors
/// A file can't be read or used, or one that was named is not there.
pub fn resolved(access: &RegistryAccess) -> Result<RegistryAccess, BuildError> {
    let mut all = access.clone();
    let files = &access.files;
    let named = files.registries_conf.as_deref();
    // The first one that is there, as its other readers take it.
    for path in
        named.into_iter().chain(files.default_registries_conf.iter().map(PathBuf::as_path).filter(|_| named.is_none()))
    {
        let Some(text) = read(path)? else {
            if named.is_some() {
                return Err(wrong(path, "there is no such file"));
            }
            continue;
        };
        let conf = RegistriesConf::parse(&text).map_err(|error| wrong(path, &error.to_string()))?;
        add_conf(&mut all, conf, named.is_some());
        for file in drop_ins(path) {
            let text = read(&file)?.unwrap_or_default();
            let conf = RegistriesConf::parse(&text).map_err(|error| wrong(&file, &error.to_string()))?;
            add_conf(&mut all, conf, named.is_some());
        }
        break;
    }
    for directory in &files.hosts_directories {
        for name in names(directory) {
            let Ok(registry) = name.parse::<RegistryHost>() else { continue };
            add_host(&mut all, &registry, &directory.join(&name))?;
        }
    }
    Ok(all)
}

fn add_conf(all: &mut RegistryAccess, conf: RegistriesConf, was_named: bool) {
    all.mirrors.rules.extend(conf.rules);
    all.insecure_hosts.extend(conf.insecure.iter().map(ToString::to_string));
    // What a short name means must not depend on what happens to be installed.
    if was_named {
        all.mirrors.aliases.extend(conf.aliases);
        all.mirrors.search = conf.search.unwrap_or_else(|| std::mem::take(&mut all.mirrors.search));
    }
}

/// `registries.conf.d` beside the file, in the order of names.
fn drop_ins(conf: &Path) -> Vec<PathBuf> {
    let directory = conf.with_file_name("registries.conf.d");
    let names = names(&directory).into_iter().filter(|name| name.ends_with(".conf"));
    names.map(|name| directory.join(name)).collect()
}

fn add_host(all: &mut RegistryAccess, registry: &RegistryHost, directory: &Path) -> Result<(), BuildError> {
    let path = directory.join("hosts.toml");
    if let Some(text) = read(&path)? {
        let hosts = HostsToml::parse(registry, &text).map_err(|error| wrong(&path, &error.to_string()))?;
        all.mirrors.rules.push(Rule {
            prefix: Prefix::host(registry.clone()),
            blocked: false,
            location: hosts.server,
            mirrors: hosts.mirrors.into_iter().map(RuleMirror::for_all).collect(),
        });
        all.insecure_hosts.extend(hosts.insecure.iter().map(ToString::to_string));
        all.skip_tls_verify_hosts.extend(hosts.skip_tls_verify.iter().map(ToString::to_string));
        for (host, files) in hosts.files {
            let place = |file: &String| directory.join(file);
            let ca = files.ca.iter().map(place).collect();
            let client = files.client.as_ref().map(|(certificate, key)| (place(certificate), place(key)));
            add_certificates(all, &host, CertificateFiles { ca, client });
        }
    }
    // Docker's names, and those of podman.
    let there = |name: &str| Some(directory.join(name)).filter(|file| file.is_file());
    let client = there("client.cert").zip(there("client.key"));
    add_certificates(all, registry, CertificateFiles { ca: there("ca.crt").into_iter().collect(), client });
    Ok(())
}

fn add_certificates(all: &mut RegistryAccess, host: &RegistryHost, files: CertificateFiles) {
    if files == CertificateFiles::default() {
        return;
    }
    let known = all.host_certificates.entry(host.to_string()).or_default();
    known.ca.extend(files.ca);
    known.client = known.client.take().or(files.client);
}

/// The names in a directory, sorted; none where it can't be listed.
fn names(directory: &Path) -> Vec<String> {
    let listed = ConfinedDir::open(directory).and_then(|directory| directory.read_directory(&RootPath::root()));
    let names = listed.unwrap_or_default().into_iter().filter_map(|name| String::from_utf8(name).ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn read(path: &Path) -> Result<Option<String>, BuildError> {
    let bytes = read_named_file(path, FILE_LIMIT_BYTES).map_err(|error| wrong(path, &error.to_string()))?;
    bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| wrong(path, "it is not UTF-8"))).transpose()
}

fn wrong(path: &Path, reason: &str) -> BuildError {
    BuildError::RegistryFile { path: path.to_path_buf(), reason: reason.to_owned() }
}
