//! What a test returns: `?` on any error ends it by a panic at that very line, as a failed `assert!` would.
//!
//! A returned error would name no line, and what is dropped on the way out could not see that the test has failed
//! (programs print their logs then).

pub type TestResult = Result<(), Failed>;

/// An error that `?` met in a test. Never made: the conversion panics.
#[derive(Debug)]
pub enum Failed {}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    #[track_caller]
    fn from(error: E) -> Self {
        panic!("{:?}", error.into())
    }
}
