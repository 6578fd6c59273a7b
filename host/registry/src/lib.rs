//! Registry client: references, authentication, blobs, manifests, mounts, retries
