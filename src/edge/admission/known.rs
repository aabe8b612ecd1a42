//! Requests that were valid before.
//!
//! Whether a request fits the schema depends on its document, its variables and the operation that it names alone, so the same bytes
//! are valid again. Kept is what was found out, nothing of what was sent; where a place is taken, the newer request has it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Admitted, Digest, Document};

const PLACES: usize = 4096;

#[derive(Debug)]
struct Place {
    request: Digest,
    /// Lives as long as the cache of documents keeps it.
    document: Weak<Document>,
    complexity: usize,
    position: usize,
}

#[derive(Debug)]
pub(super) struct Known {
    places: Box<[Mutex<Option<Place>>]>,
}

impl Default for Known {
    fn default() -> Self {
        Self { places: std::iter::repeat_with(Mutex::default).take(PLACES).collect() }
    }
}

impl Known {
    pub(super) fn recall(&self, request: &Digest) -> Option<Admitted> {
        let place = self.place(request).lock().unwrap_or_else(PoisonError::into_inner);
        let known = place.as_ref().filter(|known| known.request == *request)?;
        let document = known.document.upgrade()?;
        Some(Admitted { document, complexity: known.complexity, is_known: true, position: known.position })
    }

    pub(super) fn remember(&self, request: Digest, admitted: &Admitted) {
        let Admitted { document, complexity, position, .. } = admitted;
        let known = Place { request, document: Arc::downgrade(document), complexity: *complexity, position: *position };
        *self.place(&request).lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    fn place(&self, request: &Digest) -> &Mutex<Option<Place>> {
        let [first, second, ..] = *request;
        &self.places[usize::from(u16::from_be_bytes([first, second])) % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::Variables;

    use super::{
        super::{Admission, Limits, sha256},
        *,
    };

    fn admission() -> Admission {
        Admission::new("type Query { a: Int b: Int }", Limits::default())
    }

    fn admitted(admission: &Admission, query: &str, operation: Option<&str>) -> Admitted {
        admission.admit(query, operation, &Variables::default()).unwrap()
    }

    #[test]
    fn a_request_is_known_by_all_of_its_bytes() {
        let admission = admission();
        let second = admitted(&admission, "query A { a } query B { b }", Some("B"));
        assert!(!second.is_known);
        admission.remember(sha256(b"B"), &second);
        assert!(admission.recall(&sha256(b"A")).is_none());
        let again = admission.recall(&sha256(b"B")).unwrap();
        assert!(again.is_known);
        assert_eq!(again.operation().name.as_deref(), Some("B"));
        assert_eq!((again.complexity, again.position), (second.complexity, second.position));
    }

    #[test]
    fn a_document_is_not_kept_for_it() {
        let admission = admission();
        let document = Arc::new(admission.measured("{ a }").unwrap());
        let admitted = Admitted { document, complexity: 1, is_known: false, position: 0 };
        admission.remember(sha256(b"1"), &admitted);
        assert!(admission.recall(&sha256(b"1")).is_some());
        drop(admitted);
        assert!(admission.recall(&sha256(b"1")).is_none());
    }
}
