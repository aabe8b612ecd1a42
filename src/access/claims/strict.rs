//! JSON that can be read in one way only (RFC 8259, section 4, leaves repeated names open; RFC 7519, section 4, lets us
//! refuse them): no name twice at any level, bounded depth and sizes, nothing after the end.

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

const MAX_DEPTH: usize = 8;
/// Members of one object, and elements of one array.
const MAX_MEMBERS: usize = 64;
const MAX_NAME_BYTES: usize = 255;

/// An object of which some members matter: the header of a token, its claims.
pub(in crate::access) trait Members {
    /// Reads the value of `name` from `map` and answers true; false, without having read it, for a name that does not matter.
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads one object and nothing else. The caller bounds the length of `json`.
pub(in crate::access) fn read_object(json: &[u8], members: &mut impl Members) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    deserializer.deserialize_map(Object { members, depth: 1 })?;
    deserializer.end()
}

/// A member of the outermost object that is an object itself, of which some members matter.
pub(in crate::access) struct Inner<'a, M>(pub(in crate::access) &'a mut M);

impl<'de, M: Members> DeserializeSeed<'de> for Inner<'_, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(Object { members: self.0, depth: 2 })
    }
}

struct Object<'a, M> {
    members: &'a mut M,
    depth: usize,
}

impl<'de, M: Members> Visitor<'de> for Object<'_, M> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(name) = map.next_key::<String>()? {
            names.admit(&name)?;
            if !self.members.take(&name, &mut map)? {
                map.next_value_seed(Skipped { depth: self.depth + 1 })?;
            }
            names.0.push(name);
        }
        Ok(())
    }
}

/// The names that an object has had so far.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn admit<E: serde::de::Error>(&self, name: &str) -> Result<(), E> {
        if self.0.len() == MAX_MEMBERS || name.len() > MAX_NAME_BYTES {
            return Err(E::custom("too many members, or a name that is too long"));
        }
        if self.0.iter().any(|seen| seen == name) {
            return Err(E::custom("a member is repeated"));
        }
        Ok(())
    }
}

/// A value that is held to the same rules, and not kept.
#[derive(Clone, Copy)]
struct Skipped {
    depth: usize,
}

impl Skipped {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH { Err(E::custom("too deep")) } else { Ok(Self { depth: self.depth + 1 }) }
    }
}

impl<'de> DeserializeSeed<'de> for Skipped {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skipped {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let below = self.below()?;
        let mut elements = 0;
        while seq.next_element_seed(below)?.is_some() {
            elements += 1;
            if elements > MAX_MEMBERS {
                return Err(A::Error::custom("too many elements"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let below = self.below()?;
        let mut names = Names::default();
        while let Some(name) = map.next_key::<String>()? {
            names.admit(&name)?;
            map.next_value_seed(below)?;
            names.0.push(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Nothing;

    impl Members for Nothing {
        fn take<'de, A: MapAccess<'de>>(&mut self, _: &str, _: &mut A) -> Result<bool, A::Error> {
            Ok(false)
        }
    }

    fn accepts(json: &str) -> bool {
        read_object(json.as_bytes(), &mut Nothing).is_ok()
    }

    #[test]
    fn plain_objects_are_read() {
        assert!(accepts("{}"));
        assert!(accepts(r#" {"a":1,"b":[1,2.5,null,true,"x",{"a":{}}],"c":{"a":-1}} "#));
    }

    #[test]
    fn a_repeated_name_is_refused_at_every_level_and_in_every_spelling() {
        assert!(!accepts(r#"{"a":1,"a":1}"#));
        assert!(!accepts(r#"{"a":1,"\u0061":1}"#));
        assert!(!accepts(r#"{"x":{"a":1,"a":1}}"#));
        assert!(!accepts(r#"{"x":[[{"a":1,"b":2,"a":1}]]}"#));
    }

    #[test]
    fn depth_and_sizes_are_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(accepts(&nested(6)));
        assert!(!accepts(&nested(7)));
        assert!(!accepts(&nested(4000)));
        let object = |members: usize| {
            format!("{{{}}}", (0..members).map(|n| format!("\"m{n}\":0")).collect::<Vec<_>>().join(","))
        };
        assert!(accepts(&object(64)));
        assert!(!accepts(&object(65)));
        assert!(!accepts(&format!("{{\"a\":[{}0]}}", "0,".repeat(64))));
        assert!(!accepts(&format!("{{\"{}\":0}}", "n".repeat(256))));
    }

    #[test]
    fn what_is_no_object_alone_is_refused() {
        for json in [
            "",
            "[]",
            "null",
            "\"{}\"",
            "{} {}",
            "{},",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":1e999}",
            "\u{feff}{}",
        ] {
            assert!(!accepts(json), "{json}");
        }
        assert!(read_object(b"{\"a\":\"\xff\"}", &mut Nothing).is_err());
    }
}
