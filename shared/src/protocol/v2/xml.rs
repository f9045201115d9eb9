//! The strict reader of flat XML: one root element with one level of fields, each name at most once.
//!
//! Signer and verifier must never see different values in one body, so everything on which parsers disagree is
//! rejected: DOCTYPE, processing instructions, comments, attributes, nesting, repeated names, unknown entities, a
//! second root, text outside fields. Values stay as they are: nothing is trimmed or normalised.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::protocol::limits::{BODY_BYTES_MAX, SINGLE_BODY_BYTES_MAX};
use crate::protocol::trust::Unverified;

/// The most fields of one callback. The documented ones and a wallet full of coupons are below 60.
pub const FIELDS_MAX: usize = 128;

/// `<></>` and `<![CDATA[]]>`.
const FIELD_MARKUP_BYTES: usize = 17;
/// How much of a body may be blanks, empty fields and needless markup, in bytes. No signature covers them, so one old callback
/// could be resent in many sizes; WeChat Pay's own callbacks have a few dozen.
const PADDING_BYTES_MAX: usize = 2 * 1024;

/// The fields of one body, sorted by name as the signature requires.
#[derive(Debug)]
pub struct Fields<'body>(Vec<Field<'body>>);

/// Name and value.
type Field<'body> = (Name<'body>, Cow<'body, str>);

/// The name of a field, with its tag, so that nothing is copied.
#[derive(Debug)]
struct Name<'body>(BytesStart<'body>);

impl<'body> Name<'body> {
    /// An ASCII letter or `_`, then letters, digits, `_`, `-` and `.`, and no attributes. A name with `=` or `&` in it would
    /// let one signed text mean two sets of fields.
    fn parse(start: BytesStart<'body>) -> Result<Self, XmlError> {
        no_attributes(&start)?;
        let name = start.name().into_inner();
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        if is_name { Ok(Self(start)) } else { Err(XmlError::Name) }
    }

    fn as_str(&self) -> &str {
        self.0.name().into_inner()
    }

    fn into_owned(self) -> Name<'static> {
        Name(self.0.into_owned())
    }
}

impl Fields<'_> {
    /// The value of `name`; `None` when the field is absent or empty, which WeChat Pay's signature does not distinguish.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| value.as_ref()).filter(|value| !value.is_empty())
    }

    /// The same fields, kept on their own.
    pub(super) fn into_owned(self) -> Fields<'static> {
        Fields(self.0.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect())
    }

    /// How many bytes of a body of `body_bytes` are not content: blanks, empty fields, needless markup. `content_bytes` says how
    /// many bytes the value of a field may take.
    pub(super) fn padding(&self, body_bytes: usize, content_bytes: impl Fn(&str, &str) -> usize) -> usize {
        let room = |(name, value): (&str, &str)| match content_bytes(name, value) {
            0 => 0,
            bytes => bytes.saturating_add(name.len().saturating_mul(2)).saturating_add(FIELD_MARKUP_BYTES),
        };
        body_bytes.saturating_sub(self.iter().map(room).fold(0, usize::saturating_add))
    }

    /// Every field in byte order of the names, the empty ones included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_ref()))
    }
}

impl<'body> Unverified<Fields<'body>> {
    /// What the body claims `name` to be: good for choosing a key, for nothing else.
    #[must_use]
    pub fn claimed(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// Rejects a body with more than a little padding, as [`Fields::padding`] counts it.
    pub(super) fn within_reason(
        &self,
        body: &[u8],
        content_bytes: impl Fn(&str, &str) -> usize,
    ) -> Result<(), XmlError> {
        if self.0.padding(body.len(), content_bytes) > PADDING_BYTES_MAX { Err(XmlError::Padded) } else { Ok(()) }
    }

    pub(super) fn into_inner(self) -> Fields<'body> {
        self.0
    }

    pub(super) fn inner(&self) -> &Fields<'body> {
        &self.0
    }
}

