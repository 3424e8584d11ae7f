//! Tests of the XML walk.

use super::super::edit::{Edit, apply};
use super::*;
use cordon_policy::XmlSelector;
use proptest::prelude::*;

const PAN: &str = "4111111111111111";

fn selectors(paths: &[&str]) -> Selectors {
    Selectors::new(paths.iter().map(|path| XmlSelector::parse(path).unwrap().steps().to_vec()).enumerate())
}

fn found(body: &str, paths: &[&str]) -> Result<Vec<(usize, String, String)>, BodyError> {
    let declared = selectors(paths);
    let leaves = locate(body, &declared, &mut |_| ())?;
    let read = |leaf: &Leaf<'_>| {
        (leaf.field, body.get(leaf.span.clone()).unwrap().to_owned(), leaf.text.expose().to_owned())
    };
    Ok(leaves.iter().map(read).collect())
}

fn heard(body: &str, paths: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    locate(body, &selectors(paths), &mut |text| all.push(text.to_owned())).unwrap();
    all
}

#[test]
fn elements_and_attributes_are_found_by_path() {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- x --><o xmlns:x='u'>\n <card id = 'a&#52;' x:no=\"4111\">\
                <x:number>4111 1111</x:number><e/></card><card><number> 5</number></card></o>\n";
    let all = found(body, &["/o/card/number", "//@no", "/o/card/@id", "//e", "/number"]).unwrap();
    let wanted = [
        (2, "a&#52;".to_owned(), "a4".to_owned()),
        (1, "4111".to_owned(), "4111".to_owned()),
        (0, "4111 1111".to_owned(), "4111 1111".to_owned()),
        (0, " 5".to_owned(), " 5".to_owned()),
    ];
    assert_eq!(all, wanted);
    assert_eq!(found("<number>1</number>", &["/number"]).unwrap().len(), 1);
    assert_eq!(found("<a><b>1</b></a>", &["/*/b"]).unwrap().len(), 1);
}

#[test]
fn the_text_of_an_element_is_what_a_reader_makes_of_it() {
    for (content, text) in [
        ("41&#49;1", "4111"),
        ("&#x34;111", "4111"),
        ("<![CDATA[4111]]>", "4111"),
        ("41<![CDATA[11]]>", "4111"),
        ("&lt;4&amp;&gt;&quot;&apos;", "<4&>\"'"),
        ("\u{ff14}111", "\u{ff14}111"),
    ] {
        let body = format!("<n>{content}</n>");
        assert_eq!(found(&body, &["/n"]).unwrap(), [(0, content.to_owned(), text.to_owned())]);
        assert_eq!(heard(&body, &[]), [text], "{content}");
    }
    assert_eq!(found("<n></n>", &["/n"]).unwrap(), []);
    assert_eq!(found("<n/>", &["/n"]).unwrap(), []);
}

#[test]
fn pieces_beside_a_comment_an_instruction_or_a_child_are_joined_to_be_heard() {
    assert_eq!(heard("<n>4111<!-- -->1111</n>", &[]), ["41111111"]);
    assert_eq!(heard("<n>4111<?x y?>1111</n>", &[]), ["41111111"]);
    assert_eq!(heard("<n>4111<b>x</b>1111</n>", &[]), ["41111111"]);
    assert_eq!(heard("<n a='&#52;1'>plain<b>4111</b></n>", &[]), ["41"]);
}

#[test]
fn a_declared_element_that_holds_more_than_text_is_refused() {
    for content in ["<b/>", "4<b/>", "4<!-- -->1", "<?x?>4", "<a>4111</a>"] {
        assert_eq!(found(&format!("<n>{content}</n>"), &["/n"]), Err(BodyError::Field(0)), "{content}");
    }
    assert_eq!(found("<a><b>1</b></a>", &["/a/b", "//b"]), Err(BodyError::Field(0)));
}

