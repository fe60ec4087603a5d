//! The cryptography of TLS: chooses the provider among those that this build has. The only place that names them; none
//! is ever made the default of the process, which belongs to the program.

use rustls::crypto::CryptoProvider;

/// No provider of this build works on this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoProvider;

/// The first provider of this build that works on this processor: graviola, aws-lc-rs, ring.
///
/// # Errors
/// [`NoProvider`]: graviola alone is there, and the processor lacks what it needs.
#[allow(unreachable_code, reason = "each build has its own providers")]
pub fn provider() -> Result<CryptoProvider, NoProvider> {
    #[cfg(feature = "tls")]
    // It would panic when it is used first.
    if graviola::util::is_cpu_supported() {
        return Ok(rustls_graviola::default_provider());
    }
    #[cfg(feature = "tls-aws-lc-rs")]
    return Ok(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(feature = "tls-ring")]
    return Ok(rustls::crypto::ring::default_provider());
    Err(NoProvider)
}
