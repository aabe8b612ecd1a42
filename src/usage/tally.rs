//! What became of many events, in bounded memory: counts, and of each that was not accepted its place and why.

use serde_json::{Value, json};

use super::recording::{Outcome, Recorded, Refusal};
use crate::error::Error;

/// Events that are told of one by one; further ones are counted.
const TOLD: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Tally {
    accepted: usize,
    duplicates: usize,
    refused: usize,
    results: Vec<Value>,
    /// Why the rest was not looked at. What is counted here is counted.
    pub(super) broken_off: Option<Error>,
}

impl Tally {
    pub(super) fn of(recorded: &Recorded) -> Self {
        let mut tally = Self::default();
        tally.add(recorded);
        tally
    }

    /// Those that follow the ones before. Places are from 0 on.
    pub(super) fn add(&mut self, recorded: &Recorded) {
        for outcome in &recorded.0 {
            let index = self.events();
            let told = match outcome {
                Outcome::Accepted => {
                    self.accepted += 1;
                    continue;
                }
                Outcome::Duplicate => {
                    self.duplicates += 1;
                    json!({ "index": index, "status": "duplicate" })
                }
                Outcome::Refused(Refusal { kind, field, message }) => {
                    self.refused += 1;
                    json!({ "index": index, "status": "refused", "code": kind.code(), "field": field, "message": message })
                }
            };
            if self.results.len() < TOLD {
                self.results.push(told);
            }
        }
    }

    fn events(&self) -> usize {
        self.accepted + self.duplicates + self.refused
    }

    pub(super) fn is_for_nothing(&self) -> bool {
        self.refused > 0 && self.refused == self.events()
    }

    pub(super) fn body(&self) -> Value {
        let omitted = self.duplicates + self.refused - self.results.len();
        let mut body = json!({
            "accepted": self.accepted, "duplicates": self.duplicates, "refused": self.refused, "results": self.results
        });
        if omitted > 0 {
            body["resultsOmitted"] = json!(omitted);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_go_on_and_what_is_told_is_bounded() {
        let mut tally = Tally::default();
        tally.add(&Recorded(vec![Outcome::Accepted, Outcome::Duplicate]));
        tally.add(&Recorded(vec![Outcome::Duplicate; TOLD]));
        let body = tally.body();
        assert_eq!((&body["results"][0]["index"], &body["results"][1]["index"]), (&json!(1), &json!(2)));
        assert_eq!((body["results"].as_array().unwrap().len(), &body["resultsOmitted"]), (TOLD, &json!(1)));
        assert!(!tally.is_for_nothing());
    }
}
