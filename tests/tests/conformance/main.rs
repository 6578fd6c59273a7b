//! Builds compared with what other builders made of the same Dockerfiles and contexts. The data is shared beside the project;
//! where it is absent, the tests are skipped and say so.

mod buildah;
mod differential;
mod reference;
#[path = "../../../host/dockerfile/tests/common/table.rs"]
mod table;
