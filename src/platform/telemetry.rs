//! Logs, metrics and traces of the process.

use std::io::IsTerminal as _;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config,
    error::{Context as _, Error, Result},
};

/// Buckets of every duration, in seconds.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Keeps the exporter of traces; dropped, it sends what is left.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs the process's subscriber. `log_format` may be `json`, `text`, or empty: text on a terminal, else JSON.
    pub fn install(settings: &config::Telemetry) -> Result<Self> {
        let filter = EnvFilter::try_new(format!("{},sqlx::postgres::notice=warn,h2=warn", settings.log_filter))
            .map_err(|error| Error::invalid("telemetry.log_filter", error.to_string()))?;
        let json = match settings.log_format.as_str() {
            "json" => true,
            "text" => false,
            _ => !std::io::stderr().is_terminal(),
        };
        let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(true);
        let logs =
            if json { logs.json().flatten_event(true).with_span_list(false).boxed() } else { logs.compact().boxed() };
        let traces = (!settings.otlp_endpoint.is_empty()).then(|| exporter(&settings.otlp_endpoint)).transpose()?;
        let spans =
            traces.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("tenantry")));
        tracing_subscriber::registry().with(filter).with(spans).with(logs).try_init().context("install logging")?;
        Ok(Self { traces })
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = self.traces.take()
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

/// OTLP over HTTP, in batches, from a thread of its own.
fn exporter(endpoint: &str) -> Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .map_err(|error| Error::invalid("telemetry.otlp_endpoint", error.to_string()))?;
    let resource = Resource::builder().with_service_name("tenantry").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Installs the recorder of metrics, once a process; later calls answer the same.
pub fn metrics() -> PrometheusHandle {
    static RECORDER: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let builder =
                PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS);
            builder.expect("there are buckets").install_recorder().expect("nothing else records metrics")
        })
        .clone()
}
