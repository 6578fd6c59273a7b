//! Packages and compilers in RUN, in each environment: they succeed, and leave what native root leaves.

use std::{fmt::Write, fs, path::PathBuf, process::Command};

use cofferdam_tests::{
    Environment, Image, Lab, Layer, Program, Site, children_seconds, is_short,
    matrix::{self, Column},
    report, repository_root, run,
};

/// What is done, in images of one kind.
struct Case {
    name: &'static str,
    base: &'static str,
    /// Packages of the distribution, which are the case itself where there is no command.
    packages: &'static str,
    /// What is done with them. A directory of the case's name beside this file is the context.
    command: &'static str,
}

const CASES: [Case; 13] = [
    packages("nginx"),
    packages("git"),
    packages("python3-pip"),
    packages("sudo"),
    packages("openssh-server"),
    packages("postgresql"),
    packages("openjdk-17-jre-headless"),
    packages("build-essential"),
    Case {
        name: "cgo",
        base: "golang",
        packages: "gcc libc6-dev",
        command: "cd /context && GOCACHE=/tmp/go go build -trimpath -o /campaign . && /campaign && rm -r /tmp/go",
    },
    Case {
        name: "configure",
        base: "debian",
        packages: "build-essential",
        command: "sed -i 's/^Types: deb$/Types: deb deb-src/; /^deb /{p; s/^deb /deb-src /}' \
                  $(find /etc/apt -name '*.sources' -o -name sources.list -o -path '*list.d/*.list') && apt-get update && \
                  mkdir /tmp/source && cd /tmp/source && apt-get source hello && cd hello-*/ && ./configure && make -j4 && \
                  make install && hello && rm -r /tmp/source",
    },
    Case {
        name: "npm",
        base: "debian",
        packages: "npm",
        command: "mkdir /app && cd /app && cp /context/* . && npm ci --cache /tmp/npm && rm -r /tmp/npm && \
                  node -e 'require(\"express\"); require(\"eslint\")'",
    },
    Case {
        name: "pip",
        base: "debian",
        packages: "python3-pip python3-dev gcc libc6-dev",
        command: "pip install --no-cache-dir --break-system-packages --no-binary markupsafe markupsafe==2.1.5 && \
                  python3 -c 'from markupsafe import _speedups'",
    },
    Case {
        name: "cargo",
        base: "debian",
        packages: "cargo",
        command: "cp -r /context /tmp/crate && cd /tmp/crate && cargo build --release --offline && \
                  cp target/release/campaign / && /campaign && rm -r /tmp/crate",
    },
];

const fn packages(name: &'static str) -> Case {
    Case { name, base: "debian", packages: name, command: "" }
}

/// Beginnings of names of files whose content is another one whoever builds, and why. Kind, owner and mode are the same.
const ALLOWED: [(&str, &str); 13] = [
    ("var/log/", "a log says when things were done"),
    ("var/cache/ldconfig/aux-cache", "has inode numbers and times of libraries"),
    ("var/cache/apt/pkgcache.bin", "has times of the lists of packages"),
    ("var/cache/apt/srcpkgcache.bin", "has times of the lists of packages"),
    ("etc/ssh/ssh_host_", "a key is random"),
    ("etc/ssl/private/ssl-cert-snakeoil.key", "a key is random"),
    ("etc/ssl/certs/ssl-cert-snakeoil.pem", "is made of a random key"),
    ("etc/ssl/certs/java/cacerts", "is salted, and has times"),
    ("var/lib/postgresql/", "a new cluster has an identifier, passwords' salts and times"),
    ("usr/lib/jvm/", "an archive of classes has addresses and times"),
    ("root/.npm/", "has times"),
    ("root/.config/go/telemetry/local/", "Go's counters run until a random day of the week"),
    (
        "usr/local/lib/python3.11/dist-packages/markupsafe/_speedups.",
        "names the random directory in which pip compiled it",
    ),
];

