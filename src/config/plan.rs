//! How many shards there are, and which of them belong to which cluster: pure arithmetic.
//!
//! Cluster `i` starts at 1 and owns shards `(i-1)*N .. min(i*N, total)` (end exclusive), where N is
//! SHARDS_PER_CLUSTER. A worker computes the same from the total, so the rule can never change.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use super::Config;

/// The largest total that is believed: far above any bot, far below what would fill the memory with shards.
pub const SHARDS_MAX: u32 = 100_000;

/// One cluster: shards that share an exchange and an AMQP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its number, from 1.
    pub number: u32,
    /// Its shard ids.
    pub shards: Range<u32>,
}

/// The layout of a bot, as far as this process has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Shards of the whole bot: the `num_shards` that every Identify carries.
    pub total: u32,
    /// SHARDS_PER_CLUSTER.
    pub per_cluster: u32,
    /// Clusters of the whole bot.
    pub clusters_total: u32,
    /// The clusters that this process runs, in order.
    pub clusters: Vec<Cluster>,
    /// What the operator should read in the log.
    pub notices: Vec<String>,
}

impl Plan {
    /// Shards that this process runs.
    pub fn shards_here(&self) -> u32 {
        self.clusters.iter().map(|cluster| cluster.shards.end - cluster.shards.start).sum()
    }
}

/// Why no plan can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// CLUSTERS names clusters, none of which exists.
    NoSuchCluster {
        /// What CLUSTERS says.
        wanted: RangeInclusive<u32>,
        /// How many clusters there are.
        clusters_total: u32,
        /// Shards of the whole bot.
        total: u32,
    },
    /// The count is zero or beyond [`SHARDS_MAX`].
    Count {
        /// The count found.
        total: u64,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::NoSuchCluster { wanted, clusters_total, total } => {
                let (first, last) = (wanted.start(), wanted.end());
                let wanted = if first == last { first.to_string() } else { format!("{first}..{last}") };
                write!(
                    f,
                    "CLUSTERS={wanted}, but {total} shards make clusters 1 to {clusters_total}: nothing to run"
                )
            }
            PlanError::Count { total } => {
                write!(f, "{total} shards in all; expected 1 to {SHARDS_MAX}")
            }
        }
    }
}

impl std::error::Error for PlanError {}

/// Lays out the bot from what `GET /gateway/bot` answered (`recommended`, `max_concurrency`) and the configuration.
///
/// # Errors
/// When the total makes no sense or CLUSTERS leaves nothing to run.
pub fn plan(recommended: u32, max_concurrency: u32, config: &Config) -> Result<Plan, PlanError> {
    let Layout { total, mut notices } =
        layout(recommended, max_concurrency, config.shard_count, config.extra_shards);
    let total = match u32::try_from(total) {
        Ok(total @ 1..=SHARDS_MAX) => total,
        _ => return Err(PlanError::Count { total }),
    };
    let per_cluster = config.shards_per_cluster.max(1);
    let clusters_total = total.div_ceil(per_cluster);
    let wanted = config.clusters.clone().unwrap_or(1..=clusters_total);
    let (first, last) = ((*wanted.start()).max(1), (*wanted.end()).min(clusters_total));
    if first > last {
        return Err(PlanError::NoSuchCluster { wanted, clusters_total, total });
    }
    if *wanted.end() > clusters_total {
        notices.push(format!(
            "CLUSTERS ends at {}, but {total} shards make only {clusters_total} clusters: this process runs {first} to {last}",
            wanted.end()
        ));
    }
    let clusters = (first..=last)
        .map(|number| {
            // number <= clusters_total, so the start is below total; the end saturates before min cuts it.
            let start = (number - 1) * per_cluster;
            Cluster { number, shards: start..start.saturating_add(per_cluster).min(total) }
        })
        .collect();
    Ok(Plan { total, per_cluster, clusters_total, clusters, notices })
}

struct Layout {
    total: u64,
    notices: Vec<String>,
}

