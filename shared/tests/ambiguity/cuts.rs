//! The ways to cut a signed text into fields.

use super::Fields;

/// `text` cut where each of these names is next; what stands before the first is cut as it was.
pub fn cut_at_names(text: &str, names: &[&str]) -> Fields {
    let mut starts = vec![0];
    for name in names {
        let from = *starts.last().unwrap();
        starts.push(from + text[from..].find(&format!("&{name}=")).unwrap() + 1);
    }
    cut_at(text, &starts)
}

/// Where a field may begin.
pub fn boundaries(text: &str) -> Vec<usize> {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let begins = |at: usize| text[at..].split_once('=').is_some_and(|(name, _)| is_name(name));
    text.match_indices('&').map(|(at, _)| at + 1).filter(|at| begins(*at)).collect()
}

fn cut_at(text: &str, starts: &[usize]) -> Fields {
    let ends = starts.iter().skip(1).map(|start| start - 1).chain([text.len()]);
    let field = |(start, end): (&usize, usize)| text[*start..end].split_once('=').unwrap();
    starts.iter().zip(ends).map(field).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Cut at the boundaries that are chosen, as long as the names go on in their order and no value is empty.
pub fn some_cut(text: &str, chosen: &[bool]) -> Fields {
    let mut starts = vec![0];
    let name_at = |at: usize| text[at..].split('=').next().unwrap();
    for (at, _) in boundaries(text).into_iter().zip(chosen).filter(|(_, chosen)| **chosen) {
        let last = *starts.last().unwrap();
        // `name=` and nothing behind it is no field of a signed text.
        if name_at(last) < name_at(at) && !text[..at - 1].ends_with('=') {
            starts.push(at);
        }
    }
    cut_at(text, &starts)
}

pub fn every_cut(text: &str, boundaries: &[usize], before: &Fields, start: usize, cuts: &mut Vec<Fields>) {
    let (name, _) = text[start..].split_once('=').unwrap();
    let value_at = start + name.len() + 1;
    if before.keys().next_back().is_some_and(|last| last.as_str() >= name) {
        return;
    }
    let with = |value: &str| {
        let mut fields = before.clone();
        fields.insert(name.to_owned(), value.to_owned());
        fields
    };
    if value_at < text.len() {
        cuts.push(with(&text[value_at..]));
    }
    let mut left = boundaries;
    while let [at, behind @ ..] = left {
        if *at > value_at + 1 {
            every_cut(text, behind, &with(&text[value_at..at - 1]), *at, cuts);
        }
        left = behind;
    }
}