/// A campaign: `scripts/campaign.sh packages`. COFFERDAM_TEST_ENVIRONMENT limits it to one environment, COFFERDAM_CAMPAIGN_CASES
/// to cases with these names, separated by commas; the table of `docs/runners.md` is about all of them.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    if Lab::new().is_none() {
        return;
    }
    let mut environments: Vec<Environment> = match Environment::under_test() {
        Some(environment) => vec![environment],
        None if is_short() => vec![Environment::Restricted],
        None => Environment::ALL.to_vec(),
    };
    environments.retain(|one| *one != Environment::Native);
    let wanted = std::env::var("COFFERDAM_CAMPAIGN_CASES").unwrap_or(if is_short() { "nginx" } else { "" }.to_owned());
    let is_wanted = |case: &&Case| wanted.is_empty() || wanted.split(',').any(|name| name == case.name);
    let cases: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    let work = Site::new();
    let Some(machine) = Machine::prepare(&work, &cases) else { return };
    let mut text = head(&environments);
    let mut allowed: Vec<String> = Vec::new();
    let mut failures = Vec::new();
    for case in cases {
        let Some(reference) = Place::new(case, None) else { return };
        let (native, native_seconds) = reference.build(&machine);
        let native = native.unwrap_or_else(|error| panic!("{}, native root: {error}", case.name));
        write!(text, "| {} | {native_seconds:.1} |", case.name).expect("a string");
        for &environment in &environments {
            let Some(place) = Place::new(case, Some(environment)) else { return };
            let (built, seconds) = place.build(&machine);
            let said = match built.map(|built| differences(&built, &native, &mut allowed)) {
                Ok(differences) if differences.is_empty() => format!("same, {seconds:.1}"),
                Ok(differences) => {
                    failures.push(format!("{}, {}:\n{}", case.name, environment.name(), differences.join("\n")));
                    format!("{} entries differ, {seconds:.1}", differences.len())
                }
                Err(error) => {
                    failures.push(format!("{}, {}: {error}", case.name, environment.name()));
                    "failed".to_owned()
                }
            };
            write!(text, " {said} |").expect("a string");
            println!("{}, {}: {said} (native root {native_seconds:.1})", case.name, environment.name());
        }
        text.push('\n');
    }
    text.push_str("\nOther content than native root's, as two builds by native root have:\n\n");
    allowed.sort();
    allowed.dedup();
    text.extend(allowed.iter().map(|line| format!("- {line}\n")));
    report("packages", &text);
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    if wanted.is_empty() {
        for environment in environments.into_iter().chain([Environment::Native]) {
            matrix::record_same(environment, Column::Packages, &[]);
        }
    }
}

fn head(environments: &[Environment]) -> String {
    let mut head =
        "Whether layers are native root's (names, kinds, modes, owners, sizes, links, attributes, contents), and CPU \
                    seconds of the whole build, the start of the environment included.\n\n| case | native-root |"
            .to_owned();
    for environment in environments {
        write!(head, " {} |", environment.name()).expect("a string");
    }
    head.push_str(&format!("\n| --- |{}\n", " --- |".repeat(environments.len() + 1)));
    head
}

/// What builds take from the machine.
struct Machine {
    /// An image with the packages that the cases install, so that each is fetched once.
    archives: PathBuf,
    /// A directory with certificates, and with the variables that say where indexes of packages are.
    settings: PathBuf,
}

