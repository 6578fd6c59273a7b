//! `--mount` (Dockerfile reference, "RUN --mount"; what that leaves open is as BuildKit does it).

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt,
    diagnostics::{error, listed},
    fields,
    flags::Flags,
    fs::{Bind, Cache, CacheMount, MemoryMount, Mount, Owner, Path, ROOT, Secret, Sharing, SshAgent, TreePart},
    instruction::{Read, Step, TreeRead, TreeSource},
    paths,
};

/// The mounts of one step, and what is read for them.
#[derive(Default)]
pub struct Mounts {
    /// One for each part of a tree.
    pub reads: Vec<Read>,
    /// In the order of the text, those above before those beneath.
    pub mounts: Vec<Mount>,
}

impl Mounts {
    /// Reads the flags; findings go to them.
    pub fn read(step: &Step, flags: &mut Flags) -> Self {
        let mut mounts = Self::default();
        for flag in step.flags.iter().filter(|flag| flag.name == "mount") {
            let read = match &flag.value {
                Some(value) => mounts.add(value, &step.state.working_directory),
                None => Err(invalid("`--mount` needs a value".to_owned()).help("write `--mount=type=…,target=…`")),
            };
            if let Err(finding) = read {
                flags.push(finding.at(flag.span));
            }
        }
        // A mount would hide what was mounted beneath its target before.
        mounts.mounts.sort_by_key(|mount| depth(target_of(mount)));
        mounts
    }

    fn add(&mut self, text: &str, working_directory: &str) -> Result<(), Diagnostic> {
        let options = Options::parse(text)?;
        let target = options.target.as_ref().map(|target| paths::resolve(working_directory.as_bytes(), target));
        let mount = match options.kind {
            Kind::Bind => {
                let source = options.from.clone().map_or(TreeSource::Context, TreeSource::Named);
                let part = self.part(source, options.source.as_deref());
                let target = directory_target(target, working_directory)?;
                Mount::Bind(Bind { target, part, writable: options.read_only == Some(false) })
            }
            Kind::Cache => {
                let target = directory_target(target, working_directory)?;
                let written = options.target.clone().unwrap_or_default();
                let id = options.id.clone().unwrap_or_else(|| cache_id(&written));
                let base =
                    options.from.clone().map(|from| self.part(TreeSource::Named(from), options.source.as_deref()));
                let owner = options.owner();
                let sharing = options.sharing.unwrap_or(Sharing::Shared);
                let read_only = options.read_only == Some(true);
                Mount::Cache(CacheMount {
                    target,
                    cache: Cache { id, sharing, base, owner, mode: options.mode, read_only },
                })
            }
            Kind::Memory => {
                Mount::Memory(MemoryMount { target: directory_target(target, working_directory)?, size: options.size })
            }
            Kind::Secret => secret(&options, target)?,
            Kind::Ssh => Mount::Ssh(SshAgent {
                id: options.id.clone().unwrap_or_else(|| "default".to_owned()),
                required: options.required,
                target: target.unwrap_or_else(|| self.agent_target()),
                owner: options.owner().unwrap_or(ROOT),
                mode: options.mode.unwrap_or(0o600),
            }),
        };
        self.mounts.push(mount);
        Ok(())
    }

    /// Declares a part of a tree.
    fn part(&mut self, source: TreeSource, written: Option<&[u8]>) -> TreePart {
        let path = paths::clean(written.unwrap_or(b"/"));
        let tree = u32::try_from(self.reads.len()).unwrap_or(u32::MAX);
        let patterns = vec![paths::escape_wildcards(&path)];
        self.reads.push(Read::Tree(TreeRead { source, patterns, exclude: Vec::new() }));
        TreePart { tree, source: path }
    }

    /// As BuildKit names them.
    fn agent_target(&self) -> Path {
        let agents = self.mounts.iter().filter(|mount| matches!(mount, Mount::Ssh(_))).count();
        format!("/run/buildkit/ssh_agent.{agents}").into_bytes()
    }
}

