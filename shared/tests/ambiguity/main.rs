//! What a v2 text proves: of all the ways to cut a signed text into fields, only those that mean what WeChat Pay signed get
//! by without an operator. The attacks are real: each forged body is authentic.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod cuts;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kit::callback::{Callback, sub_order};
use kit::merchants::{KEY, MERCHANT};
use proptest::prelude::*;
use secrecy::SecretString;
use shared::merchants_file::{self, Program};
use shared::protocol::keys::{KeyRing, Merchant, SignType};
use shared::protocol::v2::payment::{authenticate, decode};
use shared::protocol::v2::signature::sign_fields;
use shared::protocol::v2::signed::AmbiguousSignature;
use shared::protocol::v2::xml;
use shared::protocol::{DecodeError, Part};

use cuts::{boundaries, cut_at_names, every_cut, some_cut};

/// Names and values, sorted as the signature wants them.
type Fields = BTreeMap<String, String>;

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let text = format!("[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [\"{KEY}\"]");
    merchants_file::parse(&text, Program::Worker).unwrap()
});

/// A prepared `attach`, how many bytes it may cost, what the genuine payment differs in, and what the forged one says.
struct Attack {
    attach: &'static str,
    bytes: usize,
    genuine: &'static [(&'static str, &'static str)],
    names: &'static [&'static str],
    forged: &'static [(&'static str, &'static str)],
}

const ATTACKS: [Attack; 4] = [
    // Another order of the same sum.
    Attack {
        attach: "x&mch_id=1900000109&out_trade_no=VICTIM-1&p=",
        bytes: 49,
        genuine: &[],
        names: &[
            "attach",
            "mch_id",
            "out_trade_no",
            "p",
            "result_code",
            "return_code",
            "time_end",
            "total_fee",
            "trade_type",
            "transaction_id",
        ],
        forged: &[("out_trade_no", "VICTIM-1"), ("total_fee", "1999")],
    },
    // Another currency.
    Attack {
        attach: "x&fee_type=USD&mch_id=1900000109&out_trade_no=VICTIM-1&p=",
        bytes: 62,
        genuine: &[("fee_type", "KRW"), ("total_fee", "5000")],
        names: &[
            "attach",
            "fee_type",
            "mch_id",
            "out_trade_no",
            "p",
            "result_code",
            "return_code",
            "time_end",
            "total_fee",
            "trade_type",
            "transaction_id",
        ],
        forged: &[("out_trade_no", "VICTIM-1"), ("total_fee", "5000"), ("fee_type", "USD")],
    },
    // Another shop of the institution.
    Attack {
        attach: "x&mch_id=1900000109&out_trade_no=V&result_code=SUCCESS&return_code=SUCCESS&sub_mch_id=1900000300&t=",
        bytes: 107,
        genuine: &[("sub_mch_id", "1900000301")],
        names: &[
            "attach",
            "mch_id",
            "out_trade_no",
            "result_code",
            "return_code",
            "sub_mch_id",
            "t",
            "time_end",
            "total_fee",
            "trade_type",
            "transaction_id",
        ],
        forged: &[("out_trade_no", "V"), ("sub_mch_id", "1900000300"), ("total_fee", "1999")],
    },
    // Another sum.
    Attack {
        attach: "x&mch_id=1900000109&out_trade_no=VICTIM-1&result_code=SUCCESS&return_code=SUCCESS\
                 &time_end=20261123101530&total_fee=99999&tr=",
        bytes: 125,
        genuine: &[("total_fee", "1")],
        names: &[
            "attach",
            "mch_id",
            "out_trade_no",
            "result_code",
            "return_code",
            "time_end",
            "total_fee",
            "tr",
            "transaction_id",
        ],
        forged: &[("out_trade_no", "VICTIM-1"), ("total_fee", "99999")],
    },
];

