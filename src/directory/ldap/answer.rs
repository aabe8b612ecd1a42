//! What a server may send (RFC 4511). The library takes messages apart without asking: what is not as it expects ends in a panic, and
//! elements that lie deep in each other in an overflow of the stack. So each message is looked at before the library gets it.

use super::ber::{BOOLEAN, Broken, ENUMERATED, INTEGER, OCTETS, Reader, SEQUENCE, SET};

/// Which kind of request a message answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Bind,
    Search,
    Extended,
    /// That none is given to.
    Unanswered,
}

impl Request {
    pub(super) fn of_tag(tag: u8) -> Self {
        match tag {
            0x60 => Self::Bind,
            0x63 => Self::Search,
            0x77 => Self::Extended,
            _ => Self::Unanswered,
        }
    }
}

const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const EXTENDED_RESPONSE: u8 = 0x78;
const BIND_RESPONSE: u8 = 0x61;
const INTERMEDIATE: u8 = 0x79;

/// A message that is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The end of what was asked for, with its result code.
    Last(u32),
    /// Of what more will come.
    Part,
    /// That nobody asked for and the library would not understand; it is left out.
    LeftOut,
    /// The server says that it ends the connection (RFC 4511, section 4.4.1).
    Disconnection,
}

/// The number of a request of ours and its kind. For [`answer`] to compare with.
pub(super) fn request(frame: &[u8]) -> Result<(u32, Request), Broken> {
    let mut message = Reader::new(Reader::new(frame).take(SEQUENCE, "a message")?);
    let id = message.number(INTEGER, "a message id")?;
    Ok((id, Request::of_tag(message.next()?.0)))
}

/// What a message of the server's is; `pending` says which request has this number.
pub(super) fn answer(frame: &[u8], pending: impl Fn(u32) -> Option<Request>) -> Result<(u32, Answer), Broken> {
    let mut outer = Reader::new(frame);
    let mut message = Reader::new(outer.take(SEQUENCE, "a message")?);
    outer.end("nothing behind a message")?;
    let id = message.number(INTEGER, "a message id")?;
    let (tag, body) = message.next()?;
    if id == 0 {
        return if tag == EXTENDED_RESPONSE { Ok((id, Answer::Disconnection)) } else { Err(Broken("an answer")) };
    }
    if !message.is_at_end() {
        controls(message.take(0xa0, "controls")?)?;
        message.end("nothing behind controls")?;
    }
    let request = pending(id).ok_or(Broken("an answer to a question that was asked"))?;
    let answer = match (request, tag) {
        (Request::Bind, BIND_RESPONSE) | (Request::Search, SEARCH_DONE) | (Request::Extended, EXTENDED_RESPONSE) => {
            Answer::Last(result(body)?)
        }
        (Request::Search, SEARCH_ENTRY) => entry(body).map(|()| Answer::Part)?,
        (Request::Search, SEARCH_REFERENCE) => references(body).map(|()| Answer::LeftOut)?,
        (_, INTERMEDIATE) => Answer::LeftOut,
        _ => return Err(Broken("an answer to the question that was asked")),
    };
    Ok((id, answer))
}

fn result(body: &[u8]) -> Result<u32, Broken> {
    let mut result = Reader::new(body);
    let code = result.number(ENUMERATED, "a result code")?;
    result.text("a matched DN")?;
    result.text("a diagnostic message")?;
    while !result.is_at_end() {
        match result.next()? {
            (0xa3, content) => references(content)?,
            (0x8a, content) => drop(std::str::from_utf8(content).map_err(|_| Broken("a name in UTF-8"))?),
            (0x87 | 0x8b, _) => {}
            _ => return Err(Broken("a result")),
        }
    }
    Ok(code)
}

fn entry(body: &[u8]) -> Result<(), Broken> {
    let mut entry = Reader::new(body);
    entry.text("a DN in UTF-8")?;
    let mut attributes = Reader::new(entry.take(SEQUENCE, "attributes")?);
    entry.end("nothing behind attributes")?;
    while !attributes.is_at_end() {
        let mut attribute = Reader::new(attributes.take(SEQUENCE, "an attribute")?);
        attribute.text("the name of an attribute")?;
        let mut values = Reader::new(attribute.take(SET, "values")?);
        attribute.end("nothing behind values")?;
        while !values.is_at_end() {
            values.take(OCTETS, "a value")?;
        }
    }
    Ok(())
}