fn secret(options: &Options, target: Option<Path>) -> Result<Mount, Diagnostic> {
    let name_of = |path: &[u8]| String::from_utf8_lossy(paths::base_name(path)).into_owned();
    let source = options.source.as_deref().map(|source| String::from_utf8_lossy(source).into_owned());
    let id = match (source, &options.id, &options.target) {
        (Some(_), Some(_), _) => return Err(invalid("a secret has `id` or `source`, not both".to_owned())),
        (Some(source), None, _) => source,
        (None, Some(id), _) => id.clone(),
        (None, None, Some(target)) => name_of(target),
        (None, None, None) => {
            let finding = invalid("a secret needs an `id`, or a `target` whose name is its id".to_owned());
            return Err(finding.help("write `--mount=type=secret,id=NAME`"));
        }
    };
    let standard = || paths::join(b"/run/secrets", name_of(id.as_bytes()).as_bytes());
    let target = if options.environment.is_some() { target } else { Some(target.unwrap_or_else(standard)) };
    Ok(Mount::Secret(Secret {
        required: options.required,
        target,
        environment: options.environment.clone(),
        owner: options.owner().unwrap_or(ROOT),
        mode: options.mode.unwrap_or(0o400),
        id,
    }))
}

/// Without a target it is the working directory, as BuildKit has it; the root itself can't be covered.
fn directory_target(target: Option<Path>, working_directory: &str) -> Result<Path, Diagnostic> {
    match target.unwrap_or_else(|| paths::clean(working_directory.as_bytes())) {
        root if root == b"/" => {
            let finding = invalid("the target of a mount can't be `/`".to_owned());
            Err(finding.help("give it a `target` beneath the root"))
        }
        target => Ok(target),
    }
}

/// A cache without an id has its target's, as it was written but cleaned.
fn cache_id(target: &[u8]) -> String {
    let cleaned = paths::clean(target);
    let relative = !target.starts_with(b"/");
    String::from_utf8_lossy(if relative { &cleaned[1..] } else { &cleaned }).into_owned()
}

fn target_of(mount: &Mount) -> &[u8] {
    match mount {
        Mount::Bind(bind) => &bind.target,
        Mount::Cache(cache) => &cache.target,
        Mount::Memory(memory) => &memory.target,
        Mount::File(file) => &file.target,
        Mount::Secret(secret) => secret.target.as_deref().unwrap_or_default(),
        Mount::Ssh(agent) => &agent.target,
    }
}

fn depth(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bind,
    Cache,
    Memory,
    Secret,
    Ssh,
}

impl Kind {
    const NAMES: [(&str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Memory),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// The fields, as they were written.
struct Options {
    kind: Kind,
    from: Option<String>,
    source: Option<Path>,
    target: Option<Path>,
    read_only: Option<bool>,
    id: Option<String>,
    sharing: Option<Sharing>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
    size: Option<u64>,
    required: bool,
    environment: Option<String>,
}

impl Options {
    fn parse(text: &str) -> Result<Self, Diagnostic> {
        let fields = fields::split(text).ok_or_else(|| invalid(format!("`{text}` is no list of fields")))?;
        let mut options = Self {
            kind: Kind::Bind,
            from: None,
            source: None,
            target: None,
            read_only: None,
            id: None,
            sharing: None,
            uid: None,
            gid: None,
            mode: None,
            size: None,
            required: false,
            environment: None,
        };
        // What the others may be depends on the kind, wherever it stands.
        for field in &fields {
            if let Some((key, value)) = field.split_once('=')
                && key.eq_ignore_ascii_case("type")
            {
                options.kind = kind(value)?;
            }
        }
        for field in &fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field.as_str(), None),
            };
            options.field(&key.to_ascii_lowercase(), value)?;
        }
        Ok(options)
    }

    fn field(&mut self, key: &str, value: Option<&str>) -> Result<(), Diagnostic> {
        let kind = self.kind;
        let of = |kinds: &[Kind]| match kinds.contains(&kind) {
            true => Ok(()),
            false => Err(invalid(format!("a mount of type `{}` has no `{key}`", kind.name()))),
        };
        let needed = || {
            let finding = invalid(format!("`{key}` of a mount needs a value"));
            value.filter(|value| !value.is_empty()).ok_or_else(|| finding.help(format!("write `{key}=VALUE`")))
        };
        let flag = || value.map_or(Ok(true), |value| boolean(key, value));
        let number = |radix| {
            let value = needed()?;
            u32::from_str_radix(value, radix)
                .map_err(|_| invalid(format!("`{key}` of a mount is a number, not `{value}`")))
        };
        match key {
            "type" => needed().map(|_| ())?,
            "from" => {
                of(&[Kind::Bind, Kind::Cache])?;
                self.from = Some(needed()?.to_owned());
            }
            "source" | "src" => {
                of(&[Kind::Bind, Kind::Cache, Kind::Secret])?;
                self.source = Some(needed()?.as_bytes().to_vec());
            }
            "target" | "dst" | "destination" => self.target = Some(needed()?.as_bytes().to_vec()),
            "readonly" | "ro" => {
                of(&[Kind::Bind, Kind::Cache])?;
                self.read_only = Some(flag()?);
            }
            "readwrite" | "rw" => {
                of(&[Kind::Bind, Kind::Cache])?;
                self.read_only = Some(!flag()?);
            }
            "required" => {
                of(&[Kind::Secret, Kind::Ssh])?;
                self.required = flag()?;
            }
            "id" => {
                of(&[Kind::Cache, Kind::Secret, Kind::Ssh])?;
                self.id = Some(needed()?.to_owned());
            }
            "sharing" => {
                of(&[Kind::Cache])?;
                self.sharing = Some(sharing(needed()?)?);
            }
            "size" => {
                of(&[Kind::Memory])?;
                let value = needed()?;
                self.size = Some(bytes(value).ok_or_else(|| {
                    invalid(format!("`size` of a mount is a number of bytes, not `{value}`"))
                        .help("write `64m` or `1g`")
                })?);
            }
            "mode" | "uid" | "gid" => {
                of(&[Kind::Cache, Kind::Secret, Kind::Ssh])?;
                match key {
                    "mode" => self.mode = Some(number(8)? & 0o7777),
                    "uid" => self.uid = Some(number(10)?),
                    _ => self.gid = Some(number(10)?),
                }
            }
            "env" => {
                of(&[Kind::Secret])?;
                self.environment = Some(needed()?.to_owned());
            }
            _ => {
                let finding = error("UnknownMountOption", format!("a mount has no option `{key}`"));
                return Err(finding.help(format!("a mount of type `{}` takes {}", kind.name(), listed(known(kind)))));
            }
        }
        Ok(())
    }

    fn owner(&self) -> Option<Owner> {
        let (uid, gid) = (self.uid, self.gid);
        (uid.is_some() || gid.is_some()).then(|| Owner { uid: uid.unwrap_or(0), gid: gid.unwrap_or(0) })
    }
}

