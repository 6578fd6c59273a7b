//! Scanners of finished images.

use std::marker::PhantomData;

pub use crate::bindings::{
    instruction::cofferdam::types::diagnostics::Error,
    sbom::exports::cofferdam::sbom::scanner::{Document, Report, Subject},
};
use crate::{
    bindings::{instruction::cofferdam::fs::trees, sbom::exports::cofferdam::sbom::scanner::Guest},
    fs::Tree,
};

/// Says what an image is made of.
pub trait Scanner: 'static {
    /// Looks at the whole file system of an image. The same image and options give the same documents.
    ///
    /// # Errors
    /// An option can't be understood, or the tree can't be read. What is wrong in the image itself is a warning of the report.
    fn scan(subject: &Subject, rootfs: &dyn Tree) -> Result<Report, Error>;
}

/// Exports a type that implements [`Scanner`] as this component's scanner.
#[macro_export]
macro_rules! export_scanner {
    ($scanner:ty) => {
        #[cfg(target_arch = "wasm32")]
        mod exported {
            type Exported = $crate::sbom::Adapter<$scanner>;
            $crate::bindings::sbom::export_scanner!(Exported with_types_in $crate::bindings::sbom);
        }
    };
}

/// Puts a [`Scanner`] behind the generated trait; [`export_scanner!`] uses it.
pub struct Adapter<T>(PhantomData<T>);

impl<T: Scanner> Guest for Adapter<T> {
    fn scan(subject: Subject, rootfs: &trees::Tree) -> Result<Report, Error> {
        T::scan(&subject, rootfs)
    }
}
