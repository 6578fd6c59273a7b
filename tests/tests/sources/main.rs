//! Builds whose context, or whose files, come from elsewhere: through both doors, from real servers.

mod archives;
mod azure;
mod directory;
mod git;
mod google;
mod named;
mod s3;
mod scene;
mod ssh;
mod urls;