fn references(body: &[u8]) -> Result<(), Broken> {
    let mut references = Reader::new(body);
    while !references.is_at_end() {
        references.text("an address")?;
    }
    Ok(())
}

fn controls(body: &[u8]) -> Result<(), Broken> {
    let mut controls = Reader::new(body);
    while !controls.is_at_end() {
        let mut control = Reader::new(controls.take(SEQUENCE, "a control")?);
        control.text("the name of a control")?;
        if control.is_at_end() {
            continue;
        }
        let (mut tag, mut content) = control.next()?;
        if tag == BOOLEAN {
            if content.len() != 1 {
                return Err(Broken("true or false"));
            }
            if control.is_at_end() {
                continue;
            }
            (tag, content) = control.next()?;
        }
        let _ = content;
        if tag != OCTETS {
            return Err(Broken("the value of a control"));
        }
        control.end("nothing behind the value of a control")?;
    }
    Ok(())
}

/// What the control of paged results says (RFC 2696, section 2): the cookie to go on with, empty at the end.
pub(super) fn page_cookie(value: &[u8]) -> Result<Vec<u8>, Broken> {
    let mut outer = Reader::new(value);
    let mut page = Reader::new(outer.take(SEQUENCE, "a page")?);
    page.number(INTEGER, "the size of all pages")?;
    Ok(page.take(OCTETS, "the cookie of a page")?.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut bytes = vec![tag, 0x82, (length >> 8) as u8, length as u8];
        bytes.extend_from_slice(content);
        bytes
    }

    fn message(id: u8, op: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[&[INTEGER, 1, id], op].concat())
    }

    fn done(code: u8) -> Vec<u8> {
        element(SEARCH_DONE, &[&[ENUMERATED, 1, code][..], &element(OCTETS, b""), &element(OCTETS, b"text")].concat())
    }

    fn found() -> Vec<u8> {
        let values = element(SET, &[element(OCTETS, b"ada"), element(OCTETS, &[0xff, 0])].concat());
        let attribute = element(SEQUENCE, &[element(OCTETS, b"uid"), values].concat());
        element(SEARCH_ENTRY, &[element(OCTETS, b"uid=ada"), element(SEQUENCE, &attribute)].concat())
    }

    fn of_search(frame: &[u8]) -> Result<(u32, Answer), Broken> {
        answer(frame, |id| (id == 3).then_some(Request::Search))
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(of_search(&message(3, &done(4))), Ok((3, Answer::Last(4))));
        assert_eq!(of_search(&message(3, &found())), Ok((3, Answer::Part)));
        let reference = element(SEARCH_REFERENCE, &element(OCTETS, b"ldap://elsewhere/"));
        assert_eq!(of_search(&message(3, &reference)), Ok((3, Answer::LeftOut)));
        assert_eq!(of_search(&message(0, &element(EXTENDED_RESPONSE, b"any"))), Ok((0, Answer::Disconnection)));
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let bind =
            element(BIND_RESPONSE, &[&[ENUMERATED, 1, 0][..], &element(OCTETS, b""), &element(OCTETS, b"")].concat());
        for frame in [message(4, &done(0)), message(3, &bind), message(3, &element(0x69, b"")), message(0, &done(0))] {
            assert!(of_search(&frame).is_err(), "{frame:?}");
        }
    }

    #[test]
    fn elements_deep_in_each_other_are_refused_without_going_down() {
        let mut deep = Vec::new();
        for _ in 0..10_000 {
            deep = element(0x24, &deep[..deep.len().min(60_000)]);
        }
        let entry = element(SEARCH_ENTRY, &[deep, element(SEQUENCE, b"")].concat());
        assert_eq!(of_search(&message(3, &entry)), Err(Broken("a DN in UTF-8")));
    }

    proptest! {
        #[test]
        fn changed_bytes_are_read_or_refused(at in 0_usize..200, byte in any::<u8>(), cut in 0_usize..200) {
            for op in [done(0), found()] {
                let mut frame = message(3, &op);
                let place = at % frame.len();
                frame[place] = byte;
                frame.truncate(cut.max(1));
                let _ = of_search(&frame);
                let _ = page_cookie(&frame);
            }
        }
    }
}
