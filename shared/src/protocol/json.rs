//! JSON that is read piece by piece: trees that keep every member, and how single members are read.
//!
//! A duplicate member is never resolved by guessing: a piece that has one is malformed.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use super::error::DecodeError;

/// One value, with its members in their order, including duplicates.
#[derive(Debug)]
pub(super) enum Node {
    /// Null, a boolean or a number.
    Plain(Value),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// An object.
    Members(Vec<(String, Node)>),
}

impl Node {
    /// As a `T`; `None` when it has a different shape, or a duplicate member anywhere in it.
    pub(super) fn read<T: DeserializeOwned>(self) -> Option<T> {
        serde_json::from_value(self.into_value()?).ok()
    }

    /// The first member of this name.
    pub(super) fn member(&self, name: &str) -> Option<&Node> {
        let Self::Members(members) = self else { return None };
        members.iter().find(|(other, _)| other == name).map(|(_, node)| node)
    }

    /// The text of a member.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let Self::Text(text) = self.member(name)? else { return None };
        Some(text)
    }

    /// The whole number of a member.
    pub(super) fn whole(&self, name: &str) -> Option<i64> {
        let Self::Plain(value) = self.member(name)? else { return None };
        value.as_i64()
    }

    fn into_value(self) -> Option<Value> {
        Some(match self {
            Self::Plain(value) => value,
            Self::Text(text) => Value::String(text),
            Self::List(list) => Value::Array(list.into_iter().map(Self::into_value).collect::<Option<_>>()?),
            Self::Members(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    if object.insert(name, member.into_value()?).is_some() {
                        return None;
                    }
                }
                Value::Object(object)
            }
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Plain(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Plain(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Plain(Value::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Plain(Value::Number(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Plain(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(Node::Members(members))
    }
}

/// The value of a member that must be there.
pub(super) fn required<T>(
    name: &'static str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, DecodeError> {
    optional(name, text, parse)?.ok_or(DecodeError::Missing(name))
}

/// An empty value is an absent one, as in v2.
pub(super) fn optional<T>(
    name: &'static str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, DecodeError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| parse(text).ok_or(DecodeError::Malformed(name))).transpose()
}

/// An amount of money, in the smallest unit of its currency.
pub(super) fn sum(name: &'static str, amount_minor: Option<i64>) -> Result<i64, DecodeError> {
    let amount_minor = amount_minor.ok_or(DecodeError::Missing(name))?;
    if amount_minor < 0 { Err(DecodeError::Malformed(name)) } else { Ok(amount_minor) }
}

/// RFC 3339, with whatever offset.
pub(super) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}