fn layout(recommended: u32, max_concurrency: u32, by_hand: Option<u32>, extra: u32) -> Layout {
    let large = max_concurrency > 1;
    let mut notices = Vec::new();
    let total = match by_hand {
        Some(count) => {
            if large && (recommended == 0 || count % recommended != 0) {
                notices.push(format!(
                    "SHARD_COUNT={count}, while Discord recommends {recommended} to this large bot: a total that is no \
                     multiple of the number Discord assigned ends in close code 4010"
                ));
            } else if count < recommended {
                notices.push(format!(
                    "SHARD_COUNT={count} is below Discord's recommended {recommended}: guilds over 2500 per shard end \
                     in close code 4011"
                ));
            }
            u64::from(count)
        }
        None if large => {
            if extra > 0 {
                notices.push(format!(
                    "EXTRA_SHARDS={extra} left out: with max_concurrency {max_concurrency} the total must be a \
                     multiple that only Discord knows, and the recommended {recommended} is one; SHARD_COUNT \
                     overrides"
                ));
            }
            u64::from(recommended)
        }
        None => u64::from(recommended) + u64::from(extra),
    };
    Layout { total, notices }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    fn with(settings: &[(&str, &str)]) -> Config {
        config(settings).unwrap()
    }

    #[test]
    fn clusters_follow_the_formula_of_the_contract() {
        let config = with(&[]);
        let plan = plan(9, 1, &config).unwrap();
        assert_eq!((plan.total, plan.clusters_total), (17, 3));
        let shards: Vec<_> = plan.clusters.iter().map(|c| (c.number, c.shards.clone())).collect();
        assert_eq!(shards, [(1, 0..8), (2, 8..16), (3, 16..17)]);
        assert_eq!(plan.shards_here(), 17);
        assert!(plan.notices.is_empty());
    }

    #[test]
    fn every_shard_belongs_to_exactly_one_cluster() {
        for recommended in 1..70 {
            for per_cluster in ["1", "2", "7", "8", "64", "10000"] {
                let config = with(&[("SHARDS_PER_CLUSTER", per_cluster), ("EXTRA_SHARDS", "3")]);
                let plan = plan(recommended, 1, &config).unwrap();
                let all: Vec<u32> = plan.clusters.iter().flat_map(|c| c.shards.clone()).collect();
                assert_eq!(all, (0..recommended + 3).collect::<Vec<_>>());
                assert!(plan.clusters.iter().all(|c| !c.shards.is_empty()));
            }
        }
    }

    #[test]
    fn large_bots_get_the_recommended_count_and_a_line_about_it() {
        let plan = plan(192, 16, &with(&[("EXTRA_SHARDS", "8")])).unwrap();
        assert_eq!(plan.total, 192);
        assert!(plan.notices[0].contains("EXTRA_SHARDS=8"), "{:?}", plan.notices);
        let none = super::plan(192, 16, &with(&[("EXTRA_SHARDS", "0")])).unwrap();
        assert!(none.notices.is_empty());
    }

    #[test]
    fn a_total_by_hand_wins_and_is_commented_on() {
        let odd = plan(192, 16, &with(&[("SHARD_COUNT", "200")])).unwrap();
        assert_eq!(odd.total, 200);
        assert!(odd.notices[0].contains("4010"));
        assert!(plan(192, 16, &with(&[("SHARD_COUNT", "384")])).unwrap().notices.is_empty());
        let few = plan(9, 1, &with(&[("SHARD_COUNT", "2")])).unwrap();
        assert_eq!(few.total, 2);
        assert!(few.notices[0].contains("4011"));
    }

    #[test]
    fn a_process_may_run_some_clusters_only() {
        let some = plan(32, 1, &with(&[("EXTRA_SHARDS", "0"), ("CLUSTERS", "2..3")])).unwrap();
        assert_eq!((some.total, some.clusters_total), (32, 4));
        assert_eq!(some.clusters.iter().map(|c| c.number).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(some.clusters[0].shards, 8..16);
        let beyond = plan(32, 1, &with(&[("EXTRA_SHARDS", "0"), ("CLUSTERS", "3..9")])).unwrap();
        assert_eq!(beyond.clusters.iter().map(|c| c.number).collect::<Vec<_>>(), [3, 4]);
        assert!(beyond.notices[0].contains("CLUSTERS"));
        let none = plan(8, 1, &with(&[("EXTRA_SHARDS", "0"), ("CLUSTERS", "5")])).unwrap_err();
        assert_eq!(none.to_string(), "CLUSTERS=5, but 8 shards make clusters 1 to 1: nothing to run");
    }

    #[test]
    fn senseless_counts_are_refused() {
        let config = with(&[("EXTRA_SHARDS", "0")]);
        assert_eq!(plan(0, 1, &config), Err(PlanError::Count { total: 0 }));
        assert!(plan(u32::MAX, 1, &config).is_err());
        assert!(plan(SHARDS_MAX, 1, &config).is_ok());
    }
}
