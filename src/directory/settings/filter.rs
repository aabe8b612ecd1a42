//! Search filters (RFC 4515) with a place for what is looked for.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const LONGEST: usize = 2000;
const DEEPEST: usize = 20;
/// What a person types to sign in stands here.
const PLACE: &str = "{login}";

/// A filter that was read, with or without a place for the login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Filter(String);

impl Filter {
    /// One that finds a person by its login.
    pub(super) fn of_people(text: &str, field: &str) -> Result<Self> {
        let refused = |rule: &'static str| Error::invalid(field, rule);
        if !text.contains(PLACE) {
            return Err(refused("must have {login} where the login is compared, as in (uid={login})"));
        }
        let filter = Self(text.to_owned());
        // In a value everything escaped is fine; where the name of an attribute or a rule stands, nothing is.
        check(&filter.of_login("*()"), field)?;
        check(&filter.of_everybody(), field)?;
        Ok(filter)
    }

    /// One without a place.
    pub(super) fn of_groups(text: &str, field: &str) -> Result<Self> {
        if text.contains('{') || text.contains('}') {
            return Err(Error::invalid(field, "has no place for anything; it says which entries are groups"));
        }
        check(text, field)?;
        Ok(Self(text.to_owned()))
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// Finds the person with this login. Whatever it is, it stays one value (RFC 4515, section 3).
    pub(in crate::directory) fn of_login(&self, login: &str) -> String {
        self.0.replace(PLACE, &ldap3::ldap_escape(login))
    }

    /// Finds all people: any login will do.
    pub(in crate::directory) fn of_everybody(&self) -> String {
        self.0.replace(PLACE, "*")
    }
}

/// Both this filter and that `attribute` (its matching rule behind it, if there is one) has this value.
pub(in crate::directory) fn and_equal(filter: &str, attribute: &str, value: &str) -> String {
    format!("(&{filter}({attribute}={}))", ldap3::ldap_escape(value))
}

/// The library goes down into a filter, so its depth is bounded before.
fn check(text: &str, field: &str) -> Result<()> {
    if text.len() > LONGEST || !is_shallow(text) {
        let rule = format!("has at most {LONGEST} bytes and is at most {DEEPEST} levels deep");
        return Err(Error::invalid(field, rule));
    }
    let is_one = text.starts_with('(') && text.ends_with(')') && !text.contains(char::is_control);
    if is_one && ldap3::parse_filter(text).is_ok() {
        return Ok(());
    }
    Err(Error::invalid(field, "must be a search filter in parentheses (RFC 4515)"))
}

fn is_shallow(text: &str) -> bool {
    let mut depth = 0_usize;
    text.bytes().all(|byte| {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth <= DEEPEST
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn filters_of_people_have_a_place_in_a_value() {
        for text in [
            "(uid={login})",
            "(&(objectClass=person)(|(uid={login})(mail={login})))",
            "(mail={login}@example.org)",
            "(&(objectCategory=person)(sAMAccountName={login})(!(userAccountControl:1.2.840.113556.1.4.803:=2)))",
        ] {
            assert!(Filter::of_people(text, "userFilter").is_ok(), "{text}");
        }
        for text in [
            "(uid=ada)",
            "uid={login}",
            "({login}=ada)",
            "(uid:{login}:=a)",
            "(uid={login}",
            "(uid={login}))",
            "(uid={login})(uid=a)",
            "",
            "(&)",
            "(uid=\\zz{login})",
            "(uid={login}\0)",
        ] {
            assert!(Filter::of_people(text, "userFilter").is_err(), "{text:?}");
        }
        let deep = format!("{}(uid={{login}}){}", "(!".repeat(400), ")".repeat(400));
        assert!(Filter::of_people(&deep, "userFilter").unwrap_err().message().contains("levels deep"));
    }

    #[test]
    fn a_login_is_one_value_whatever_it_holds() {
        let filter = Filter::of_people("(uid={login})", "userFilter").unwrap();
        assert_eq!(filter.of_login("*)(uid=*"), "(uid=\\2a\\29\\28uid=\\2a)");
        assert_eq!(filter.of_login("a\\b\0"), "(uid=a\\5cb\\00)");
        assert_eq!(filter.of_everybody(), "(uid=*)");
        let chain = and_equal("(&(a=b)(c=*))", "memberOf:1.2.840.113556.1.4.1941:", "cn=x");
        assert!(ldap3::parse_filter(&chain).is_ok(), "{chain}");
        assert_eq!(and_equal("(a=b)", "member", "cn=x\\,y,dc=(z)"), "(&(a=b)(member=cn=x\\5c,y,dc=\\28z\\29))");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[(){}&|!=*:a-z\\\\]{0,60}") {
            let _ = Filter::of_people(&text, "userFilter");
            let _ = Filter::of_groups(&text, "groupFilter");
        }

        #[test]
        fn a_login_changes_no_filter(login in ".{0,40}") {
            let filter = Filter::of_people("(&(a=b)(uid={login}))", "userFilter").unwrap();
            let shape = |text: &str| format!("{:?}", ldap3::parse_filter(text)).matches("Sequence").count();
            prop_assert_eq!(shape(&filter.of_login(&login)), shape(&filter.of_login("ada")));
        }
    }
}
