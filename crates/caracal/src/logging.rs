//! Structured logs: one JSON object a line on standard error.
//!
//! Lines pass through a bounded queue to one writer thread, so that a slow terminal never slows a
//! request; what does not fit is dropped and counted. Every string passes a scrubber first: secrets
//! have types that can't be formatted, and this catches what arrives inside foreign error texts.

use std::fmt::Debug;
use std::io::Write;
use std::sync::mpsc::{SyncSender, sync_channel};

use caracal_core::{Clock, SystemClock};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that may wait for the writer.
const QUEUE: usize = 16_384;

/// Longest string field, bytes.
const MAX_FIELD: usize = 8_192;

/// Starts logging; the second call of a process does nothing.
pub(crate) fn start(level: &str, service: &str, environment: &str) {
    let level = match level {
        "debug" => Level::DEBUG,
        "warn" => Level::WARN,
        "error" => Level::ERROR,
        _ => Level::INFO,
    };
    let (lines, queue) = sync_channel::<Vec<u8>>(QUEUE);
    let writer = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            while let Ok(line) = queue.recv() {
                let _ = std::io::stderr().write_all(&line);
            }
        });
    if writer.is_err() {
        return;
    }
    let layer = JsonLines {
        level,
        service: service.to_owned(),
        environment: environment.to_owned(),
        lines,
    };
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

struct JsonLines {
    level: Level,
    service: String,
    environment: String,
    lines: SyncSender<Vec<u8>>,
}

impl<S: Subscriber> Layer<S> for JsonLines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let ours = metadata.target().starts_with("caracal");
        *metadata.level()
            <= if ours {
                self.level
            } else {
                Level::WARN.min(self.level)
            }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = json!({
            "time": SystemClock.now().millis(),
            "level": event.metadata().level().as_str().to_ascii_lowercase(),
            "service": self.service,
            "pid": std::process::id(),
            "version": crate::version::VERSION,
            "env": self.environment,
            "target": event.metadata().target(),
            "msg": fields.0.remove("message").unwrap_or_default(),
        });
        if let Value::Object(object) = &mut line {
            for (name, value) in fields.0 {
                object.entry(name).or_insert(value);
            }
        }
        let mut bytes = line.to_string().into_bytes();
        bytes.push(b'\n');
        if self.lines.try_send(bytes).is_err() {
            metrics::counter!("caracal_log_dropped_total").increment(1);
        } else {
            metrics::counter!("caracal_log_emitted_total").increment(1);
        }
    }
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0
            .insert(field.name().to_owned(), Value::String(scrub(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

/// Replaces every word that has the shape of a secret, and cuts overlong text.
pub(crate) fn scrub(text: &str) -> String {
    const PREFIXES: [&str; 12] = [
        "eyJ",
        "cs_",
        "ws_",
        "cat_",
        "nsk_",
        "caracal_at_",
        "caracal_rt_",
        "AKIA",
        "ghp_",
        "xoxb-",
        "AIza",
        "-----BEGIN",
    ];
    let mut end = text.len().min(MAX_FIELD);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = String::with_capacity(end);
    let mut after_bearer = false;
    let is_break =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | '&' | '?' | ',' | '(' | ')');
    for piece in text[..end].split_inclusive(is_break) {
        let word = piece.trim_end_matches(is_break);
        let rest = &piece[word.len()..];
        let hide =
            after_bearer || (word.len() >= 8 && PREFIXES.iter().any(|p| word.starts_with(p)));
        out.push_str(if hide && !word.is_empty() {
            "***"
        } else {
            word
        });
        out.push_str(rest);
        if !word.is_empty() {
            after_bearer = word.eq_ignore_ascii_case("bearer");
        }
    }
    out
}

/// [`scrub`] for texts of several lines.
pub(crate) fn scrub_lines(text: &str) -> String {
    text.lines().map(scrub).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_hides_the_secrets_in_its_message_and_its_fields() {
        let (lines, written) = sync_channel(4);
        let layer = JsonLines {
            level: Level::INFO,
            service: "test".to_owned(),
            environment: "dev".to_owned(),
            lines,
        };
        let refused = std::io::Error::other("refused: Bearer abc.def");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(error = %refused, debug = ?refused, text = "cs_0123456789", "eyJhbGciOi.J9");
        });
        let line = String::from_utf8(written.recv().unwrap()).unwrap();
        for secret in ["abc.def", "cs_0123456789", "eyJhbGciOi"] {
            assert!(!line.contains(secret), "{line}");
        }
        assert!(line.contains("refused: Bearer ***"), "{line}");
    }

    #[test]
    fn secrets_inside_foreign_texts_are_hidden() {
        assert_eq!(scrub("refused: Bearer abc.def"), "refused: Bearer ***");
        assert_eq!(
            scrub("url https://x/?key=cs_0123456789&y=1"),
            "url https://x/?key=***&y=1"
        );
        assert_eq!(scrub("token \"eyJhbGciOi.J9\" bad"), "token \"***\" bad");
        assert_eq!(scrub("plain words stay"), "plain words stay");
    }

    #[test]
    fn overlong_text_is_cut_at_a_character() {
        let text = "é".repeat(10_000);
        assert!(scrub(&text).len() <= 8_192);
    }
}