/// Why a body is not a flat XML callback.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// More than [`BODY_BYTES_MAX`] bytes, or [`SINGLE_BODY_BYTES_MAX`] if it is about one order.
    #[error("body over {BODY_BYTES_MAX} bytes, or {SINGLE_BODY_BYTES_MAX} of one order")]
    TooLarge,
    /// Over `PADDING_BYTES_MAX` bytes that WeChat Pay neither signed nor sealed.
    #[error("over {PADDING_BYTES_MAX} bytes of blanks, empty fields and markup")]
    Padded,
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Not well-formed XML.
    #[error("not well-formed XML")]
    IllFormed,
    /// An XML declaration that names an encoding other than UTF-8.
    #[error("declared encoding is not UTF-8")]
    Encoding,
    /// A DOCTYPE, processing instruction or comment.
    #[error("markup that a callback never has: {0}")]
    Markup(&'static str),
    /// The root element has the wrong name, or there are two.
    #[error("not exactly one root element of the right name")]
    Root,
    /// A field name that WeChat Pay would not use.
    #[error("invalid field name")]
    Name,
    /// An element with attributes.
    #[error("attributes on an element")]
    Attributes,
    /// An element inside a field.
    #[error("an element inside a field")]
    Nested,
    /// Text between fields or outside the root.
    #[error("text outside the fields")]
    StrayText,
    /// The same field twice.
    #[error("duplicate field")]
    Repeated,
    /// More than [`FIELDS_MAX`] fields.
    #[error("over {FIELDS_MAX} fields")]
    TooManyFields,
    /// An entity other than the five predefined ones and numeric references.
    #[error("an unknown entity")]
    Entity,
    /// A character that XML 1.0 does not allow.
    #[error("a forbidden control character")]
    Control,
}

/// Reads a body into its fields.
///
/// # Errors
/// Names the first thing that a callback from WeChat Pay never has.
pub fn read(body: &[u8]) -> Result<Unverified<Fields<'_>>, XmlError> {
    read_under("xml", body)
}

/// The same under another root element.
pub(super) fn read_under<'body>(root: &str, body: &'body [u8]) -> Result<Unverified<Fields<'body>>, XmlError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(XmlError::TooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| XmlError::NotUtf8)?;
    if has_forbidden(text) {
        return Err(XmlError::Control);
    }
    let mut reader = Reader::from_str(text);
    find_root(&mut reader, root)?;
    let mut fields = read_fields(&mut reader)?;
    expect_end(&mut reader)?;

    fields.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    if fields.array_windows().any(|[(one, _), (next, _)]| one.as_str() == next.as_str()) {
        return Err(XmlError::Repeated);
    }
    Ok(Unverified(Fields(fields)))
}

/// Reads up to and including the start of the root element.
fn find_root(reader: &mut Reader<&[u8]>, name: &str) -> Result<(), XmlError> {
    let mut declared = false;
    loop {
        match next(reader)? {
            Event::Decl(declaration) if !declared => {
                declared = true;
                let encoding = declaration.encoding().transpose().map_err(|_| XmlError::IllFormed)?;
                if encoding.is_some_and(|name| !name.eq_ignore_ascii_case("utf-8")) {
                    return Err(XmlError::Encoding);
                }
            }
            Event::Text(text) if is_blank(&text) => {}
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => return Err(XmlError::StrayText),
            Event::Start(root) if root.name().as_ref() == name => return no_attributes(&root),
            Event::Start(_) | Event::Empty(_) | Event::End(_) | Event::Eof => return Err(XmlError::Root),
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => return Err(XmlError::IllFormed),
        }
    }
}

