//! JSON of unknown origin: parsed without repeated keys, read field by field with the path of each for messages.

use crate::{Result, WeightsError, nearest};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses JSON and refuses objects that name a key twice (readers disagree on which of the two counts).
pub fn parse_json(file: &str, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice::<Unique>(bytes)
        .map(|u| u.0)
        .map_err(|e| WeightsError::Json { file: file.to_string(), problem: e.to_string() })
}

/// A [`Value`] whose objects have no repeated keys.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        d.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E>(self, v: i64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E>(self, v: f64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_str<E>(self, v: &str) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_string<E>(self, v: String) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(v)) = seq.next_element()? {
            list.push(v);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let Unique(value) = map.next_value()?;
            if object.contains_key(&key) {
                return Err(serde::de::Error::custom(format_args!("key \"{key}\" is there twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// A value of a configuration and where it stands. Every reader fails with [`WeightsError::Field`].
#[derive(Debug, Clone)]
pub struct Node<'a> {
    file: &'a str,
    path: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    /// The top of a file.
    pub fn root(file: &'a str, value: &'a Value) -> Self {
        Self { file, path: String::new(), value }
    }

    /// The raw value.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Path of this value, such as `modalities[2].codes[0].size`.
    pub fn path(&self) -> &str {
        if self.path.is_empty() { "the top level" } else { &self.path }
    }

    /// An error about this value: `remedy` says what it must be.
    pub fn fail(&self, remedy: impl Into<String>) -> WeightsError {
        WeightsError::Field {
            file: self.file.to_string(),
            field: self.path().to_string(),
            value: format!("is {}", short(self.value)),
            remedy: remedy.into(),
        }
    }

    fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    fn object(&self) -> Result<&'a Map<String, Value>> {
        self.value.as_object().ok_or_else(|| self.fail("must be an object {..}"))
    }

    /// The field `key`, if it is there and not null.
    pub fn opt(&self, key: &str) -> Result<Option<Node<'a>>> {
        let value = self.object()?.get(key).filter(|v| !v.is_null());
        Ok(value.map(|value| Node { file: self.file, path: self.child(key), value }))
    }

    /// The field `key`, which must be there.
    pub fn get(&self, key: &str) -> Result<Node<'a>> {
        self.opt(key)?.ok_or_else(|| self.missing(key, "add it (see weights.md)"))
    }

    /// An error about the absent field `key`.
    pub fn missing(&self, key: &str, remedy: impl Into<String>) -> WeightsError {
        WeightsError::Field {
            file: self.file.to_string(),
            field: self.child(key),
            value: "is missing".into(),
            remedy: remedy.into(),
        }
    }

    /// Refuses fields that are not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        for key in self.object()?.keys() {
            if !known.contains(&key.as_str()) {
                let hint = match nearest(key, known.iter().copied()) {
                    Some(n) => format!("unknown field, did you mean \"{n}\"?"),
                    None => format!("unknown field, known are: {}", known.join(", ")),
                };
                return Err(self.get(key).map_or_else(|e| e, |n| n.fail(hint)));
            }
        }
        Ok(())
    }

    /// All fields of an object, in the order of the file or of their names.
    pub fn entries(&self) -> Result<Vec<(&'a str, Node<'a>)>> {
        let child = |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), Node { file: self.file, path: self.child(key), value })
        };
        Ok(self.object()?.iter().map(child).collect())
    }

    /// All elements of a list of at most `max`.
    pub fn list(&self, max: usize) -> Result<Vec<Node<'a>>> {
        let list = self.value.as_array().ok_or_else(|| self.fail("must be a list [..]"))?;
        if list.len() > max {
            let value = format!("has {} elements", list.len());
            let (file, field) = (self.file.to_string(), self.path().to_string());
            return Err(WeightsError::Field { file, field, value, remedy: format!("must have at most {max}") });
        }
        let child = |(i, value)| Node { file: self.file, path: format!("{}[{i}]", self.path), value };
        Ok(list.iter().enumerate().map(child).collect())
    }

    /// An integer in `min..=max`.
    pub fn int(&self, min: i64, max: i64) -> Result<i64> {
        self.value
            .as_i64()
            .filter(|v| (min..=max).contains(v))
            .ok_or_else(|| self.fail(format!("must be an integer from {min} to {max}")))
    }

    /// A non-negative integer in `min..=max`, as u32.
    pub fn u32(&self, min: u32, max: u32) -> Result<u32> {
        let v = self.int(min.into(), max.into())?;
        u32::try_from(v).map_err(|_| self.fail("must not be negative"))
    }

    /// A non-negative integer in `min..=max`, as usize.
    pub fn size(&self, min: u32, max: u32) -> Result<usize> {
        Ok(self.u32(min, max)? as usize)
    }

    /// A finite number in `min..=max`.
    pub fn number(&self, min: f64, max: f64) -> Result<f64> {
        self.value
            .as_f64()
            .filter(|v| (min..=max).contains(v))
            .ok_or_else(|| self.fail(format!("must be a number from {min} to {max}")))
    }

    /// true or false.
    pub fn boolean(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.fail("must be true or false"))
    }

    /// A string of 1 to 256 bytes.
    pub fn string(&self) -> Result<&'a str> {
        self.value
            .as_str()
            .filter(|s| (1..=256).contains(&s.len()))
            .ok_or_else(|| self.fail("must be a string of 1 to 256 bytes"))
    }

    /// One of some strings, by its index.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T> {
        let found = self.value.as_str().and_then(|s| choices.iter().find(|(name, _)| *name == s));
        found.map(|(_, v)| *v).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(n, _)| format!("\"{n}\"")).collect();
            self.fail(format!("must be {}", names.join(" or ")))
        })
    }
}

/// A value in at most about 40 characters.
fn short(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(object) => format!("an object of {} fields", object.len()),
        _ => {
            let text = value.to_string();
            match text.char_indices().nth(40) {
                Some((at, _)) => format!("{}..", &text[..at]),
                None => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_and_deep_nesting_are_refused() {
        assert!(parse_json("a", br#"{"x": 1, "y": {"z": [1, 2.5, null, true, "s", -3]}}"#).is_ok());
        let err = parse_json("config.json", br#"{"x": {"y": 1, "y": 2}}"#).unwrap_err().to_string();
        assert!(err.contains("config.json") && err.contains("\"y\" is there twice"), "{err}");
        assert!(parse_json("a", "[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn messages_name_path_value_and_remedy() {
        let value = parse_json("c", br#"{"a": [{"b": 700}], "sizze": 1}"#).unwrap();
        let root = Node::root("config.json", &value);
        let b = root.get("a").unwrap().list(9).unwrap()[0].get("b").unwrap();
        assert_eq!(b.u32(0, 9).unwrap_err().to_string(), "config.json: a[0].b is 700: must be an integer from 0 to 9");
        assert_eq!(root.get("q").unwrap_err().to_string(), "config.json: q is missing: add it (see weights.md)");
        let err = root.only(&["a", "size"]).unwrap_err().to_string();
        assert_eq!(err, "config.json: sizze is 1: unknown field, did you mean \"size\"?");
    }
}
