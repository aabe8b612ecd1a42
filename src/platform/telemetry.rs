//! Logs, metrics and traces of the process.

use std::{fmt, io::IsTerminal as _};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::span::Record;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    field::RecordFields,
    fmt::{
        FormatFields, FormattedFields,
        format::{JsonFields, Writer},
    },
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

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
        let logs = if json {
            logs.json().flatten_event(true).with_span_list(false).fmt_fields(GrowingFields::default()).boxed()
        } else {
            logs.compact().boxed()
        };
        let traces = (!settings.otlp_endpoint.is_empty()).then(|| exporter(&settings.otlp_endpoint)).transpose()?;
        let spans =
            traces.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("tenantry")));
        tracing_subscriber::registry().with(filter).with(spans).with(logs).try_init().context("install logging")?;
        Ok(Self { traces })
    }
}

/// Fields of a span as one JSON object. To add one to [`JsonFields`] reads all of them again, in every request; this one grows at its end.
#[derive(Default)]
struct GrowingFields(JsonFields);

impl<'a> FormatFields<'a> for GrowingFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> fmt::Result {
        self.0.format_fields(writer, fields)
    }

    fn add_fields(&self, current: &'a mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut added = FormattedFields::<JsonFields>::new(String::new());
        self.0.format_fields(added.as_writer(), fields)?;
        match (current.fields.strip_suffix('}'), added.fields.strip_prefix('{')) {
            (Some(known), Some(added)) if known.len() > 1 && added.len() > 1 => {
                current.fields.truncate(known.len());
                current.fields.push(',');
                current.fields.push_str(added);
            }
            (Some(_), Some("}")) => {}
            _ => current.fields = added.fields,
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a line says of the span whose fields are first `known`, then also `added`.
    fn logged(span: impl FnOnce() -> tracing::Span, then: impl FnOnce(&tracing::Span)) -> serde_json::Value {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).json().with_span_list(false);
        let subscriber = tracing_subscriber::registry().with(layer.fmt_fields(GrowingFields::default()));
        tracing::subscriber::with_default(subscriber, || {
            let span = span();
            then(&span);
            span.in_scope(|| tracing::info!("told"));
        });
        let line: serde_json::Value = serde_json::from_slice(&lines.0.lock().unwrap()).unwrap();
        line["span"].clone()
    }

    #[test]
    fn a_span_says_what_was_known_of_it_at_first_and_what_was_added() {
        use tracing::{field::Empty, info_span};
        let both = logged(
            || info_span!("request", id = "a\"}{b", tenant = Empty, path = "/"),
            |span| _ = span.record("tenant", "acme"),
        );
        assert_eq!(both, serde_json::json!({ "name": "request", "id": "a\"}{b", "path": "/", "tenant": "acme" }));
        let added = logged(|| info_span!("request", tenant = Empty), |span| _ = span.record("tenant", "acme"));
        assert_eq!(added, serde_json::json!({ "name": "request", "tenant": "acme" }));
        let known = logged(|| info_span!("request", id = 7, tenant = Empty), |span| _ = span.record("tenant", Empty));
        assert_eq!(known, serde_json::json!({ "name": "request", "id": 7 }));
        let again = logged(|| info_span!("request", id = 7), |span| _ = span.record("id", 8));
        assert_eq!(again, serde_json::json!({ "name": "request", "id": 8 }), "what was said last");
    }
}
