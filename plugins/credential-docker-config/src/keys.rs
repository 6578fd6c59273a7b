//! Which entries of `auths` answer for a request, and in which order.

use cofferdam_plugin_sdk::credentials::Request;

/// Other names of Docker Hub; the first is the host part of the key that `docker login` writes.
const DOCKER_HUB: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

/// The keys that answer for the request: the longest path first, plain hosts before URLs, then by name.
pub fn best_first<'a>(keys: impl Iterator<Item = &'a String>, request: &Request) -> Vec<&'a String> {
    let mut found: Vec<(Rank, &String)> = keys.filter_map(|key| Some((rank(key, request)?, key))).collect();
    found.sort_by(|(a, key), (b, other)| b.cmp(a).then(key.cmp(other)));
    found.into_iter().map(|(_, key)| key).collect()
}

/// How well a key fits: bytes of its path, then whether it is a plain host.
type Rank = (usize, bool);

fn rank(key: &str, request: &Request) -> Option<Rank> {
    let without_scheme = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = match without_scheme.unwrap_or(key).split_once('/') {
        Some((host, path)) => (host, path.trim_end_matches('/')),
        None => (without_scheme.unwrap_or(key), ""),
    };
    if !same_host(&host.to_ascii_lowercase(), &request.host) {
        return None;
    }
    // A URL names the registry, whatever its path (`/v1/`, `/v2/`); only plain keys name repositories (containers-auth.json(5)).
    if without_scheme.is_some() || path.is_empty() || matches!(path, "v1" | "v2") {
        return Some((0, without_scheme.is_none()));
    }
    let repository = request.repository.as_deref()?;
    let beneath = repository.strip_prefix(path)?;
    (beneath.is_empty() || beneath.starts_with('/')).then_some((path.len(), true))
}

fn same_host(host: &str, wanted: &str) -> bool {
    host == wanted || DOCKER_HUB.contains(&host) && DOCKER_HUB.contains(&wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::push_to;

    fn best(keys: &[&str], host: &str, repository: &str) -> Vec<String> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let request = Request { repository: Some(repository.to_owned()), ..push_to(host) };
        best_first(keys.iter(), &request).into_iter().cloned().collect()
    }

    #[test]
    fn the_most_specific_key_comes_first() {
        let keys = ["https://r.example", "r.example", "r.example/a/b", "r.example/a", "r.example/ax", "R.example/v2/"];
        assert_eq!(
            best(&keys, "r.example", "a/b"),
            ["r.example/a/b", "r.example/a", "R.example/v2/", "r.example", "https://r.example"]
        );
    }

    #[test]
    fn only_the_host_itself_answers() {
        let keys = ["r.example:5000", "xr.example", "r.example.evil", "evil/r.example", "https://evil/r.example"];
        assert!(best(&keys, "r.example", "a").is_empty());
        assert_eq!(best(&keys, "r.example:5000", "a"), ["r.example:5000"]);
    }

    #[test]
    fn docker_hub_is_one_registry_with_several_names() {
        let keys = ["https://index.docker.io/v1/", "docker.io", "docker.io/library"];
        assert_eq!(
            best(&keys, "docker.io", "library/x"),
            ["docker.io/library", "docker.io", "https://index.docker.io/v1/"]
        );
        assert!(best(&["index.docker.io.evil"], "docker.io", "x").is_empty());
    }
}
