//! The page: one piece of HTML that brings its style and script along, and the policy that lets a browser run these two
//! and nothing else.
//!
//! The page holds no data; its script asks `/events` and puts what it is told into text nodes, so there is nothing to
//! be escaped here.

use crate::base::sha256_base64;

const HTML: &str = include_str!("page.html");

/// The page and its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The page.
    pub html: &'static [u8],
    /// Its Content-Security-Policy.
    pub policy: String,
}

impl Page {
    /// Makes the policy.
    pub fn new() -> Page {
        let hash = |element| format!("'sha256-{}'", sha256_base64(content(element)));
        let policy = format!(
            "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash("style"),
            hash("script")
        );
        Page { html: HTML.as_bytes(), policy }
    }
}

/// What stands between the tags of an element that is there once.
fn content(element: &str) -> &'static str {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let inner = HTML.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    inner.map_or("", |(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_brings_everything_along() {
        for element in ["style", "script"] {
            assert!(content(element).len() > 100, "{element}");
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1, "{element}");
        }
        // No address of another machine, no handler or style in an attribute, which the policy would not run.
        for foreign in
            ["http://", "https://", "//cdn", "@import", " onclick=", " onload=", " style=\"", "innerHTML"]
        {
            let allowed = HTML.replace("http://www.w3.org/2000/svg", "");
            assert!(!allowed.contains(foreign), "{foreign}");
        }
        assert!(HTML.contains("name=\"viewport\"") && HTML.contains("prefers-color-scheme"));
    }

    #[test]
    fn the_policy_names_both_by_their_hash() {
        let page = Page::new();
        assert_eq!(page.policy.matches("'sha256-").count(), 2, "{}", page.policy);
        assert!(page.policy.is_ascii() && !page.policy.contains("unsafe"), "{}", page.policy);
    }
}
