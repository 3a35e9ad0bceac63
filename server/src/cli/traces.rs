//! Traces, sent to an OpenTelemetry collector by OTLP over gRPC.
//!
//! What is traced is what has a beginning and an end: connections, joins, streams, sessions, recoveries; never a message or a
//! tick. Spans that have ended wait in a bounded queue, and are dropped where nobody takes them: no collector costs a match
//! anything.

use std::{
    env, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    SpanExporter as OtlpExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::{Certificate, ClientTlsConfig},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tracing::{Level, Subscriber, info, warn};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::CliError;

/// Spans that may wait; more are dropped.
const SPANS_MAX: usize = 4096;
const SEND_INTERVAL: Duration = Duration::from_secs(2);
/// How long a collector may take to answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the program's end waits for the last spans to be sent.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
/// By which OpenTelemetry is told of the name that the server goes by.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// By which all programs are told whose certificates to trust of a collector, as a PEM file; else it is those that the system
/// trusts.
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";

/// Sends traces, until it is finished.
#[derive(Debug)]
pub(super) struct Traces(SdkTracerProvider);

/// An exporter whose failures are told now and then, and not each time.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    /// In a row.
    failures: Arc<AtomicU64>,
}

impl Traces {
    /// Sends to the collector at `url`, from now on. Within a tokio runtime, which is to run for as long.
    ///
    /// # Errors
    /// Where the URL is none, or there are no certificates to trust for one with encryption.
    pub(super) fn start(url: &str) -> Result<Self, CliError> {
        let exporter = Told { exporter: exporter(url)?, failures: Arc::default() };
        let batches =
            BatchConfigBuilder::default().with_max_queue_size(SPANS_MAX).with_scheduled_delay(SEND_INTERVAL).build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder();
        let resource = match env::var_os(SERVICE_NAME) {
            Some(_) => resource,
            None => resource.with_service_name("tickwire-server"),
        };
        Ok(Self(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource.build()).build()))
    }

    /// Whether traces could be sent to the collector at `url`, which is not asked. Within a tokio runtime.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) fn check(url: &str) -> Result<(), CliError> {
        exporter(url).map(drop)
    }

    /// What turns spans of the program into spans of a trace.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer = self.0.tracer("tickwire-server");
        let layer =
            tracing_opentelemetry::layer().with_tracer(tracer).with_threads(false).with_tracked_inactivity(false);
        // Those of the libraries below are of no use to anybody, the exporter's own least of all.
        layer.with_filter(Targets::new().with_target("tickwire_server", Level::INFO))
    }

    /// Sends what waits, and no more after it. It waits for the collector, for a short time.
    pub(super) fn finish(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(FINISH_TIMEOUT) {
            warn!(%error, "the last traces were not sent");
        }
    }
}

/// What sends to the collector at `url`.
fn exporter(url: &str) -> Result<OtlpExporter, CliError> {
    let wrong = |source| CliError::Otlp { url: url.to_owned(), source };
    let exporter = OtlpExporter::builder().with_tonic().with_endpoint(url).with_timeout(SEND_TIMEOUT);
    let exporter = if url.starts_with("https://") { exporter.with_tls_config(trust()?) } else { exporter };
    exporter.build().map_err(wrong)
}

/// Whose certificates a collector may show.
fn trust() -> Result<ClientTlsConfig, CliError> {
    let Some(path) = env::var_os(CERTIFICATE).map(PathBuf::from) else {
        return Ok(ClientTlsConfig::new().with_enabled_roots());
    };
    let pem = fs::read(&path).map_err(CliError::at(&path))?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))),
        Some(Err(error)) => Err(CliError::at(&path)(error)),
        None => Err(CliError::NoCertificate { variable: CERTIFICATE, path }),
    }
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        match &sent {
            Ok(()) => {
                let failures = self.failures.swap(0, Relaxed);
                if failures > 0 {
                    info!(failures, "the collector takes traces again");
                }
            }
            Err(error) => {
                let failures = self.failures.fetch_add(1, Relaxed) + 1;
                // A collector that is away for long does not fill the log.
                if failures.is_power_of_two() {
                    warn!(%error, failures, "the collector does not take traces; some are lost, and it is tried again");
                }
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
