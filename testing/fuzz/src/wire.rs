//! v2 callbacks taken apart without care and written anew, in every way that XML allows: a mutated callback becomes one
//! that WeChat Pay might have signed, and the strict reader has to see just the fields that were written.

use std::collections::BTreeMap;

use secrecy::SecretString;
use shared::protocol::keys::SignType;
use shared::protocol::v2::signature::sign_fields;
use shared::protocol::v2::xml::FIELDS_MAX;

use crate::keys::MERCHANT;

/// Values by name: sorted, each once.
pub type Fields = BTreeMap<String, String>;

/// What a careless reader takes for the fields of `text`, down to what a callback may have at all. Leaves room for
/// those that [`signed`] adds.
pub fn careless_fields(text: &str) -> Fields {
    let mut fields: Vec<(&str, String)> = Vec::new();
    // The first part stands before the root, the second is the root.
    for part in text.split('<').skip(2) {
        if let Some(cdata) = part.strip_prefix("![CDATA[") {
            let value = cdata.split("]]>").next().unwrap_or_default();
            fields.last_mut().into_iter().for_each(|(_, before)| before.push_str(value));
        } else if let Some((name, value)) = part.split_once('>')
            && is_name(name)
        {
            fields.push((name, unescaped(value)));
        }
    }
    fields.truncate(FIELDS_MAX - 3);
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.replace(is_forbidden, ""))).collect()
}

/// The fields for [`MERCHANT`], signed under this key.
pub fn signed(mut fields: Fields, key: &str, sign_type: SignType, names_sign_type: bool) -> Fields {
    fields.insert("mch_id".to_owned(), MERCHANT.to_owned());
    fields.remove("sign_type");
    if names_sign_type {
        fields.insert("sign_type".to_owned(), sign_type.name().to_owned());
    }
    let of_fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let sign = sign_fields(of_fields, &SecretString::from(key), sign_type);
    fields.insert("sign".to_owned(), sign);
    fields
}

/// The fields as XML. `style` chooses how each value is written; whichever it is, the value is the same.
pub fn write(root: &str, fields: &Fields, style: usize) -> String {
    let mut xml = format!("<{root}>");
    for (place, (name, value)) in fields.iter().enumerate() {
        let value = match (place + style) % 5 {
            0 if value.is_empty() => {
                xml.push_str(&format!("<{name} />\r\n"));
                continue;
            }
            0 => cdata(value),
            1 => escaped(value),
            2 => value.chars().map(|character| format!("&#x{:X};", u32::from(character))).collect(),
            3 => value.chars().map(|character| format!("&#{};", u32::from(character))).collect(),
            _ => {
                let half = value.floor_char_boundary(value.len() / 2);
                format!("<![CDATA[]]>{}{}", cdata(&value[..half]), escaped(&value[half..]))
            }
        };
        xml.push_str(&format!("<{name}>{value}</{name}>\n"));
    }
    xml.push_str(&format!("</{root}>"));
    xml
}

fn cdata(value: &str) -> String {
    format!("<![CDATA[{}]]>", value.replace("]]>", "]]]]><![CDATA[>"))
}

fn escaped(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn unescaped(value: &str) -> String {
    value.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// What no XML 1.0 document may hold.
fn is_forbidden(character: char) -> bool {
    (character < ' ' && !"\t\n\r".contains(character)) || "\u{fffe}\u{ffff}".contains(character)
}