fn known(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Bind => &["from", "source", "target", "readonly", "readwrite"],
        Kind::Cache => &["id", "target", "from", "source", "sharing", "readonly", "uid", "gid", "mode"],
        Kind::Memory => &["target", "size"],
        Kind::Secret => &["id", "target", "env", "required", "uid", "gid", "mode"],
        Kind::Ssh => &["id", "target", "required", "uid", "gid", "mode"],
    }
}

fn kind(text: &str) -> Result<Kind, Diagnostic> {
    let found = Kind::NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, kind)| kind).ok_or_else(|| {
        let names: Vec<&str> = Kind::NAMES.iter().map(|(name, _)| *name).collect();
        invalid(format!("`{text}` is no type of mount")).help(format!("there are {}", listed(&names)))
    })
}

fn sharing(text: &str) -> Result<Sharing, Diagnostic> {
    match text.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "locked" => Ok(Sharing::Locked),
        "private" => Ok(Sharing::Private),
        _ => Err(invalid(format!("`sharing` is `shared`, `locked` or `private`, not `{text}`"))),
    }
}

/// As Go's `strconv.ParseBool` reads it.
fn boolean(key: &str, text: &str) -> Result<bool, Diagnostic> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(invalid(format!("`{key}` of a mount is `true` or `false`, not `{text}`"))),
    }
}

/// A number of bytes, of KiB, MiB, GiB, TiB or PiB with the letter, a fraction too; as Docker's tools read sizes.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|character: char| character.is_ascii_alphabetic() || character == ' ');
    let unit = lower[digits.len()..].trim();
    let letter = unit.strip_suffix('b').unwrap_or(unit);
    let shift = match letter.strip_suffix('i').unwrap_or(letter) {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if !digits.starts_with(|character: char| character.is_ascii_digit()) {
        return None;
    }
    match digits.parse::<u64>() {
        Ok(whole) => whole.checked_mul(1 << shift),
        Err(_) => {
            let (whole, fraction) = digits.split_once('.')?;
            let all = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let is_number = all(whole) && all(fraction) && whole.len() < 12;
            is_number.then(|| digits.parse::<f64>().ok().map(|size| (size * (1_u64 << shift) as f64) as u64))?
        }
    }
}

