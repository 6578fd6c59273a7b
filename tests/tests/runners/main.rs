//! What runners can do beyond what every run of the tests looks at: campaigns that build in each environment, compare with
//! native root, and keep `docs/runners.md` true.

mod cost;
mod packages;
mod suites;