#[test]
fn what_means_more_than_it_says_is_refused() {
    for body in [
        "<!DOCTYPE a><a/>",
        "<!DOCTYPE a [<!ENTITY x \"4111\">]><a>&x;</a>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
        "<a>&x;</a>",
        "<a b='&x;'/>",
        "<a>&#xZ;</a>",
        "<?xml version=\"1.1\"?><a/>",
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?><a/>",
        "<?xml version=\"1.0\" encoding=\"cp037\"?><a/>",
        "<?xml version=\"1.0\" encoding=\"UTF-7\"?><a/>",
    ] {
        assert_eq!(found(body, &[]), Err(BodyError::Uninspectable), "{body}");
    }
}

#[test]
fn what_is_not_well_formed_is_refused() {
    let deep = format!("{}{}", "<a>".repeat(65), "</a>".repeat(65));
    for body in [
        "",
        " ",
        "x",
        "<a>",
        "</a>",
        "<a></b>",
        "<a/><b/>",
        "<a/>x",
        "x<a/>",
        "<a/>&amp;",
        "<a b=1/>",
        "<a b/>",
        "<a b='1' b='2'/>",
        "<a b='<'/>",
        "<a>]]></a>",
        "<a>&</a>",
        "<a>\u{1}</a>",
        "<a><!-- a -- b --></a>",
        "<a><![CDATA[x</a>",
        "<!-- x",
        "<a/><![CDATA[x]]>",
        " <?xml version=\"1.0\"?><a/>",
        "<a><?xml version=\"1.0\"?></a>",
        "<a",
        "<a>4111<",
        &deep,
    ] {
        assert!(found(body, &[]).is_err(), "{body}");
    }
    assert!(found(&format!("{}{}", "<a>".repeat(64), "</a>".repeat(64)), &[]).is_ok());
}

#[test]
fn values_are_attributes_and_texts() {
    let body = "<a x='1'><b>2</b><c>3<d/></c><e><![CDATA[4]]></e></a>";
    let all = values(body).unwrap();
    assert_eq!(all.iter().map(|leaf| leaf.text.expose()).collect::<Vec<_>>(), ["1", "2", "4"]);
}

proptest! {
    #[test]
    fn a_written_document_is_read_back_and_edited_in_place(
        texts in prop::collection::vec("[4a <&>'\"\u{e9}]{1,8}", 1..5),
    ) {
        let escape = |text: &String| quick_xml::escape::escape(text).into_owned();
        let inner: String = texts.iter().map(|text| format!("<n a=\"{0}\">{0}</n>", escape(text))).collect();
        let body = format!("<r>{inner}</r>");
        let leaves = locate(&body, &selectors(&["/r/n", "//@a"]), &mut |_| ()).unwrap();
        let wanted: Vec<_> = texts.iter().flat_map(|text| [text, text]).collect();
        prop_assert_eq!(leaves.iter().map(|leaf| leaf.text.expose()).collect::<Vec<_>>(), wanted);
        let edits: Vec<_> = leaves
            .iter()
            .map(|leaf| Edit {
                span: leaf.span.clone(),
                text: Some(Zeroizing::new(format!("<{PAN}\">"))),
                writing: leaf.writing,
            })
            .collect();
        let edited = apply(body.as_bytes(), &edits).unwrap();
        let after = std::str::from_utf8(&edited.bytes).unwrap();
        let again = locate(after, &selectors(&["/r/n", "//@a"]), &mut |_| ()).unwrap();
        prop_assert_eq!(again.len(), leaves.len());
        let wanted = format!("<{PAN}\">");
        prop_assert!(again.iter().all(|leaf| leaf.text.expose() == wanted));
    }

    #[test]
    fn any_text_is_read_or_refused(body in "[<>/a&;#4!'= \\-\\[\\]?]{0,24}") {
        if let Ok(leaves) = locate(&body, &selectors(&["//a", "//@a"]), &mut |_| ()) {
            for leaf in leaves {
                prop_assert!(body.get(leaf.span).is_some());
            }
        }
    }
}
