//! Hostile XML is refused, and what is not hostile keeps every byte of its values.
#![expect(clippy::panic, reason = "helpers of tests fail like tests")]

use std::time::{Duration, Instant};

use shared::protocol::v2::xml::{FIELDS_MAX, XmlError, read};
use shared::protocol::{BODY_BYTES_MAX, Unverified};

#[test]
fn markup_that_a_callback_never_has_is_refused() {
    let cases: [(&str, &str, XmlError); 54] = [
        ("nothing", "", XmlError::Root),
        ("blanks", " \n", XmlError::Root),
        ("no markup", "SUCCESS", XmlError::StrayText),
        ("another root", "<html><a>1</a></html>", XmlError::Root),
        ("the root in capitals", "<XML><a>1</a></XML>", XmlError::Root),
        ("a root in a name space", "<x:xml><a>1</a></x:xml>", XmlError::Root),
        ("an empty root that closes itself", "<xml/>", XmlError::Root),
        ("a second root", "<xml><a>1</a></xml><xml><a>2</a></xml>", XmlError::Root),
        ("a second, empty root", "<xml><a>1</a></xml><xml/>", XmlError::Root),
        ("text before the root", "x<xml><a>1</a></xml>", XmlError::StrayText),
        ("text after the root", "<xml><a>1</a></xml>x", XmlError::StrayText),
        ("CDATA after the root", "<xml><a>1</a></xml><![CDATA[x]]>", XmlError::StrayText),
        ("an entity after the root", "<xml><a>1</a></xml>&lt;", XmlError::StrayText),
        ("an end tag after the root", "<xml><a>1</a></xml></xml>", XmlError::IllFormed),
        ("text between the fields", "<xml><a>1</a>x<b>2</b></xml>", XmlError::StrayText),
        ("CDATA between the fields", "<xml><![CDATA[x]]><a>1</a></xml>", XmlError::StrayText),
        ("an entity between the fields", "<xml>&amp;<a>1</a></xml>", XmlError::StrayText),
        ("a DOCTYPE", "<!DOCTYPE xml><xml><a>1</a></xml>", XmlError::Markup("DOCTYPE")),
        (
            "an external entity",
            "<!DOCTYPE xml [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><xml><a>&e;</a></xml>",
            XmlError::Markup("DOCTYPE"),
        ),
        ("a DOCTYPE inside the root", "<xml><!DOCTYPE a><a>1</a></xml>", XmlError::Markup("DOCTYPE")),
        ("a processing instruction", "<?php x?><xml><a>1</a></xml>", XmlError::Markup("processing instruction")),
        ("one inside a value", "<xml><a>1<?p x?>2</a></xml>", XmlError::Markup("processing instruction")),
        ("a comment before the root", "<!-- x --><xml><a>1</a></xml>", XmlError::Markup("comment")),
        ("a comment that cuts a value", "<xml><a>1<!-- x -->2</a></xml>", XmlError::Markup("comment")),
        ("a comment after the root", "<xml><a>1</a></xml><!-- x -->", XmlError::Markup("comment")),
        ("a declaration after the start", "<xml><?xml version=\"1.0\"?><a>1</a></xml>", XmlError::IllFormed),
        ("two declarations", "<?xml version=\"1.0\"?><?xml version=\"1.0\"?><xml><a>1</a></xml>", XmlError::IllFormed),
        ("another encoding", "<?xml version=\"1.0\" encoding=\"gbk\"?><xml><a>1</a></xml>", XmlError::Encoding),
        ("attributes on the root", "<xml xmlns=\"urn:x\"><a>1</a></xml>", XmlError::Attributes),
        ("attributes on a field", "<xml><a type=\"int\">1</a></xml>", XmlError::Attributes),
        ("attributes on an empty field", "<xml><a type=\"int\"/></xml>", XmlError::Attributes),
        ("nesting", "<xml><a><b>1</b></a></xml>", XmlError::Nested),
        ("an empty element inside a field", "<xml><a>1<b/></a></xml>", XmlError::Nested),
        ("a field twice", "<xml><a>1</a><b>2</b><a>3</a></xml>", XmlError::Repeated),
        ("a field twice with one value", "<xml><a>1</a><a>1</a></xml>", XmlError::Repeated),
        ("a field twice, once empty", "<xml><a/><a>1</a></xml>", XmlError::Repeated),
        ("a field twice, once with a blank in its tag", "<xml><a >1</a><a>2</a></xml>", XmlError::Repeated),
        ("the same with a field between", "<xml><a\n>1</a><b>2</b><a>3</a></xml>", XmlError::Repeated),
        ("an empty field twice, once with a blank", "<xml><a/><a /></xml>", XmlError::Repeated),
        ("a field without a name", "<xml><>1</></xml>", XmlError::Name),
        ("an empty field without a name", "<xml>< /></xml>", XmlError::Name),
        ("an unknown entity", "<xml><a>&nbsp;</a></xml>", XmlError::Entity),
        ("a reference to NUL", "<xml><a>&#0;</a></xml>", XmlError::Entity),
        ("a reference to a control character", "<xml><a>&#x1b;</a></xml>", XmlError::Control),
        ("a reference beyond Unicode", "<xml><a>&#x110000;</a></xml>", XmlError::Entity),
        ("a reference to a surrogate", "<xml><a>&#xd800;</a></xml>", XmlError::Entity),
        ("NUL", "<xml><a>\0</a></xml>", XmlError::Control),
        ("a control character in CDATA", "<xml><a><![CDATA[\u{1b}]]></a></xml>", XmlError::Control),
        ("a control character after Chinese", "<xml><a>支付\u{1b}</a></xml>", XmlError::Control),
        ("a character that is none", "<xml><a>\u{fffe}</a></xml>", XmlError::Control),
        ("an unclosed root", "<xml><a>1</a>", XmlError::IllFormed),
        ("an unclosed field", "<xml><a>1", XmlError::IllFormed),
        ("crossed tags", "<xml><a>1</b></xml>", XmlError::IllFormed),
        ("unclosed CDATA", "<xml><a><![CDATA[1</a></xml>", XmlError::IllFormed),
    ];
    for (name, body, expected) in cases {
        assert_eq!(refusal(body.as_bytes()), Some(expected), "{name}: {body}");
    }
}

