//! What the tools (`rateway tap`, `cache`, `send`) need of the gateway's configuration: where the broker is and how
//! shards make clusters. The rest of the file is the gateway's, and no tool asks for its token.

use std::ffi::OsString;
use std::path::Path;

use super::sources::Sources;
use super::{CaFile, Problems, ca_file, parse, settings as s};
use crate::amqp::Uri;

/// Where the broker is unless somebody has set it.
const AMQP_DEFAULT: &str = "amqp://127.0.0.1:5672";

/// The configuration of the tools.
#[derive(Clone, Debug)]
pub struct ToolsConfig {
    /// AMQP_URI: one URI or more, in the order to try them.
    pub amqp: Vec<Uri>,
    /// AMQP_CA_FILE.
    pub amqp_ca: Option<CaFile>,
    /// SHARDS_PER_CLUSTER, at least 1.
    pub shards_per_cluster: u32,
}

impl ToolsConfig {
    /// Reads variables through `env` and settings from the TOML file at `file`.
    ///
    /// # Errors
    /// With everything that is wrong, at once.
    pub fn load(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<ToolsConfig, Problems> {
        let mut from = Sources::open(file, &env);
        let amqp = from.optional(&s::AMQP_URI, parse::amqp_uris);
        let amqp_ca = from.optional(&s::AMQP_CA_FILE, ca_file);
        let shards_per_cluster =
            from.required(&s::SHARDS_PER_CLUSTER, |text| parse::whole_u32(text, 1..=10_000));
        let (problems, _) = from.finish();
        let amqp = amqp.or_else(|| parse::amqp_uris(AMQP_DEFAULT).ok());
        match (amqp, shards_per_cluster) {
            (Some(amqp), Some(shards_per_cluster)) if problems.0.is_empty() => {
                Ok(ToolsConfig { amqp, amqp_ca, shards_per_cluster })
            }
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<ToolsConfig, Problems> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        ToolsConfig::load(None, find)
    }

    #[test]
    fn nothing_has_to_be_set() {
        let config = load(&[]).unwrap();
        assert_eq!(config.amqp[0].to_string(), "amqp://guest:***@127.0.0.1:5672/%2F");
        assert_eq!((config.amqp_ca, config.shards_per_cluster), (None, 8));
    }

    #[test]
    fn what_is_set_counts_and_what_is_wrong_is_told_without_the_password() {
        let config = load(&[("AMQP_URI", "amqp://a,amqp://b"), ("SHARDS_PER_CLUSTER", "2")]).unwrap();
        assert_eq!((config.amqp.len(), config.shards_per_cluster), (2, 2));
        let problems =
            load(&[("AMQP_URI", "amqp://u:hunter2@h:x"), ("SHARDS_PER_CLUSTER", "0")]).unwrap_err();
        assert_eq!(problems.0.len(), 2);
        assert!(!problems.to_string().contains("hunter2"));
    }
}