fn invalid(message: String) -> Diagnostic {
    error("InvalidMount", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::step;

    fn read(values: &[&str]) -> (Mounts, Vec<String>) {
        let step = values.iter().fold(step("RUN", "x"), |step, value| step.flag("mount", Some(value)));
        let step = step.state(|state| state.working_directory = "/work".into()).build();
        let mut flags = Flags::of(&step, &["mount"]);
        let mounts = Mounts::read(&step, &mut flags);
        (mounts, flags.finish().into_iter().map(|finding| finding.message).collect())
    }

    fn one(value: &str) -> (Mount, Vec<Read>) {
        let (mounts, findings) = read(&[value]);
        assert_eq!(findings, [""; 0], "{value}");
        (mounts.mounts.into_iter().next().unwrap(), mounts.reads)
    }

    #[test]
    fn a_bind_declares_what_it_reads() {
        let (mount, reads) = one("target=/src,source=a*b");
        let part = TreePart { tree: 0, source: b"/a*b".to_vec() };
        assert_eq!(mount, Mount::Bind(Bind { target: b"/src".to_vec(), part, writable: false }));
        let patterns = vec![b"/a\\*b".to_vec()];
        assert_eq!(reads, [Read::Tree(TreeRead { source: TreeSource::Context, patterns, exclude: vec![] })]);

        let (mount, reads) = one("type=bind,from=tools,dst=bin,rw");
        let part = TreePart { tree: 0, source: b"/".to_vec() };
        assert_eq!(mount, Mount::Bind(Bind { target: b"/work/bin".to_vec(), part, writable: true }));
        assert!(matches!(&reads[0], Read::Tree(read) if read.source == TreeSource::Named("tools".into())));
    }

    #[test]
    fn a_cache_has_an_id_an_owner_and_a_base() {
        let (mount, reads) = one("type=cache,target=/root/.cache/");
        let Mount::Cache(CacheMount { cache, .. }) = mount else { panic!("a cache") };
        assert_eq!((cache.id.as_str(), cache.sharing, cache.owner), ("/root/.cache", Sharing::Shared, None));
        assert!(reads.is_empty());
        let text = "type=cache,id=x,target=/c,sharing=locked,uid=7,mode=0750,from=a,source=/b,ro";
        let Mount::Cache(CacheMount { cache, .. }) = one(text).0 else { panic!("a cache") };
        assert_eq!((cache.owner, cache.mode), (Some(Owner { uid: 7, gid: 0 }), Some(0o750)));
        assert_eq!((cache.sharing, cache.read_only), (Sharing::Locked, true));
        assert_eq!(cache.base, Some(TreePart { tree: 0, source: b"/b".to_vec() }));
    }

    #[test]
    fn a_secret_is_a_file_or_a_variable_or_both() {
        let secret = |text: &str| match one(text).0 {
            Mount::Secret(secret) => {
                (secret.id, secret.target.map(|it| String::from_utf8(it).unwrap()), secret.environment)
            }
            _ => panic!("a secret"),
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(secret("type=secret,id=token"), ("token".into(), text("/run/secrets/token"), None));
        assert_eq!(secret("type=secret,target=/etc/key"), ("key".into(), text("/etc/key"), None));
        assert_eq!(secret("type=secret,src=a"), ("a".into(), text("/run/secrets/a"), None));
        assert_eq!(secret("type=secret,id=a,env=A"), ("a".into(), None, text("A")));
        assert_eq!(secret("type=secret,id=a,env=A,target=/a"), ("a".into(), text("/a"), text("A")));
    }

    #[test]
    fn those_above_come_first() {
        let (mounts, findings) =
            read(&["type=tmpfs,target=/a/b", "type=tmpfs,target=/a,size=1.5k", "type=ssh", "type=ssh"]);
        assert!(findings.is_empty());
        let targets: Vec<&[u8]> = mounts.mounts.iter().map(target_of).collect();
        let agents = [b"/run/buildkit/ssh_agent.0".as_slice(), b"/run/buildkit/ssh_agent.1"];
        assert_eq!(targets, [b"/a".as_slice(), b"/a/b", agents[0], agents[1]]);
        assert!(matches!(&mounts.mounts[0], Mount::Memory(memory) if memory.size == Some(1536)));
    }

    #[test]
    fn what_a_kind_has_not_is_refused() {
        for text in [
            "type=volume,target=/x",
            "target=/",
            "target=/x,sharing=shared",
            "target=/x,mode=644",
            "type=tmpfs,target=/x,size=lots",
            "type=tmpfs,target=/x,size=-1",
            "type=cache,target=/x,sharing=some",
            "type=cache,target=/x,uid=me",
            "type=cache,target=/x,required",
            "type=secret",
            "type=secret,id=a,source=b",
            "type=secret,id=a,from=b",
            "type=ssh,source=a",
            "target=/x,readonly=maybe",
            "target=/x,colour=red",
            "target=/x,source",
            "\"target=/x",
        ] {
            assert_eq!(read(&[text]).1.len(), 1, "{text}");
        }
    }
}
