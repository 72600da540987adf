//! The two REST routes that a gateway client needs: `GET /gateway` and `GET /gateway/bot`.

use std::time::Instant;

use super::Discord;
use super::faults::RestFault;

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names and values, without lengths.
    pub headers: Vec<(String, String)>,
    /// JSON, except where a fault says otherwise.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Response {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Response { status, headers, body: body.into() }
    }
}

impl Discord {
    /// Answers a request. `path` may carry a query and the prefix `/api` or `/api/v10`.
    pub fn rest(&mut self, now: Instant, method: &str, path: &str, authorization: Option<&str>) -> Response {
        let response = self.answer(now, method, path, authorization);
        *self.ledger.rest.entry(response.status).or_default() += 1;
        response
    }

    fn answer(&mut self, now: Instant, method: &str, path: &str, authorization: Option<&str>) -> Response {
        let path = path.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/api").unwrap_or(path);
        let path = path.strip_prefix("/v10").or_else(|| path.strip_prefix("/v9")).unwrap_or(path);
        if !matches!(path, "/gateway" | "/gateway/bot") {
            return Response::json(404, r#"{"message":"404: Not Found","code":0}"#);
        }
        if method != "GET" {
            return Response::json(405, r#"{"message":"405: Method Not Allowed","code":0}"#);
        }
        if let Some(fault) = self.pending.take_rest() {
            return failure(&fault);
        }
        let url = &self.options.gateway_url;
        if path == "/gateway" {
            return Response::json(200, serde_json::json!({ "url": url }).to_string());
        }
        let token = authorization.and_then(|value| value.strip_prefix("Bot "));
        if !token.is_some_and(|token| self.token_fits(token)) {
            return Response::json(401, r#"{"message":"401: Unauthorized","code":0}"#);
        }
        self.refill_starts(now);
        let options = &self.options;
        let reset_after = self.starts_reset_at.map_or(0, |at| at.saturating_duration_since(now).as_millis());
        let body = format!(
            "{{\"url\":{},\"shards\":{},\"session_start_limit\":{{\"total\":{},\"remaining\":{},\"reset_after\":{reset_after},\
             \"max_concurrency\":{}}}}}",
            serde_json::Value::from(options.gateway_url.as_str()),
            options.shards,
            options.session_starts_total,
            self.starts_remaining,
            options.max_concurrency
        );
        let mut response = Response::json(200, body);
        for (name, value) in [
            ("limit", "2"),
            ("remaining", "1"),
            ("reset-after", "5.000"),
            ("bucket", "41f9cd5d28af77da04563bcb1d67fdfd"),
        ] {
            response.headers.push((format!("x-ratelimit-{name}"), value.to_owned()));
        }
        response
    }

    /// Whether a token is the bot's, with or without `Bot ` before it.
    pub(super) fn token_fits(&self, token: &str) -> bool {
        let token = token.strip_prefix("Bot ").unwrap_or(token);
        !self.token_reset
            && !token.is_empty()
            && self.options.token.as_ref().is_none_or(|t| t.expose() == token)
    }

    /// Makes the session start count whole again when its time has come.
    pub(super) fn refill_starts(&mut self, now: Instant) {
        if self.starts_reset_at.is_some_and(|at| at <= now) {
            self.starts_reset_at = None;
            self.starts_remaining = self.options.session_starts_total;
        }
    }

    /// Takes one session start; false when none is left.
    pub(super) fn take_start(&mut self, now: Instant) -> bool {
        self.refill_starts(now);
        if self.starts_remaining == 0 {
            return false;
        }
        self.starts_remaining -= 1;
        self.starts_reset_at.get_or_insert(now + self.options.reset_after);
        true
    }
}

fn failure(fault: &RestFault) -> Response {
    let mut headers = Vec::new();
    let body = match (fault.status, fault.retry_after) {
        (_, None) if fault.status == 429 => {
            // Not Discord's own answer: a block by the proxy in front of it, without JSON.
            return Response { status: 429, headers, body: b"error code: 1015".to_vec() };
        }
        (429, Some(seconds)) => {
            headers.push(("retry-after".to_owned(), format!("{}", seconds.ceil() as u64)));
            headers.push(("via".to_owned(), "1.1 google".to_owned()));
            headers.push((
                "x-ratelimit-scope".to_owned(),
                if fault.global { "global" } else { "user" }.to_owned(),
            ));
            if fault.global {
                headers.push(("x-ratelimit-global".to_owned(), "true".to_owned()));
            }
            format!(
                "{{\"message\":\"You are being rate limited.\",\"retry_after\":{seconds:?},\"global\":{}}}",
                fault.global
            )
        }
        (401, _) => r#"{"message":"401: Unauthorized","code":0}"#.to_owned(),
        (status, _) => format!("{{\"message\":\"{status}: stand-in fault\",\"code\":0}}"),
    };
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    Response { status: fault.status, headers, body: body.into_bytes() }
}