#[test]
fn a_field_is_named_as_wechat_pay_names_fields() {
    for name in ["a&amp;b", "a&b", "a=b", "1a", "支付", "a'b", "a\"b", "a,b"] {
        let body = format!("<xml><{name}>1</{name}></xml>");
        assert!(refusal(body.as_bytes()).is_some(), "{body}");
    }
    for name in ["a", "_a", "total_fee", "coupon_id_0", "A1"] {
        let body = format!("<xml><{name}>1</{name}></xml>");
        assert_eq!(value(&body, name), "1", "{body}");
    }
}

#[test]
fn blanks_in_a_tag_are_no_part_of_the_name() {
    let body = "<xml><b >2</b><a\n>1</a><ab/><c\t/><aa>3</aa></xml>";
    for (name, expected) in [("a", "1"), ("b", "2"), ("aa", "3")] {
        assert_eq!(value(body, name), expected, "{name}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    assert_eq!(refusal(b"<xml><a>\xd6\xd0</a></xml>"), Some(XmlError::NotUtf8));
    assert_eq!(refusal(b"\xff\xfe<\0x\0m\0l\0>\0"), Some(XmlError::NotUtf8));
}

#[test]
fn a_byte_order_mark_changes_nothing() {
    assert_eq!(value("\u{feff}<xml><a>1</a></xml>", "a"), "1");
    assert_eq!(value("<xml><a>\u{feff}1</a></xml>", "a"), "\u{feff}1", "inside a value it is a character");
}

#[test]
fn a_body_may_have_as_many_fields_as_the_limit_and_not_one_more() {
    let body = |count: usize| {
        let fields: Vec<String> = (0..count).map(|number| format!("<f{number}>1</f{number}>")).collect();
        format!("<xml>{}</xml>", fields.concat()).into_bytes()
    };
    assert_eq!(refusal(&body(FIELDS_MAX)), None);
    assert_eq!(refusal(&body(FIELDS_MAX + 1)), Some(XmlError::TooManyFields));
}

#[test]
fn a_body_may_have_as_many_bytes_as_the_limit_and_not_one_more() {
    let body = |length: usize| {
        let (start, end) = ("<xml><a>", "</a></xml>");
        format!("{start}{}{end}", "x".repeat(length - start.len() - end.len())).into_bytes()
    };
    assert_eq!(refusal(&body(BODY_BYTES_MAX)), None);
    assert_eq!(refusal(&body(BODY_BYTES_MAX + 1)), Some(XmlError::TooLarge));
}

#[test]
fn values_keep_every_byte_in_whatever_way_they_are_written() {
    let cases = [
        ("bare", "<a>1999</a>", "1999"),
        ("CDATA", "<a><![CDATA[1999]]></a>", "1999"),
        ("blanks at both ends", "<a>  x\t </a>", "  x\t "),
        ("blanks only", "<a> </a>", " "),
        ("blanks in CDATA", "<a><![CDATA[ x ]]></a>", " x "),
        ("line ends", "<a>\nx\ny\n</a>", "\nx\ny\n"),
        ("Windows line ends", "<a>x\r\ny\r</a>", "x\r\ny\r"),
        ("predefined entities", "<a>&lt;&gt;&amp;&quot;&apos;</a>", "<>&\"'"),
        ("numeric references", "<a>&#65;&#x4e2D;&#x1F600;&#10;</a>", "A中😀\n"),
        ("entities are no entities in CDATA", "<a><![CDATA[&lt;&nbsp;&#0;]]></a>", "&lt;&nbsp;&#0;"),
        ("markup is text in CDATA", "<a><![CDATA[<b>1</b><!-- c --><?p?>]]></a>", "<b>1</b><!-- c --><?p?>"),
        ("JSON in CDATA", "<a><![CDATA[{\"id\":[1,2],\"x\":\"&\"}]]></a>", "{\"id\":[1,2],\"x\":\"&\"}"),
        ("CDATA in two pieces", "<a><![CDATA[1]]><![CDATA[2]]></a>", "12"),
        ("CDATA that holds its own end", "<a><![CDATA[]]]]><![CDATA[>]]></a>", "]]>"),
        ("text, CDATA and entities mixed", "<a>x<![CDATA[<y>]]>&amp;z<![CDATA[]]>&#33;</a>", "x<y>&z!"),
        ("an entity first", "<a>&amp;x</a>", "&x"),
        ("an ampersand twice escaped", "<a>&amp;lt;</a>", "&lt;"),
        ("Chinese and emoji", "<a>支付成功😀</a>", "支付成功😀"),
        ("an end tag with a blank", "<a>1</a >", "1"),
        ("a start tag with a blank", "<a >1</a>", "1"),
        ("a single >", "<a>1>2</a>", "1>2"),
    ];
    for (name, field, expected) in cases {
        for body in [format!("<xml>{field}</xml>"), format!("<xml>\n  {field}\r\n\t</xml>\n")] {
            assert_eq!(value(&body, "a"), expected, "{name}: {body}");
        }
    }
}

#[test]
fn a_declaration_is_welcome_when_it_says_utf8_or_nothing() {
    for declaration in ["", " encoding=\"UTF-8\"", " encoding='utf-8'", " encoding=\"utf-8\" standalone=\"yes\""] {
        assert_eq!(value(&format!("<?xml version=\"1.0\"{declaration}?>\n<xml><a>1</a></xml>"), "a"), "1");
    }
}

#[test]
fn an_empty_field_counts_as_absent() {
    for field in ["<a></a>", "<a/>", "<a />", "<a><![CDATA[]]></a>"] {
        let body = format!("<xml>{field}<b>1</b></xml>");
        assert_eq!(accepted(body.as_bytes()).claimed("a"), None, "{body}");
        assert_eq!(accepted(body.as_bytes()).claimed("b"), Some("1"), "{body}");
    }
}

#[test]
fn a_body_without_fields_is_read_as_one() {
    assert_eq!(accepted(b"<xml></xml>").claimed("a"), None);
}

/// A reader that takes quadratic time needs seconds for the worst of these; this one needs milliseconds.
#[test]
fn no_body_within_the_limit_costs_more_than_an_instant() {
    let fill = |piece: &str| piece.repeat(BODY_BYTES_MAX / piece.len());
    let inside = |start: &str, piece: &str, end: &str| {
        format!("{start}{}{end}", piece.repeat((BODY_BYTES_MAX - start.len() - end.len()) / piece.len()))
    };
    let attributes = (0..6000).map(|number| format!(" a{number}=\"\"")).collect::<Vec<_>>().concat();
    let cases = [
        ("deep nesting", fill("<a>")),
        ("deep nesting of the root", fill("<xml>")),
        ("entities", inside("<xml><a>", "&amp;", "</a></xml>")),
        ("numeric references", inside("<xml><a>", "&#65;", "</a></xml>")),
        ("one endless reference", inside("<xml><a>&#", "0", "65;</a></xml>")),
        ("CDATA pieces", inside("<xml><a>", "<![CDATA[x]]>", "</a></xml>")),
        ("unclosed CDATA starts", inside("<xml><a>", "<![CDATA[", "")),
        ("square brackets", inside("<xml><a><![CDATA[", "]", "]]></a></xml>")),
        ("empty fields", inside("<xml>", "<a/>", "</xml>")),
        ("attributes on the root", format!("<xml{attributes}></xml>")),
        ("attributes on a field", format!("<xml><a{attributes}/></xml>")),
        ("one long name", inside("<xml><", "a", "/></xml>")),
        ("opening brackets", fill("<")),
        ("ampersands", fill("&")),
        ("unclosed comments", fill("<!--")),
        ("unclosed declarations", fill("<!D[")),
        ("blanks", inside("<xml>", " ", "</xml>")),
        ("blanks after the root", inside("<xml></xml>", "\n", "")),
    ];
    for (name, body) in cases {
        assert!(body.len() <= BODY_BYTES_MAX, "{name} is too long to test anything");
        let start = Instant::now();
        let _ = read(body.as_bytes());
        let took = start.elapsed();
        assert!(took < Duration::from_millis(250), "{name} took {took:?}");
    }
}

fn accepted(body: &[u8]) -> Unverified<shared::protocol::v2::xml::Fields<'_>> {
    read(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

fn refusal(body: &[u8]) -> Option<XmlError> {
    read(body).err()
}

fn value(body: &str, name: &str) -> String {
    accepted(body.as_bytes()).claimed(name).unwrap_or_default().to_owned()
}
