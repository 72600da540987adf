//! Which events are published: EVENTS and EVENTS_EXCLUDE.

use std::sync::Arc;

/// Names of events, in order, and whether they are the ones that are wanted or those that are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    only: Option<Arc<[String]>>,
    except: Option<Arc<[String]>>,
}

impl EventFilter {
    /// Lets `only` these pass, where they are given, without those in `except`.
    pub fn new(only: Option<Vec<String>>, except: Option<Vec<String>>) -> EventFilter {
        let sorted = |names: Option<Vec<String>>| {
            names.map(|mut names| {
                names.sort_unstable();
                Arc::from(names)
            })
        };
        EventFilter { only: sorted(only), except: sorted(except) }
    }

    /// Whether an event of this name is published.
    pub fn passes(&self, name: &str) -> bool {
        let holds = |names: &Arc<[String]>| names.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        self.only.as_ref().is_none_or(holds) && !self.except.as_ref().is_some_and(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn what_is_wanted_passes() {
        let all = EventFilter::default();
        assert!(all.passes("READY") && all.passes("SOMETHING_NEW"));
        let only = EventFilter::new(names(&["READY", "MESSAGE_CREATE", "B"]), None);
        assert!(only.passes("READY") && only.passes("MESSAGE_CREATE") && !only.passes("TYPING_START"));
        let except = EventFilter::new(None, names(&["TYPING_START"]));
        assert!(except.passes("READY") && !except.passes("TYPING_START"));
        let both = EventFilter::new(names(&["A", "B"]), names(&["B"]));
        assert!(both.passes("A") && !both.passes("B") && !both.passes("C"));
        assert!(!EventFilter::new(names(&[]), None).passes("READY"));
    }
}
