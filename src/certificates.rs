//! When the certificates end that clients meet: of the proxy in front, of TURN over TLS. They are the operator's files; this
//! process only reads their time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use turn_server::not_after;

use crate::doctor::finding::Finding;
use crate::doctor::machine::unix_now;

/// A certificate is to be renewed before.
pub(crate) const LEAST_VALIDITY: Duration = Duration::from_hours(14 * 24);

/// Seconds until a file's first certificate ends, negative afterwards; None: it can't be read.
pub(crate) fn seconds_left(file: &Path) -> Option<f64> {
    let certificate = CertificateDer::pem_file_iter(file).ok()?.next()?.ok()?;
    Some(not_after(&certificate)?.as_secs_f64() - unix_now().as_secs_f64())
}

/// For `sluice doctor` and the first lines of the log.
pub(crate) fn check(file: &Path) -> Finding {
    let name = file.display();
    match seconds_left(file) {
        None => Finding::warning(
            "certificate",
            "certificate-unreadable",
            format!("{name} holds no certificate that can be read"),
            "correct `tls.certificate` or `metrics.certificates`, whichever names it",
        ),
        Some(left) if left <= 0.0 => Finding::failed(
            "certificate",
            "certificate-expired",
            format!("{name} has expired"),
            "renew it, and see whether the automatic renewal works",
        ),
        Some(left) if left < LEAST_VALIDITY.as_secs_f64() => {
            let detail = format!("{name} is good for {:.0} more days", left / 86_400.0);
            Finding::warning("certificate", "certificate-expires-soon", detail, "renew it: see whether the automatic renewal works")
        }
        Some(left) => Finding::ok("certificate", format!("{name} is good for {:.0} more days", left / 86_400.0)),
    }
}

/// Reads the files when somebody asks for metrics.
pub(crate) struct CertificateFiles {
    files: Vec<PathBuf>,
    gauge: GaugeVec,
}

impl CertificateFiles {
    pub(crate) fn new(files: Vec<PathBuf>) -> prometheus::Result<Self> {
        let help =
            "Seconds until a certificate of `tls.certificate` or `metrics.certificates` ends, negative afterwards; NaN: it can't be read.";
        Ok(Self { files, gauge: GaugeVec::new(Opts::new("tls_certificate_expiry_seconds", help), &["file"])? })
    }

    /// For documentation: one that was never read.
    pub(crate) fn catalogue() -> prometheus::Result<Vec<MetricFamily>> {
        Ok(Self::new(vec![PathBuf::from("fullchain.pem")])?.collect())
    }
}

impl Collector for CertificateFiles {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for file in &self.files {
            let labels = HashMap::from([("file", file.to_str().unwrap_or_default())]);
            self.gauge.with(&labels).set(seconds_left(file).unwrap_or(f64::NAN));
        }
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_certificate_is_not_a_number_and_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pem");
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
        assert_eq!(seconds_left(&file), None);
        assert_eq!(check(&file).cause, "certificate-unreadable");
        let families = CertificateFiles::new(vec![file]).unwrap().collect();
        assert!(families[0].get_metric()[0].get_gauge().get_value().is_nan());
    }
}
