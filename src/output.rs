//! Text for the person at the terminal, apart from the log: results on standard output, errors on standard error.

use std::io::{ErrorKind, Write as _, stderr, stdout};

/// Prints a result with a line end. A reader that has gone away (`| head`) is not an error.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints what went wrong and, below, why.
pub(crate) fn error(error: &anyhow::Error) {
    note(&format!("error: {error:#}"));
}

/// Prints a remark that is not part of the result.
pub(crate) fn note(text: &str) {
    // with standard error gone there is nobody to tell
    let _ = writeln!(stderr().lock(), "{text}");
}