impl Attack {
    fn payment(&self) -> Fields {
        let mut fields = payment(self.attach);
        fields.extend(self.genuine.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        fields
    }
}

#[test]
fn the_payment_that_was_prepared_and_the_one_that_is_cut_out_of_it_are_both_held() {
    for attack in &ATTACKS {
        assert!(attack.attach.len() <= attack.bytes, "{} bytes: {}", attack.attach.len(), attack.attach);
        let genuine = attack.payment();
        let held = unambiguous(&genuine, &genuine).unwrap_err();
        assert_eq!(held.field, "attach", "{held}");

        let text = text_of(&genuine);
        let forged = cut_at_names(&text, attack.names);
        assert_eq!(text_of(&forged), text, "nothing but the cuts differs");
        for (name, value) in attack.forged {
            assert_eq!(forged[*name], *value);
        }
        let held = unambiguous(&forged, &genuine).unwrap_err();
        assert_eq!(forged[&held.field].matches(&format!("&{}=", held.name)).count(), 1, "{held}");
    }
}

#[test]
fn an_operator_may_accept_a_held_refund() {
    let genuine = ATTACKS[0].payment();
    let body = signed(&genuine, &genuine);
    let authentic = authenticate(body.as_bytes(), &RING).unwrap();
    let ambiguity = authentic.content.ambiguity().unwrap();
    assert_eq!(ambiguity, AmbiguousSignature { field: "attach".to_owned(), name: "mch_id".to_owned() });
    let fields = authentic.content.accepted_by_operator();
    assert_eq!(fields.get("out_trade_no"), Some("MINE"));
    assert!(matches!(decode(&fields, authentic.merchant).unwrap().as_slice(), [Ok(_)]));
}

#[test]
fn no_cut_of_a_prepared_text_gets_by() {
    for attack in &ATTACKS {
        let genuine = attack.payment();
        let (text, mut cuts) = (text_of(&genuine), Vec::new());
        every_cut(&text, &boundaries(&text), &Fields::new(), 0, &mut cuts);
        assert!(cuts.len() > 2_000 && cuts.contains(&genuine), "{} cuts", cuts.len());
        for cut in cuts {
            assert!(unambiguous(&cut, &genuine).is_err(), "{cut:?}");
        }
    }
}

#[test]
fn any_name_of_v2_is_held_wherever_it_is_read_in_a_value() {
    let names = [
        "bank_type",
        "cash_fee",
        "cash_fee_type",
        "device_info",
        "fee_type",
        "mch_id",
        "sub_mch_id",
        "total_fee",
        "sign",
        "key",
        "coupon_fee",
        "coupon_id_0",
        "coupon_refund_id_0_1",
        "combine_mch_id",
        "sub_order_list",
        "trade_state",
        "refund_fee_0",
        "settlement_total_fee",
        "promotion_detail",
        "contract_id",
        "rate_value",
        "nonce_str",
        "sign_type",
        "appid",
        "attach",
    ];
    for name in names {
        for value in [format!("&{name}="), format!("a=1&{name}=2"), format!("&&{name}=&"), format!("中&b&{name}=x&c=d")]
        {
            let payment = payment(&value);
            let held = unambiguous(&payment, &payment).unwrap_err();
            assert_eq!((held.field.as_str(), held.name.as_str()), ("attach", name), "{value}");
            let of_another = Callback::payment("o").field("transaction_id", &value).body();
            assert!(authenticate(&of_another, &RING).unwrap().content.unambiguous().is_err(), "{value}");
        }
    }
    let list = [sub_order(MERCHANT, "order-1&total_fee=1")];
    let combined = Callback::combined("c-1", &list).body();
    let held = authenticate(&combined, &RING).unwrap().content.unambiguous().unwrap_err();
    assert_eq!((held.field.as_str(), held.name.as_str()), ("sub_order_list", "total_fee"));
}

#[test]
fn usual_texts_in_attach_are_not_ambiguous() {
    let values = [
        "a=1&b=2",
        "utm_source=x&id=5",
        "type=vip&uid=7&order_id=12",
        "https://shop.example/?page=1&from=wechat&token=a.b-c",
        "Tom & Jerry",
        "R&D=1",
        "a&b",
        "mch_id=1&x=2",
        "total_fee",
        "x&total_fee",
        "x&total_fee &y=1",
        "x& total_fee=1",
        "x&=1&==",
        "x&TOTAL_FEE=1&totalFee=1",
        "{\"a\":\"b&c=d\"}",
        "&amp;mch_id=1",
        "深圳&分店=1",
    ];
    for value in values {
        let payment = payment(value);
        assert_eq!(unambiguous(&payment, &payment).err(), None, "{value}");
    }
}

#[test]
fn a_currency_that_may_have_been_the_end_of_device_info_needs_backing() {
    let genuine = Callback::payment("o").field("device_info", "x&fee_type=USD");
    let genuine_fields = |callback: &Callback| -> Fields {
        let body = callback.body();
        let fields = authenticate(&body, &RING).unwrap().content.accepted_by_operator();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        fields.iter().filter(|(name, _)| *name != "sign").map(owned).collect()
    };
    let genuine = genuine_fields(&genuine);
    let mut forged = genuine.clone();
    forged.extend([("device_info".to_owned(), "x".to_owned()), ("fee_type".to_owned(), "USD".to_owned())]);
    let held = unambiguous(&forged, &genuine).unwrap_err();
    assert_eq!((held.field.as_str(), held.name.as_str()), ("device_info", "fee_type"));

    // What real payments in another currency say besides, or domestic ones.
    let of_device = |fee_type: &str| Callback::payment("o").field("device_info", "x").field("fee_type", fee_type);
    for callback in [
        of_device("CNY"),
        of_device("USD").field("rate_value", "717420000").field("cash_fee_type", "CNY"),
        of_device("USD").field("rate", "717420000"),
        of_device("HKD").field("cash_fee_type", "HKD"),
        Callback::payment("o").field("fee_type", "USD"),
    ] {
        let fields = genuine_fields(&callback);
        assert_eq!(unambiguous(&fields, &fields).err(), None, "{callback:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_cut_of_a_signed_text_means_the_same_or_is_held(
        attach in prepared(), device_info in prepared(), has_device in any::<bool>(), names_currency in any::<bool>(),
        chosen in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let mut genuine = payment(&attach);
        if has_device {
            genuine.insert("device_info".to_owned(), device_info);
        }
        if !names_currency {
            genuine.remove("fee_type");
        }
        let text = text_of(&genuine);
        let cut = some_cut(&text, &chosen);
        prop_assert_eq!(text_of(&cut), text);
        if unambiguous(&cut, &genuine).is_ok() {
            prop_assert_eq!(said(&cut, &genuine), said(&genuine, &genuine), "{:?}", cut);
        }
    }
}

/// A text that somebody prepared with names of fields, or did not.
fn prepared() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "auth_code",
        "bank_type",
        "cash_fee",
        "device_info",
        "fee_type",
        "goods_tag",
        "mch_id",
        "out_trade_no",
        "p",
        "result_code",
        "return_code",
        "sub_mch_id",
        "t",
        "time_end",
        "total_fee",
        "tr",
        "trade_state",
        "transaction_id",
        "uid",
        "b",
        "zz",
    ]);
    let value = prop::sample::select(vec!["1", "x", "", "SUCCESS", "USD", MERCHANT, "20261123101530", "FAIL"]);
    let pieces = proptest::collection::vec((name, value), 0..6);
    pieces.prop_map(|pieces| {
        let pieces: Vec<String> = pieces.iter().map(|(name, value)| format!("&{name}={value}")).collect();
        format!("x{}", pieces.concat())
    })
}

