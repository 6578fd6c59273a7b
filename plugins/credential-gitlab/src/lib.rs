//! Credentials that a GitLab job has anyway ("Predefined CI/CD variables"): for the project's registry and for the
//! dependency proxy, each for exactly the host that GitLab names.

use cofferdam_plugin_sdk::{
    CredentialHelper,
    credentials::{Answer, Basic, Error, Request, Sources, Web, basic},
};

/// The helper.
pub struct GitLab;

cofferdam_plugin_sdk::export_credentials!(crate::GitLab);

/// The user name that goes with a job's token.
const TOKEN_USER: &str = "gitlab-ci-token";

impl CredentialHelper for GitLab {
    fn get(request: &Request, sources: &dyn Sources, _web: &dyn Web) -> Result<Option<Answer>, Error> {
        let is_host = |variable| Ok::<_, Error>(sources.value(variable)?.is_some_and(|it| same(&it, &request.host)));
        let mut found = None;
        if is_host("CI_REGISTRY")? {
            found = sources.pair("CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD")?;
            if found.is_none() {
                let token = sources.value("CI_JOB_TOKEN")?;
                found = token.map(|password| Basic { username: TOKEN_USER.to_owned(), password });
            }
        }
        if found.is_none() && is_host("CI_DEPENDENCY_PROXY_SERVER")? {
            found = sources.pair("CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD")?;
        }
        Ok(found.map(basic))
    }
}

/// Whether two hosts are one server: the port of HTTPS may be left out (GitLab writes it, references don't).
fn same(host: &str, other: &str) -> bool {
    fn bare(host: &str) -> &str {
        host.strip_suffix(":443").unwrap_or(host)
    }
    bare(host).eq_ignore_ascii_case(bare(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::{MemorySources, basic_of};

    const JOB: [(&str, &str); 7] = [
        ("CI_REGISTRY", "registry.gitlab.example"),
        ("CI_REGISTRY_USER", "user"),
        ("CI_REGISTRY_PASSWORD", "password"),
        ("CI_JOB_TOKEN", "token"),
        ("CI_DEPENDENCY_PROXY_SERVER", "gitlab.example:443"),
        ("CI_DEPENDENCY_PROXY_USER", "proxy-user"),
        ("CI_DEPENDENCY_PROXY_PASSWORD", "proxy-password"),
    ];

    fn get(variables: &[(&str, &str)], host: &str) -> Option<String> {
        basic_of::<GitLab>(host, &MemorySources::of(variables))
    }

    #[test]
    fn each_service_has_its_own_credential() {
        assert_eq!(get(&JOB, "registry.gitlab.example").as_deref(), Some("user password"));
        assert_eq!(get(&JOB, "registry.gitlab.example:443").as_deref(), Some("user password"));
        assert_eq!(get(&JOB, "gitlab.example").as_deref(), Some("proxy-user proxy-password"));
    }

    #[test]
    fn without_a_registry_password_the_jobs_token_is_used() {
        let variables = [JOB[0], JOB[1], ("CI_REGISTRY_PASSWORD", ""), JOB[3]];
        assert_eq!(get(&variables, "registry.gitlab.example").as_deref(), Some("gitlab-ci-token token"));
    }

    #[test]
    fn one_host_for_both_prefers_the_registrys() {
        let variables = [("CI_REGISTRY", "gitlab.example:443"), JOB[1], JOB[2], JOB[4], JOB[5], JOB[6]];
        assert_eq!(get(&variables, "gitlab.example").as_deref(), Some("user password"));
    }

    #[test]
    fn no_other_host_gets_anything() {
        for host in [
            "registry.gitlab.example.evil.example",
            "evil-registry.gitlab.example",
            "x.registry.gitlab.example",
            "registry.gitlab.example:5050",
            "example",
            "docker.io",
        ] {
            assert_eq!(get(&JOB, host), None, "{host}");
        }
        let empty = [("CI_REGISTRY", ""), JOB[1], JOB[2], JOB[3]];
        assert_eq!(get(&empty, "docker.io"), None);
    }
}
