//! The one place that reads the environment. Everything else is handed what it needs.
#![allow(clippy::disallowed_methods, reason = "this module owns the access to the environment")]

use std::{collections::BTreeMap, ffi::OsString, io::Read, path::PathBuf};

use cofferdam_engine::{Basic, CloudAccess, Secret};
use cofferdam_image::{StoreError, StoreLocation};

/// The environment at the start of the program.
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

/// The variables by which the clouds' own libraries find credentials, regions and the servers that give them.
const CLOUDS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TENANT_ID",
    "GCE_METADATA_HOST",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

impl Environment {
    /// Reads it once.
    pub fn read() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// A variable, if it is set and UTF-8.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(&OsString::from(name))?.to_str().map(str::to_owned)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.variables.get(&OsString::from(name)).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn location(&self, chosen: Option<PathBuf>) -> StoreLocation {
        let uid = rustix::process::getuid().as_raw();
        let variable = |name: &str| self.variables.get(&OsString::from(name)).cloned();
        StoreLocation::find(chosen.as_deref(), variable, uid, StoreLocation::can_be_made)
    }

    /// The store, as chosen or as the user's habits say; absolute.
    ///
    /// # Errors
    /// It lies in a place that somebody else prepared.
    pub fn store(&self, chosen: Option<PathBuf>) -> Result<PathBuf, StoreError> {
        let location = self.location(chosen);
        location.check()?;
        Ok(self.working_directory().join(location.path))
    }

    /// Where temporary directories are made.
    pub fn scratch(&self) -> Option<PathBuf> {
        self.path("TMPDIR").or_else(|| Some(PathBuf::from("/tmp")))
    }

    /// What relative paths are relative to.
    pub fn working_directory(&self) -> PathBuf {
        // Without one (it was removed), every relative path fails by its own name.
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }

    /// Where programs are looked for.
    pub fn program_directories(&self) -> Vec<PathBuf> {
        let path = self.variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
        path.split(':').map(PathBuf::from).filter(|directory| directory.is_absolute()).collect()
    }

    /// Files with credentials in Docker's form, in the order in which they count: Docker's configuration (`DOCKER_CONFIG` names
    /// its directory), then podman's (containers-auth.json(5)).
    pub fn docker_configs(&self) -> Vec<PathBuf> {
        let docker = self.path("DOCKER_CONFIG").or_else(|| self.path("HOME").map(|home| home.join(".docker")));
        let podman = self.path("REGISTRY_AUTH_FILE").or_else(|| {
            let runtime = self.path("XDG_RUNTIME_DIR")?;
            Some(runtime.join("containers/auth.json"))
        });
        docker.map(|directory| directory.join("config.json")).into_iter().chain(podman).collect()
    }

    /// Where a registries.conf may be (containers-registries.conf(5), "FILES"): the user's, then the system's.
    pub fn registries_conf(&self) -> Vec<PathBuf> {
        let user = self.path("XDG_CONFIG_HOME").or_else(|| self.path("HOME").map(|home| home.join(".config")));
        let user = user.map(|directory| directory.join("containers/registries.conf"));
        user.into_iter().chain([PathBuf::from("/etc/containers/registries.conf")]).collect()
    }

    /// The text of a file as [`Environment::docker_configs`] names them: what GitLab's variables hold.
    pub fn docker_auth_config(&self) -> Option<Secret> {
        self.variable("DOCKER_AUTH_CONFIG").filter(|text| !text.trim().is_empty()).map(Secret::new)
    }

    /// For the server of a git context: `GIT_TOKEN`, which stands in the user's place, else `GIT_USERNAME`, each with
    /// `GIT_PASSWORD` (Kaniko's variables).
    pub fn git_credential(&self) -> Option<Basic> {
        let set = |name| self.variable(name).filter(|value| !value.is_empty());
        let (username, password) = (set("GIT_TOKEN").or_else(|| set("GIT_USERNAME")), set("GIT_PASSWORD"));
        (username.is_some() || password.is_some())
            .then(|| Basic { username: username.unwrap_or_default(), password: password.unwrap_or_default() })
    }

    /// The user's own SSH agent.
    pub fn ssh_auth_socket(&self) -> Option<PathBuf> {
        self.path("SSH_AUTH_SOCK")
    }

    /// The files of SSH_KNOWN_HOSTS, with colons between them; else the user's own, then the machine's.
    pub fn known_hosts(&self) -> Vec<PathBuf> {
        match self.path("SSH_KNOWN_HOSTS") {
            Some(files) => std::env::split_paths(&files).filter(|file| !file.as_os_str().is_empty()).collect(),
            None => {
                let own = self.path("HOME").map(|home| home.join(".ssh/known_hosts"));
                own.into_iter().chain(["/etc/ssh/ssh_known_hosts".into()]).collect()
            }
        }
    }

    /// What `git://` contexts of the Kaniko door are fetched over, where that is not `https`.
    pub fn git_pull_method(&self) -> Option<String> {
        self.variable("GIT_PULL_METHOD").filter(|method| !method.is_empty())
    }

    /// The variables that credential helpers may be granted. A closed list, so that no other secret of the environment can
    /// ever be asked for by name.
    pub fn credential_variables(&self) -> BTreeMap<String, Secret> {
        const NAMES: &[&str] = &[
            "AWS_ENDPOINT_URL_ECR",
            "AWS_ENDPOINT_URL_ECR_PUBLIC",
            "AZURE_FEDERATED_TOKEN",
            "CI_DEPENDENCY_PROXY_PASSWORD",
            "CI_DEPENDENCY_PROXY_SERVER",
            "CI_DEPENDENCY_PROXY_USER",
            "CI_JOB_TOKEN",
            "CI_REGISTRY",
            "CI_REGISTRY_PASSWORD",
            "CI_REGISTRY_USER",
            "GITHUB_ACTOR",
            "GITHUB_TOKEN",
        ];
        let of_a_registry = |name: &&str| {
            name.strip_prefix("KANIKO_").is_some_and(|rest| rest.ends_with("_USER") || rest.ends_with("_PASSWORD"))
        };
        let registries = self.variables.keys().filter_map(|name| name.to_str()).filter(of_a_registry);
        let names = CLOUDS.iter().chain(NAMES).copied().chain(registries);
        names.filter_map(|name| Some((name.to_owned(), Secret::new(self.variable(name)?)))).collect()
    }

    /// The files that credential helpers may be granted, by the names that capabilities give them: where the clouds' own
    /// libraries look for them. They need not exist.
    pub fn credential_files(&self) -> BTreeMap<String, PathBuf> {
        let home = |path: &str| self.path("HOME").map(|home| home.join(path));
        let gcloud = self.path("CLOUDSDK_CONFIG").or_else(|| home(".config/gcloud"));
        let google = || gcloud.map(|directory| directory.join("application_default_credentials.json"));
        let files = [
            ("aws-config", self.path("AWS_CONFIG_FILE").or_else(|| home(".aws/config"))),
            ("aws-container-token", self.path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")),
            ("aws-credentials", self.path("AWS_SHARED_CREDENTIALS_FILE").or_else(|| home(".aws/credentials"))),
            ("aws-web-identity-token", self.path("AWS_WEB_IDENTITY_TOKEN_FILE")),
            ("azure-federated-token", self.path("AZURE_FEDERATED_TOKEN_FILE")),
            ("google-credentials", self.path("GOOGLE_APPLICATION_CREDENTIALS").or_else(google)),
        ];
        files.into_iter().filter_map(|(name, path)| Some((name.to_owned(), path?))).collect()
    }

    /// Who may ask the stores of clouds for a context: the variables of the clouds' own libraries and of Kaniko, a closed list.
    pub fn cloud_access(&self) -> CloudAccess {
        const NAMES: &[&str] = &[
            "AWS_ENDPOINT_URL_S3",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "IDENTITY_ENDPOINT",
            "S3_ENDPOINT",
            "S3_FORCE_PATH_STYLE",
            "STORAGE_EMULATOR_HOST",
        ];
        let names = CLOUDS.iter().chain(NAMES);
        let variables = names.filter_map(|name| Some(((*name).to_owned(), self.variable(name)?)));
        let mut files = self.credential_files();
        CloudAccess {
            variables: variables.collect(),
            aws_files: ["aws-credentials", "aws-config"].into_iter().filter_map(|name| files.remove(name)).collect(),
            google_file: files.remove("google-credentials"),
        }
    }

    /// Where builders that run for Google Cloud Build say what they made: the file `images` in this directory.
    pub fn builder_output(&self) -> Option<PathBuf> {
        self.path("BUILDER_OUTPUT").map(|directory| directory.join("images"))
    }

    /// The variables of continuous integration systems that name refs, commits, events and projects: facts for tagging
    /// policies. Never a credential: a closed list, not a pattern.
    pub fn ci_variables(&self) -> BTreeMap<String, String> {
        const NAMES: &[&str] = &[
            "BRANCH_NAME",
            "BUILD_NUMBER",
            "BUILD_TAG",
            "CHANGE_ID",
            "CHANGE_TARGET",
            "CI",
            "CI_COMMIT_BRANCH",
            "CI_COMMIT_REF_NAME",
            "CI_COMMIT_REF_SLUG",
            "CI_COMMIT_SHA",
            "CI_COMMIT_SHORT_SHA",
            "CI_COMMIT_TAG",
            "CI_COMMIT_TIMESTAMP",
            "CI_DEFAULT_BRANCH",
            "CI_MERGE_REQUEST_IID",
            "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
            "CI_PIPELINE_SOURCE",
            "CI_PROJECT_DESCRIPTION",
            "CI_PROJECT_NAME",
            "CI_PROJECT_PATH",
            "CI_PROJECT_TITLE",
            "CI_PROJECT_URL",
            "CI_REGISTRY_IMAGE",
            "GITHUB_BASE_REF",
            "GITHUB_EVENT_NAME",
            "GITHUB_HEAD_REF",
            "GITHUB_REF",
            "GITHUB_REF_NAME",
            "GITHUB_REF_TYPE",
            "GITHUB_REPOSITORY",
            "GITHUB_RUN_ID",
            "GITHUB_SERVER_URL",
            "GITHUB_SHA",
            "GITLAB_CI",
            "GITHUB_ACTIONS",
            "GIT_BRANCH",
            "GIT_COMMIT",
            "JENKINS_URL",
            "JOB_NAME",
            "TAG_NAME",
        ];
        let variables = NAMES.iter().filter_map(|name| self.variable(name).map(|value| (name.to_string(), value)));
        variables.chain(self.github_event()).collect()
    }

    /// What GitHub says in the file of the event alone (workflow syntax, "github context"), under the names that it has there
    /// after `github.`. What can't be read is left out: a fact less.
    fn github_event(&self) -> Vec<(String, String)> {
        const POINTERS: &[&str] = &[
            "/repository/default_branch",
            "/repository/description",
            "/repository/html_url",
            "/repository/license/spdx_id",
            "/repository/name",
        ];
        const LIMIT_BYTES: u64 = 16 << 20;
        let event = self.path("GITHUB_EVENT_PATH").and_then(|path| {
            #[allow(clippy::disallowed_types, reason = "a file that the environment names, read once")]
            let file = std::fs::File::open(path).ok()?;
            let mut bytes = Vec::new();
            file.take(LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
            serde_json::from_slice::<serde_json::Value>(&bytes).ok()
        });
        let found = event.iter().flat_map(|event| {
            POINTERS.iter().filter_map(|pointer| {
                let text = event.pointer(pointer)?.as_str()?.to_owned();
                Some((format!("event{}", pointer.replace('/', ".")), text))
            })
        });
        found.collect()
    }
}