/// A successful payment of 1999 fen for the order `MINE`.
fn payment(attach: &str) -> Fields {
    [
        ("appid", "wxd678efh567hg6787"),
        ("attach", attach),
        ("bank_type", "CMC"),
        ("cash_fee", "1500"),
        ("fee_type", "CNY"),
        ("mch_id", MERCHANT),
        ("nonce_str", "n"),
        ("out_trade_no", "MINE"),
        ("result_code", "SUCCESS"),
        ("return_code", "SUCCESS"),
        ("time_end", "20261123101530"),
        ("total_fee", "1999"),
        ("trade_type", "JSAPI"),
        ("transaction_id", "4200000001"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// What is signed, but for the key.
fn text_of(fields: &Fields) -> String {
    let pairs = fields.iter().filter(|(_, value)| !value.is_empty());
    pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// `cut`, under the signature that WeChat Pay made for `genuine`.
fn signed(cut: &Fields, genuine: &Fields) -> String {
    let fields = genuine.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let sign = sign_fields(fields, &SecretString::from(KEY), SignType::Md5);
    let element = |(name, value): (&String, &String)| format!("<{name}><![CDATA[{value}]]></{name}>");
    format!("<xml>{}<sign>{sign}</sign></xml>", cut.iter().map(element).collect::<Vec<_>>().concat())
}

/// What the signature proves of `cut`, whichever merchant it names.
#[track_caller]
fn unambiguous(cut: &Fields, genuine: &Fields) -> Result<(), AmbiguousSignature> {
    let body = signed(cut, genuine);
    xml::read(body.as_bytes()).unwrap().verify(merchant()).unwrap().content.unambiguous().map(|_| ())
}

fn said(cut: &Fields, genuine: &Fields) -> Result<Vec<Part>, DecodeError> {
    let body = signed(cut, genuine);
    let fields = xml::read(body.as_bytes()).unwrap().verify(merchant()).unwrap().content.accepted_by_operator();
    decode(&fields, merchant())
}

fn merchant() -> &'static Merchant {
    RING.merchant(MERCHANT).unwrap()
}
