//! The two ways in which twilight reads an event.

use serde::de::DeserializeSeed;
use twilight_gateway::{Event, EventTypeFlags};
use twilight_model::gateway::event::GatewayEventDeserializer;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Parser {
    /// `twilight_gateway::parse` with its feature `simd-json`.
    Simd,
    /// What the same function does without that feature.
    Serde,
}

impl Parser {
    pub const ALL: [Self; 2] = [Self::Simd, Self::Serde];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Simd => "simd_json",
            Self::Serde => "serde_json",
        }
    }

    pub fn parse(self, text: String) -> Result<Event, String> {
        match self {
            Self::Simd => match twilight_gateway::parse(text, EventTypeFlags::all()) {
                Ok(Some(event)) => Ok(event.into()),
                Ok(None) => Err("unknown event".into()),
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    Err(source.unwrap_or_else(|| error.to_string()))
                }
            },
            Self::Serde => {
                let event = GatewayEventDeserializer::from_json(&text).ok_or("no opcode")?;
                let mut json = serde_json::Deserializer::from_str(&text);
                event.deserialize(&mut json).map(Into::into).map_err(|error| error.to_string())
            }
        }
    }
}