impl Machine {
    fn prepare(work: &Site, cases: &[&Case]) -> Option<Self> {
        let settings = work.path().join("settings");
        fs::create_dir(&settings).expect("writable");
        let _ = fs::copy("/etc/ssl/certs/ca-certificates.crt", settings.join("certificates"));
        let mut variables = String::new();
        for name in ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_CAFILE"] {
            writeln!(variables, "export {name}=/machine/certificates").expect("a string");
        }
        let indexes = [
            ("PIP_INDEX_URL", &["python3", "-m", "pip", "config", "get", "global.index-url"][..]),
            ("NPM_CONFIG_REGISTRY", &["npm", "config", "get", "registry"][..]),
        ];
        for (variable, command) in indexes {
            let said = Command::new(command[0]).args(&command[1..]).output().ok().filter(|done| done.status.success());
            if let Some(said) = said {
                let value = String::from_utf8_lossy(&said.stdout).trim().to_owned();
                writeln!(variables, "export {variable}='{value}'").expect("a string");
            }
        }
        fs::write(settings.join("variables"), variables).expect("writable");
        let archives = work.path().join("archives");
        let all: Vec<&str> = cases.iter().map(|case| case.packages).collect();
        let site = Site::with_base("debian")?;
        site.dockerfile(&format!(
            "FROM base AS fetched
RUN apt-get update && apt-get install -y --no-install-recommends --download-only {} && \\
    mkdir /archives && mv /var/cache/apt/archives/*.deb /archives
FROM scratch
COPY --from=fetched /archives /
",
            all.join(" ")
        ));
        let output = format!("type=oci,dest={},tar=false", archives.display());
        with_proxies(site.program(&["--tag", "image", "--output", &output]).natively()).run().success();
        Some(Self { archives, settings })
    }
}

/// The variables by which the machine reaches the network, if it has any.
fn with_proxies(mut program: Program) -> Program {
    for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        if let Ok(value) = std::env::var(name) {
            program = program.env(name, value);
        }
    }
    program
}

/// One build of a case.
struct Place {
    site: Site,
    environment: Option<Environment>,
}

impl Place {
    fn new(case: &Case, environment: Option<Environment>) -> Option<Self> {
        let site = Site::with_base(case.base)?;
        let mut text = format!(
            "FROM base
RUN --mount=type=bind,from=archives,target=/var/cache/apt/archives,rw apt-get update && \\
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {}
",
            case.packages
        );
        if !case.command.is_empty() {
            let mounts = "--mount=type=bind,from=machine,target=/machine --mount=type=bind,target=/context";
            writeln!(text, "RUN {mounts} . /machine/variables && {}", case.command).expect("a string");
        }
        site.dockerfile(&text);
        let files = repository_root().join("tests/tests/runners/packages").join(case.name);
        if files.is_dir() {
            run(Command::new("cp").args(["-r", "--no-preserve=mode"]).arg(files.join(".")).arg(site.context()))
                .success();
        }
        Some(Self { site, environment })
    }

    /// The image or what was said instead, and how many seconds of processors it took.
    fn build(&self, machine: &Machine) -> (Result<Image, String>, f64) {
        let layout = self.site.path().join("image");
        let contexts = [
            format!("archives=oci-layout://{}", machine.archives.display()),
            format!("machine={}", machine.settings.display()),
        ];
        let output = format!("type=oci,dest={},tar=false", layout.display());
        let [archives, settings] = &contexts;
        let program = self.site.program(&[
            "--tag",
            "image",
            "--output",
            &output,
            "--build-context",
            archives,
            "--build-context",
            settings,
        ]);
        let program = match self.environment {
            Some(environment) => program.within(environment),
            None => program.natively(),
        };
        let begun = children_seconds();
        let built = with_proxies(program).run();
        let seconds = children_seconds() - begun;
        let image = if built.code == 0 { Ok(Image::open(&layout)) } else { Err(end_of(&built.stderr)) };
        (image, seconds)
    }
}

/// The last lines of a log.
fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Where layers differ that have no right to; what has is added to `seen`.
fn differences(built: &Image, native: &Image, seen: &mut Vec<String>) -> Vec<String> {
    if built.layer_count() != native.layer_count() {
        return vec![format!("{} layers, and native root has {}", built.layer_count(), native.layer_count())];
    }
    let mut lines = Vec::new();
    for number in 0..built.layer_count() as isize {
        if built.diff_ids()[number as usize] == native.diff_ids()[number as usize] {
            continue;
        }
        let (here, there): (Layer, Layer) = (built.layer(number), native.layer(number));
        for (name, here, there) in here.differences(&there) {
            let reason = ALLOWED.iter().find(|(beginning, _)| name.starts_with(beginning));
            match (here, there, reason) {
                (Some(here), Some(there), Some((beginning, reason))) if here.is_like(there) => {
                    seen.push(format!("`{beginning}`: {reason}"));
                }
                _ => {
                    let said = |entry: Option<&cofferdam_tests::LayerEntry>| {
                        entry.map_or("nothing".to_owned(), ToString::to_string)
                    };
                    lines.push(format!("{name}: {}, and native root {}", said(here), said(there)));
                }
            }
        }
    }
    lines
}