/// Reads up to and including the end of the root element.
fn read_fields<'body>(reader: &mut Reader<&'body [u8]>) -> Result<Vec<Field<'body>>, XmlError> {
    let mut fields = Vec::with_capacity(32);
    loop {
        let field = match next(reader)? {
            Event::Start(start) => (Name::parse(start)?, read_value(reader)?),
            Event::Empty(start) => (Name::parse(start)?, Cow::Borrowed("")),
            Event::End(_) => return Ok(fields),
            Event::Text(text) if is_blank(&text) => continue,
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => return Err(XmlError::StrayText),
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) | Event::Eof => {
                return Err(XmlError::IllFormed);
            }
        };
        if fields.len() == FIELDS_MAX {
            return Err(XmlError::TooManyFields);
        }
        fields.push(field);
    }
}

/// The text of one field up to its end tag: CDATA, text and references in any order, joined.
fn read_value<'body>(reader: &mut Reader<&'body [u8]>) -> Result<Cow<'body, str>, XmlError> {
    let mut value = Cow::Borrowed("");
    loop {
        match next(reader)? {
            Event::Text(text) => append(&mut value, text.into_inner()),
            Event::CData(text) => append(&mut value, text.into_inner()),
            Event::GeneralRef(reference) => append(&mut value, resolve(&reference)?),
            Event::End(_) => return Ok(value),
            Event::Start(_) | Event::Empty(_) => return Err(XmlError::Nested),
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) | Event::Eof => {
                return Err(XmlError::IllFormed);
            }
        }
    }
}

/// Only blanks up to the end of the body.
fn expect_end(reader: &mut Reader<&[u8]>) -> Result<(), XmlError> {
    loop {
        match next(reader)? {
            Event::Eof => return Ok(()),
            Event::Text(text) if is_blank(&text) => {}
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => return Err(XmlError::StrayText),
            Event::Start(_) | Event::Empty(_) | Event::End(_) => return Err(XmlError::Root),
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => return Err(XmlError::IllFormed),
        }
    }
}

/// The next event; markup that a callback never has is rejected here, wherever it occurs.
fn next<'body>(reader: &mut Reader<&'body [u8]>) -> Result<Event<'body>, XmlError> {
    match reader.read_event().map_err(|_| XmlError::IllFormed)? {
        Event::DocType(_) => Err(XmlError::Markup("DOCTYPE")),
        Event::PI(_) => Err(XmlError::Markup("processing instruction")),
        Event::Comment(_) => Err(XmlError::Markup("comment")),
        event => Ok(event),
    }
}

fn no_attributes(start: &BytesStart<'_>) -> Result<(), XmlError> {
    if is_blank(start.attributes_raw()) { Ok(()) } else { Err(XmlError::Attributes) }
}

fn append<'body>(value: &mut Cow<'body, str>, segment: Cow<'body, str>) {
    if value.is_empty() {
        *value = segment;
    } else {
        value.to_mut().push_str(&segment);
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<Cow<'static, str>, XmlError> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| XmlError::Entity)? {
        return if is_forbidden(character) { Err(XmlError::Control) } else { Ok(character.to_string().into()) };
    }
    quick_xml::escape::resolve_predefined_entity(reference).map(Cow::Borrowed).ok_or(XmlError::Entity)
}

/// How many bytes `value` may take in a body: every character that is markup or outside ASCII as a reference, as in `&#38;`
/// and `&#20013;`.
pub(super) fn escaped_bytes(value: &str) -> usize {
    let bytes = value.bytes().map(|byte| match byte {
        b'&' | b'<' | b'>' | b'"' | b'\'' => 6,
        0x80.. => 3,
        _ => 1,
    });
    bytes.sum()
}

fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Whether any character is forbidden. ASCII is scanned to its end: without an early exit the compiler handles many bytes at
/// once.
fn has_forbidden(text: &str) -> bool {
    if text.is_ascii() {
        text.bytes().fold(false, |found, byte| found | is_forbidden(byte.into()))
    } else {
        text.chars().any(is_forbidden)
    }
}

/// Outside the `Char` production of XML 1.0 (<https://www.w3.org/TR/xml/#charsets>).
fn is_forbidden(character: char) -> bool {
    matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}
