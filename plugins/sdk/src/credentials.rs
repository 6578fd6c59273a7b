//! Credential helpers.

use std::marker::PhantomData;

pub use crate::bindings::credentials::{
    cofferdam::credentials::sources::Error as SourceError,
    exports::cofferdam::credentials::helper::{Answer, Basic, Credential, Request},
};
use crate::{
    bindings::credentials::{
        cofferdam::credentials::{sources, web},
        exports::cofferdam::credentials::helper::Guest,
    },
    diagnostics,
};
pub use crate::{bindings::instruction::cofferdam::types::diagnostics::Error, web::Web};

/// The granted files and variables; absent ones answer none.
pub trait Sources {
    /// A file by the name in its capability `file:NAME`.
    ///
    /// # Errors
    /// It was not granted, is too large, or can't be read.
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, SourceError>;
    /// A variable by the name in its capability `env:NAME`.
    ///
    /// # Errors
    /// It was not granted.
    fn variable(&self, name: &str) -> Result<Option<String>, SourceError>;

    /// A variable that has something in it: pipelines set what they don't have to nothing.
    ///
    /// # Errors
    /// As [`Sources::variable`].
    fn value(&self, name: &str) -> Result<Option<String>, SourceError> {
        Ok(self.variable(name)?.filter(|value| !value.is_empty()))
    }

    /// A file that is text, without white space around it: a token.
    ///
    /// # Errors
    /// As [`Sources::file`].
    fn text(&self, name: &str) -> Result<Option<String>, SourceError> {
        let text = self.file(name)?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// A user name and a password, if two variables have them.
    ///
    /// # Errors
    /// As [`Sources::variable`].
    fn pair(&self, username: &str, password: &str) -> Result<Option<Basic>, SourceError> {
        let Some(username) = self.value(username)? else { return Ok(None) };
        Ok(self.value(password)?.map(|password| Basic { username, password }))
    }
}

/// A user name and a password that hold for the whole build.
pub fn basic(basic: Basic) -> Answer {
    Answer { credential: Credential::Basic(basic), expires_at: None }
}

/// Answers for registry hosts.
pub trait CredentialHelper: 'static {
    /// The credential for a request, or none if this helper has none.
    ///
    /// # Errors
    /// A source can't be read or understood. A message must never quote a source's content.
    fn get(request: &Request, sources: &dyn Sources, web: &dyn Web) -> Result<Option<Answer>, Error>;
}

/// Exports a type that implements [`CredentialHelper`] as this component's helper.
#[macro_export]
macro_rules! export_credentials {
    ($helper:ty) => {
        #[cfg(target_arch = "wasm32")]
        mod exported {
            type Exported = $crate::credentials::Adapter<$helper>;
            $crate::bindings::credentials::export_helper!(Exported with_types_in $crate::bindings::credentials);
        }
    };
}

/// Puts a [`CredentialHelper`] behind the generated trait; [`export_credentials!`] uses it.
pub struct Adapter<T>(PhantomData<T>);

impl<T: CredentialHelper> Guest for Adapter<T> {
    fn get(request: Request, sources: &sources::Sources, web: &web::Web) -> Result<Option<Answer>, Error> {
        T::get(&request, sources, web)
    }
}

impl Sources for sources::Sources {
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, SourceError> {
        sources::Sources::file(self, name)
    }

    fn variable(&self, name: &str) -> Result<Option<String>, SourceError> {
        sources::Sources::variable(self, name)
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Denied(denial) => Self::Denied(denial),
            SourceError::TooLarge(limit) => Self::Invalid(diagnostics::error(
                "SourceTooLarge",
                format!("the source of credentials is larger than {limit} bytes"),
            )),
            SourceError::Storage(message) => Self::Invalid(diagnostics::error("SourceUnreadable", message)),
        }
    }
}
